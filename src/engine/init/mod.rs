//! The server's side of a container's first process (`init/`): programs are started through it, without the engine.
//!
//! Knows no engine. Whoever launches a container delivers the init ([`binary`], [`Rooms`]), and hands over what it is
//! reached by. Everything that comes from a container is hostile; see `docs/init-protocol.md`.
//!
//! On the engine's own machine the init connects to a socket of ours. Programs' pipes and terminals are made by us and
//! given to the init: what we read and write is never a container's to change or to block, and nothing lies in between.

mod binary;
mod forward;
mod framed;
mod handshake;
mod hello;
mod listeners;
mod output;
mod process;
mod processes;
mod room;
mod stdio;
mod wires;

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coracle_init as protocol;
use coracle_init::{Start, ToInit, Token};
use futures::stream::BoxStream;
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use binary::Architecture;
pub use room::{Room, Rooms};

use self::framed::Framed;
use self::handshake::{HandshakeError, Met};
use self::process::{InitProcess, Terminal};
use self::processes::{ExitReceiver, Processes, Refusal, gone};
use self::stdio::{Devices, Stdio};
use self::wires::{Frames, Outbox, Parcel};
use super::{EngineError, Process, ProcessSpec, Program};

/// From a program's start until the init says that it has begun. A busy machine, or a container that is paused.
const START_DEADLINE: Duration = Duration::from_secs(30);

const START: &str = "start the program";

/// How programs' streams get to us.
#[derive(Debug)]
enum Streams {
    /// By descriptors, which we make.
    Descriptors(Devices),
    /// In frames, to and from descriptors that the init makes.
    Frames,
}

/// An init that answers.
#[derive(Debug)]
pub struct Init {
    outbox: Outbox,
    processes: Arc<Processes>,
    streams: Arc<Streams>,
    /// Why it is over, once it is.
    over: watch::Receiver<Option<String>>,
    room: Mutex<Option<Room>>,
    _tasks: DropGuard,
}

impl Init {
    /// Greets the init that connects in `room`. Without a server it is to live on for `orphan_timeout`, or for ever. Its
    /// tasks run on `tasks` until this is dropped.
    ///
    /// # Errors
    /// What it did wrong. Not before a deadline is set around this: it may never come.
    pub async fn meet(
        mut room: Room,
        orphan_timeout: Option<Duration>,
        tasks: &TaskTracker,
    ) -> Result<Self, EngineError> {
        let met = handshake::meet(&mut room, orphan_timeout).await.map_err(|error| not_one(&error))?;
        Ok(Self::of(met, Some(room), tasks))
    }

    /// Greets the init at the end of a stream of bytes, where everything travels in frames. As [`Init::meet`].
    ///
    /// # Errors
    /// What it did wrong.
    pub async fn attach(
        said: BoxStream<'static, io::Result<Bytes>>,
        writer: Pin<Box<dyn AsyncWrite + Send>>,
        orphan_timeout: Option<Duration>,
        tasks: &TaskTracker,
    ) -> Result<Self, EngineError> {
        let met = handshake::attach(Frames::from_stream(said), writer, orphan_timeout).await;
        Ok(Self::of(met.map_err(|error| not_one(&error))?, None, tasks))
    }

    fn of(met: Met, room: Option<Room>, tasks: &TaskTracker) -> Self {
        let Met { frames, road, streams } = met;
        let processes = Processes::new(matches!(streams, Streams::Frames));
        let stop = CancellationToken::new();
        let (over_sender, over) = watch::channel(None);
        let (outbox, queue) = wires::outbox(tasks);
        let work = wires::run(frames, road, queue, Arc::clone(&processes), outbox.clone());
        tasks.spawn({
            let (stop, processes) = (stop.clone(), Arc::clone(&processes));
            async move {
                let reason = tokio::select! {
                    reason = work => reason,
                    () = stop.cancelled() => "nobody talks to it any more".to_owned(),
                };
                processes.close(&reason);
                over_sender.send_replace(Some(reason));
            }
        });
        let streams = Arc::new(streams);
        Self { outbox, processes, streams, over, room: Mutex::new(room), _tasks: stop.drop_guard() }
    }

    /// Starts a program.
    ///
    /// # Errors
    /// The init refuses, is gone, or does not answer.
    pub async fn exec(&self, spec: &ProcessSpec) -> Result<Process, EngineError> {
        match &*self.streams {
            Streams::Descriptors(devices) => self.exec_with_descriptors(spec, devices).await,
            Streams::Frames => self.exec_with_frames(spec).await,
        }
    }

    async fn exec_with_descriptors(
        &self,
        spec: &ProcessSpec,
        devices: &Devices,
    ) -> Result<Process, EngineError> {
        let made = if spec.terminal.is_some() { stdio::terminal(devices) } else { stdio::pipes(devices) };
        let Stdio { stdin, output, terminal, theirs } = made.map_err(|error| EngineError::Failed {
            action: START,
            reason: format!("its streams could not be made: {error}"),
            is_answer: false,
        })?;
        let (number, exit) = self.begin(spec, None, theirs).await?;
        let terminal = terminal.map_or(Terminal::Theirs, Terminal::Ours);
        let control = InitProcess { number, outbox: self.outbox.clone(), exit: exit.clone(), terminal };
        Ok(Process { stdin, output: output.until_end(exit), control: Arc::new(control) })
    }

    async fn exec_with_frames(&self, spec: &ProcessSpec) -> Result<Process, EngineError> {
        let is_terminal = spec.terminal.is_some();
        let framed = Framed::new(!is_terminal);
        let (number, exit) = self.begin(spec, Some(&framed), Vec::new()).await?;
        let control = InitProcess { number, outbox: self.outbox.clone(), exit, terminal: Terminal::Theirs };
        Ok(Process {
            stdin: Box::pin(Arc::clone(&framed).input(number, &self.outbox, is_terminal)),
            output: framed.output(number, self.outbox.clone()),
            control: Arc::new(control),
        })
    }

    /// Asks for a program and waits until it has begun.
    async fn begin(
        &self,
        spec: &ProcessSpec,
        framed: Option<&Arc<Framed>>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(u32, ExitReceiver), EngineError> {
        let begun = async {
            let entry = self.processes.enter(&self.outbox, framed).await;
            let mut entry = entry.map_err(gone)?;
            let (number, exit) = (entry.number(), entry.exit());
            let mut bytes = Vec::new();
            let start = ToInit::Start { process: number, start: Box::new(start_of(spec)) };
            start.encode(&mut bytes).map_err(|_| EngineError::Unsupported {
                action: START,
                reason: "its arguments and variables are too long".to_owned(),
            })?;
            self.outbox.send(Parcel { bytes, descriptors, place: None }).await?;
            entry.asked_for();
            match entry.begun().await {
                Some(Ok(_)) => Ok((number, exit)),
                Some(Err(Refusal { reason, .. })) => {
                    Err(EngineError::Failed { action: START, reason, is_answer: true })
                }
                None => Err(gone("its first process has ended".to_owned())),
            }
        };
        let timed_out = EngineError::TimedOut { action: START, after: START_DEADLINE };
        timeout(START_DEADLINE, begun).await.unwrap_or(Err(timed_out))
    }

    /// Its container is removed, and nobody comes back to its room.
    pub fn forget_room(&self) {
        if let Some(room) = self.room.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            room.clear();
        }
    }

    /// Whether it cannot be talked to any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.borrow().is_some()
    }

    /// Waits until it cannot be talked to any more, and tells why. Cancel safe.
    pub async fn over(&self) -> String {
        let mut over = self.over.clone();
        let reason = over.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| "nobody talks to it any more".to_owned())
    }
}

fn not_one(error: &HandshakeError) -> EngineError {
    EngineError::Unsupported { action: "talk to the container's first process", reason: error.to_string() }
}

/// What the init is asked for.
fn start_of(spec: &ProcessSpec) -> Start {
    let mut env: Vec<Vec<u8>> =
        spec.env.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect();
    if let Some(terminal) = &spec.terminal {
        env.push(format!("TERM={}", terminal.term).into_bytes());
    }
    Start {
        program: match &spec.program {
            Program::LoginShell => protocol::Program::LoginShell,
            Program::ShellCommand(command) => protocol::Program::ShellCommand(command.clone()),
            Program::Args(args) => {
                protocol::Program::Args(args.iter().map(|argument| argument.clone().into_bytes()).collect())
            }
        },
        env,
        cwd: Vec::new(),
        user: Vec::new(),
        username: spec.username.clone().into_bytes(),
        terminal: spec.terminal.as_ref().map(|terminal| protocol::Terminal {
            columns: terminal.size.columns(),
            rows: terminal.size.rows(),
            modes: terminal.modes.iter().map(|mode| (mode.opcode, mode.argument)).collect(),
        }),
    }
}
