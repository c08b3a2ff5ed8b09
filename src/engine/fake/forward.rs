//! Sockets in the double: a test says who can be dialled ([`FakeEngine::serve`]), and calls at what listens
//! ([`FakeEngine::call`]).
//!
//! ```
//! # use coracle::engine::{Address, fake::{FakeEngine, Service}};
//! let engine = FakeEngine::new();
//! engine.serve(&Address::Tcp { host: "web".to_owned(), port: 80 }, Service::Echo);
//! // Its containers can dial that now, and nobody else. When something listens on port 8080 in one of them:
//! let caller = engine.call(&Address::Tcp { host: String::new(), port: 8080 });
//! assert!(caller.is_none(), "nothing does");
//! ```
//!
//! Services and listeners are those of all containers of an engine; what host a listener has is not looked at.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use futures::future::join;
use futures::stream::{StreamExt as _, unfold};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, copy, duplex, split};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::script::Call;
use super::{FakeContainer, FakeEngine, Step};
use crate::engine::{
    Address, Caller, DialSpec, EngineError, ExitStatus, ForwardError, ListenSpec, Listener, Output, Process,
    ProcessControl, Signal, TerminalSize,
};

/// What a socket, and a pipe to one, holds.
const SOCKET_BYTES: usize = 64 * 1024;

/// Pieces of output that wait for a reader.
const PIECES_MAX: usize = 16;

/// Callers that wait to be taken in; past it nobody gets through.
const CALLERS_MAX: usize = 16;

/// As long as a real one takes to give up.
const DIAL_DEADLINE: Duration = Duration::from_secs(30);

/// The first port that is given to whoever asks for any.
const PORT_MIN: u16 = 40_000;

/// The TCP port of the first display.
const DISPLAY_PORT_MIN: u16 = 6010;

/// Who is there when an address is dialled.
#[derive(Clone, Debug)]
pub enum Service {
    /// Says what it hears, and ends when that does.
    Echo,
    /// Hears nothing and says nothing, and never ends.
    Silent,
    /// Closes at once.
    Closes,
    /// Does not answer, until the one who calls gives up.
    BlackHole,
    /// As [`Service::Echo`], but not for [`DialSpec::spares_neighbours`].
    Neighbour,
    /// Too much is going on.
    Full,
    /// The test: whoever calls comes out of the channel.
    Played(mpsc::Sender<DuplexStream>),
}

#[derive(Debug, Default)]
pub(super) struct Sockets {
    services: HashMap<Address, Service>,
    listening: Vec<Listening>,
    last: u16,
}

/// Something that listens, as others see it.
#[derive(Debug)]
struct Listening {
    number: u16,
    at: Address,
    callers: mpsc::Sender<DuplexStream>,
}

/// Something that listens, as its owner sees it.
#[derive(Debug)]
struct Opened {
    number: u16,
    port: u16,
    path: String,
    waiting: mpsc::Receiver<DuplexStream>,
}

impl FakeEngine {
    /// Puts somebody at an address, which is compared as it is written. Before, whoever dials it is refused.
    pub fn serve(&self, at: &Address, service: Service) {
        self.state().sockets.services.insert(at.clone(), service);
    }

    /// Calls at what listens there, in whichever container, and is heard and answered through what comes back. `None` when
    /// nothing does, or too many have called already.
    #[must_use]
    pub fn call(&self, at: &Address) -> Option<DuplexStream> {
        let (ours, theirs) = duplex(SOCKET_BYTES);
        let state = self.state();
        let listening = state.sockets.listening.iter().find(|listening| same_place(&listening.at, at))?;
        listening.callers.try_send(theirs).ok().map(|()| ours)
    }

    /// Where something listens now.
    #[must_use]
    pub fn listening(&self) -> Vec<Address> {
        self.state().sockets.listening.iter().map(|listening| listening.at.clone()).collect()
    }
}

fn same_place(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp { port: one, .. }, Address::Tcp { port: other, .. }) => one == other,
        (one, other) => one == other,
    }
}

impl Sockets {
    fn open(&mut self, spec: &ListenSpec) -> Result<Opened, ForwardError> {
        self.last += 1;
        let number = self.last;
        let at = match spec {
            ListenSpec::At(Address::Tcp { host, port: 0 }) => {
                Address::Tcp { host: host.clone(), port: PORT_MIN + number }
            }
            ListenSpec::At(at) => at.clone(),
            ListenSpec::Agent => Address::Unix { path: format!("/tmp/coracle-{number}/agent") },
            ListenSpec::Display { .. } => {
                Address::Tcp { host: "localhost".to_owned(), port: DISPLAY_PORT_MIN + number }
            }
        };
        if self.listening.iter().any(|listening| same_place(&listening.at, &at)) {
            return Err(ForwardError::Unreachable(format!("{at}: address already in use")));
        }
        let port = if let Address::Tcp { port, .. } = at { port } else { 0 };
        let path = match spec {
            ListenSpec::Display { .. } => format!("/tmp/coracle-{number}/cookie"),
            _ => {
                if let Address::Unix { path } = &at {
                    path.clone()
                } else {
                    String::new()
                }
            }
        };
        let (callers, waiting) = mpsc::channel(CALLERS_MAX);
        self.listening.push(Listening { number, at, callers });
        Ok(Opened { number, port, path, waiting })
    }
}

impl FakeContainer {
    pub(super) async fn dial_out(&self, dial: &DialSpec) -> Result<Process, ForwardError> {
        self.engine.record(Call::Dial(self.id.clone(), dial.clone()));
        self.engine.step(Step::Dial).await?;
        self.check()?;
        let unreachable = |why| ForwardError::Unreachable(format!("{}: {why}", dial.to));
        let service = self.engine.state().sockets.services.get(&dial.to).cloned();
        let (ours, theirs) = duplex(SOCKET_BYTES);
        match service {
            None => {
                let socket = self.engine.call(&dial.to).ok_or_else(|| unreachable("connection refused"))?;
                return Ok(relay(&self.engine, socket, &self.gone));
            }
            Some(Service::BlackHole) => {
                tokio::time::sleep(DIAL_DEADLINE).await;
                return Err(unreachable("connection timed out"));
            }
            Some(Service::Neighbour) if dial.spares_neighbours => {
                return Err(ForwardError::Forbidden(format!("{}: not to be called", dial.to)));
            }
            Some(Service::Full) => return Err(ForwardError::Exhausted("too many".to_owned())),
            Some(Service::Closes) => drop(theirs),
            Some(Service::Played(callers)) => {
                callers.try_send(theirs).map_err(|_| unreachable("connection refused"))?;
            }
            Some(Service::Echo | Service::Neighbour) => self.play(async move {
                let (mut from, mut to) = split(theirs);
                if copy(&mut from, &mut to).await.is_ok() {
                    to.shutdown().await.unwrap_or_default();
                }
            }),
            Some(Service::Silent) => self.play(async move {
                let _theirs = theirs;
                std::future::pending::<()>().await;
            }),
        }
        Ok(relay(&self.engine, ours, &self.gone))
    }

    pub(super) async fn listen_at(&self, listen: &ListenSpec) -> Result<Box<dyn Listener>, ForwardError> {
        let at = match listen {
            ListenSpec::At(at) => at.to_string(),
            ListenSpec::Agent => "agent".to_owned(),
            ListenSpec::Display { protocol, .. } => format!("display {protocol}"),
        };
        self.engine.record(Call::Listen(self.id.clone(), at));
        self.engine.step(Step::Listen).await?;
        self.check()?;
        let opened = self.engine.state().sockets.open(listen)?;
        Ok(Box::new(FakeListener { opened, engine: self.engine.clone(), gone: self.gone.clone() }))
    }

    fn check(&self) -> Result<(), EngineError> {
        if self.gone.is_cancelled() { Err(gone()) } else { Ok(()) }
    }

    /// For as long as there is the container.
    fn play(&self, part: impl Future<Output = ()> + Send + 'static) {
        let gone = self.gone.clone();
        self.engine.0.tasks.spawn(async move { gone.run_until_cancelled(part).await.unwrap_or_default() });
    }
}

fn gone() -> EngineError {
    EngineError::Gone { reason: "it was removed".to_owned() }
}

#[derive(Debug)]
struct FakeListener {
    opened: Opened,
    engine: FakeEngine,
    gone: CancellationToken,
}

#[async_trait]
impl Listener for FakeListener {
    fn port(&self) -> u16 {
        self.opened.port
    }

    fn path(&self) -> &str {
        &self.opened.path
    }

    async fn accept(&mut self) -> Result<Caller, ForwardError> {
        let socket = tokio::select! {
            biased;
            () = self.gone.cancelled() => None,
            socket = self.opened.waiting.recv() => socket,
        };
        let process = relay(&self.engine, socket.ok_or_else(gone)?, &self.gone);
        let (host, port) =
            if self.opened.port == 0 { (String::new(), 0) } else { ("127.0.0.1".to_owned(), 50_000) };
        Ok(Caller { process, host, port })
    }
}

impl Drop for FakeListener {
    fn drop(&mut self) {
        let number = self.opened.number;
        self.engine.state().sockets.listening.retain(|listening| listening.number != number);
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Both sides had said all.
    Over,
    Killed,
    /// With its container.
    Gone,
}

/// What stands between a socket and two pipes.
fn relay(engine: &FakeEngine, socket: DuplexStream, gone: &CancellationToken) -> Process {
    let (stdin, mut pipe) = duplex(SOCKET_BYTES);
    let (pieces, output) = mpsc::channel(PIECES_MAX);
    let end = watch::Sender::new(None);
    let (killed, gone, ended) = (CancellationToken::new(), gone.clone(), end.clone());
    let control = FakeConnection { killed: killed.clone(), end };
    engine.0.tasks.spawn(async move {
        let (mut from, mut to) = split(socket);
        let upwards = async move {
            if copy(&mut pipe, &mut to).await.is_ok() {
                to.shutdown().await.unwrap_or_default();
            }
        };
        let downwards = async move {
            let mut buffer = BytesMut::with_capacity(SOCKET_BYTES);
            loop {
                let read = tokio::select! {
                    read = from.read_buf(&mut buffer) => read,
                    () = pieces.closed() => break,
                };
                if !matches!(read, Ok(1..)) {
                    break;
                }
                if pieces.send(Ok(Output::Stdout(buffer.split().freeze()))).await.is_err() {
                    break;
                }
                buffer.reserve(SOCKET_BYTES);
            }
        };
        let ending = tokio::select! {
            _ = join(upwards, downwards) => Ending::Over,
            () = killed.cancelled() => Ending::Killed,
            () = gone.cancelled() => Ending::Gone,
        };
        ended.send_replace(Some(ending));
    });
    Process {
        stdin: Box::pin(stdin),
        output: unfold(output, |mut output| async move { Some((output.recv().await?, output)) }).boxed(),
        control: Arc::new(control),
    }
}

#[derive(Debug)]
struct FakeConnection {
    killed: CancellationToken,
    end: watch::Sender<Option<Ending>>,
}

#[async_trait]
impl ProcessControl for FakeConnection {
    async fn resize(&self, _: TerminalSize) -> Result<(), EngineError> {
        Ok(())
    }

    async fn signal(&self, _: Signal) -> Result<(), EngineError> {
        self.killed.cancel();
        Ok(())
    }

    async fn ended(&self) {
        self.wait().await.map_or_else(drop, drop);
    }

    async fn wait(&self) -> Result<ExitStatus, EngineError> {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await.map(|ending| *ending) {
            Ok(Some(Ending::Over)) => Ok(ExitStatus::Exited(0)),
            Ok(Some(Ending::Killed)) => Ok(ExitStatus::Signaled(Signal::Kill)),
            Ok(Some(Ending::Gone) | None) | Err(_) => Err(gone()),
        }
    }
}

#[cfg(test)]
mod tests;
