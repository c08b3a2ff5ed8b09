//! The server's side of a container's first process (`init/`): programs are started through it, without the engine.
//!
//! Knows no engine. Whoever launches a container delivers the init ([`binary`], [`Rooms`]), and hands over what it is
//! reached by. Everything that comes from a container is hostile; see `docs/init-protocol.md`.
//!
//! On the engine's own machine the init connects to a socket of ours. Programs' pipes and terminals are made by us and
//! given to the init: what we read and write is never a container's to change or to block, and nothing lies in between.

mod binary;
mod handshake;
mod output;
mod process;
mod processes;
mod room;
mod stdio;
mod wires;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_init as protocol;
use coracle_init::{Start, ToInit, Token};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use binary::Architecture;
pub use room::{Room, Rooms};

use self::processes::Processes;
use self::stdio::{Devices, Stdio};
use self::wires::{Outbox, Parcel};
use super::{EngineError, Process, ProcessSpec, Program};

/// From a program's start until the init says that it has begun. A busy machine, or a container that is paused.
const START_DEADLINE: Duration = Duration::from_secs(30);

const START: &str = "start the program";

/// An init that answers.
#[derive(Debug)]
pub struct Init {
    outbox: Outbox,
    processes: Arc<Processes>,
    devices: Devices,
    /// Why it is over, once it is.
    over: watch::Receiver<Option<String>>,
    room: Mutex<Room>,
    _tasks: DropGuard,
}

/// What an init is told when it says hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long it lives on without a server; `None` for ever.
    pub orphan_timeout: Option<Duration>,
    /// What it has to show to the next server.
    pub token: Token,
}

impl Init {
    /// Greets the init that connects in `room`. Its tasks run on `tasks` until this is dropped.
    ///
    /// # Errors
    /// What it did wrong. Not before a deadline is set around this: it may never come.
    pub async fn meet(mut room: Room, terms: &Terms, tasks: &TaskTracker) -> Result<Self, EngineError> {
        let met = handshake::meet(&mut room, terms).await;
        let met = met.map_err(|error| EngineError::Unsupported {
            action: "talk to the container's first process",
            reason: error.to_string(),
        })?;
        let processes = Arc::new(Processes::default());
        let stop = CancellationToken::new();
        let (over_sender, over) = watch::channel(None);
        let (outbox, queue) = wires::outbox();
        let work = wires::run(met.frames, met.socket, queue, Arc::clone(&processes), outbox.clone());
        tasks.spawn({
            let (stop, processes) = (stop.clone(), Arc::clone(&processes));
            async move {
                let reason = tokio::select! {
                    reason = work => reason,
                    () = stop.cancelled() => return,
                };
                processes.close(&reason);
                over_sender.send_replace(Some(reason));
            }
        });
        Ok(Self {
            outbox,
            processes,
            devices: met.devices,
            over,
            room: Mutex::new(room),
            _tasks: stop.drop_guard(),
        })
    }

    /// Starts a program.
    ///
    /// # Errors
    /// The init refuses, is gone, or does not answer.
    pub async fn exec(&self, spec: &ProcessSpec) -> Result<Process, EngineError> {
        let failed = |error: std::io::Error| EngineError::Failed {
            action: START,
            reason: format!("its streams could not be made: {error}"),
            is_answer: false,
        };
        let Stdio { stdin, output, terminal, theirs } = if spec.terminal.is_some() {
            stdio::terminal(&self.devices).map_err(failed)?
        } else {
            stdio::pipes(&self.devices).map_err(failed)?
        };
        let mut entry = self.processes.enter(&self.outbox).map_err(|reason| EngineError::Gone { reason })?;
        let exit = entry.exit();
        let start = Box::new(start_of(spec));
        let mut bytes = Vec::new();
        ToInit::Start { process: entry.number(), start }.encode(&mut bytes).map_err(|_| {
            EngineError::Unsupported { action: START, reason: "its arguments are too long".to_owned() }
        })?;
        let number = entry.number();
        let begun = async {
            self.outbox.send(Parcel { bytes, descriptors: theirs }).await?;
            entry.asked_for();
            entry.begun().await
        };
        match timeout(START_DEADLINE, begun).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(EngineError::TimedOut { action: START, after: START_DEADLINE }),
        }
        let control =
            process::InitProcess { number, outbox: self.outbox.clone(), exit: exit.clone(), terminal };
        Ok(Process { stdin, output: output.until_end(exit), control: Arc::new(control) })
    }

    /// Its container is removed, and nobody comes back to its room.
    pub fn forget_room(&self) {
        self.room.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until it cannot be talked to any more, and tells why. Cancel safe.
    pub async fn over(&self) -> String {
        let mut over = self.over.clone();
        let reason = over.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| "nobody talks to it any more".to_owned())
    }
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
