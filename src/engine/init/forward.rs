//! Sockets in a container, through its init: dialled, listened on, and those who call there taken in. Each connection is a
//! process in the container, that relays between its socket and what we have of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coracle_init as protocol;
use coracle_init::{Dial, Failure, Listen, ToInit};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::framed::Framed;
use super::listeners::{Expected, Hold, Place};
use super::process::{InitProcess, Terminal};
use super::processes::{Entry, Kind, Origin, Processes, Refusal, gone};
use super::stdio::{self, Pipes};
use super::wires::{Outbox, Parcel};
use super::{Init, Streams};
use crate::engine::{Address, Caller, DialSpec, EngineError, ForwardError, ListenSpec, Listener, Process};

/// For names to be looked up and for somebody to answer, which is up to them.
const DIAL_DEADLINE: Duration = Duration::from_secs(30);

/// From a request to the init's answer: its own deadline, and what it takes on a busy machine to tell of it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(35);

/// After somebody could not be taken in: they have gone, or the container has no room for them.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const DIAL: &str = "dial in the container";
const LISTEN: &str = "listen in the container";
const ACCEPT: &str = "take in a caller in the container";

impl Init {
    /// Dials somebody from inside the container.
    ///
    /// # Errors
    /// They cannot be had, or the init is gone or does not answer.
    pub async fn dial(&self, spec: &DialSpec) -> Result<Process, ForwardError> {
        let place = self.processes.dial_place()?;
        let within_ms = u32::try_from(DIAL_DEADLINE.as_millis()).unwrap_or(u32::MAX);
        let (to, spares_neighbours) = (address_of(&spec.to)?, spec.spares_neighbours);
        let dial = Box::new(Dial { to, within_ms, spares_neighbours });
        let asker = self.asker();
        let frame = |process| ToInit::Dial { process, dial };
        let mut connecting = asker.ask(Kind::Dial, Some(place), frame).await?;
        connecting.begun().await?;
        Ok(connecting.process(&asker.outbox))
    }

    /// Listens inside the container.
    ///
    /// # Errors
    /// It cannot be listened there, or the init is gone or does not answer.
    pub async fn listen(&self, spec: &ListenSpec) -> Result<Box<dyn Listener>, ForwardError> {
        let asker = self.asker();
        let listen = Box::new(listen_of(spec)?);
        let mut entry = self.processes.enter_listener(Expected::of(spec), &self.outbox)?;
        let listening = async {
            let room = self.outbox.reserve().await?;
            let listener = entry.hold.number();
            let bytes = encoded(&ToInit::Listen { listener, listen })?;
            entry.hold.asked_for();
            room.send(Parcel { bytes, ..Parcel::default() });
            let place = entry.begun().await.ok_or_else(|| gone("its first process has ended".to_owned()))?;
            Ok(place?)
        };
        let place = timeout(ANSWER_DEADLINE, listening).await.unwrap_or_else(|_| Err(late(LISTEN)))?;
        let (hold, knock) = (entry.hold, entry.knock);
        Ok(Box::new(InitListener { asker, place, knock, hold, accepting: None, rests_until: None }))
    }

    fn asker(&self) -> Asker {
        let (outbox, processes) = (self.outbox.clone(), Arc::clone(&self.processes));
        Asker { outbox, processes, streams: Arc::clone(&self.streams) }
    }
}

/// What it takes to ask for connections.
#[derive(Debug)]
struct Asker {
    outbox: Outbox,
    processes: Arc<Processes>,
    streams: Arc<Streams>,
}

/// A connection that was asked for.
#[derive(Debug)]
struct Connecting {
    entry: Entry,
    ends: Ends,
    until: Instant,
    action: &'static str,
}

/// Our ends of a connection.
enum Ends {
    Pipes(Pipes),
    Framed(Arc<Framed>),
}

impl std::fmt::Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Pipes(_)) { "Pipes" } else { "Framed" })
    }
}

impl Asker {
    /// Asks for a connection. Cancel safe: it has been asked for when this is over, and not before.
    async fn ask(
        &self,
        kind: Kind,
        place: Option<OwnedSemaphorePermit>,
        frame: impl FnOnce(u32) -> ToInit<'static>,
    ) -> Result<Connecting, ForwardError> {
        let (until, action) =
            (Instant::now() + ANSWER_DEADLINE, if kind == Kind::Dial { DIAL } else { ACCEPT });
        let sending = async {
            let unsent = self.processes.unsent_place().await?;
            Ok::<_, EngineError>((unsent, self.outbox.reserve().await?))
        };
        let (unsent, room) = timeout_at(until, sending).await.map_err(|_| late(action))??;
        let (ends, descriptors) = match &*self.streams {
            Streams::Descriptors(_) => {
                let mut made = stdio::connection().map_err(|error| {
                    ForwardError::Exhausted(format!("its streams could not be made: {error}"))
                })?;
                let theirs = std::mem::take(&mut made.theirs);
                (Ends::Pipes(made), theirs)
            }
            Streams::Frames => (Ends::Framed(Framed::new(false)), Vec::new()),
        };
        let framed = if let Ends::Framed(framed) = &ends { Some(framed) } else { None };
        let mut entry = self.processes.enter_as(kind, place, &self.outbox, framed).map_err(gone)?;
        let bytes = encoded(&frame(entry.number()))?;
        entry.asked_for();
        room.send(Parcel { bytes, descriptors, place: Some(unsent) });
        Ok(Connecting { entry, ends, until, action })
    }
}

impl Connecting {
    /// Waits until there is one. Cancel safe, and not to be asked again once it is answered.
    async fn begun(&mut self) -> Result<Origin, ForwardError> {
        match timeout_at(self.until, self.entry.begun()).await {
            Ok(Some(begun)) => Ok(begun?),
            Ok(None) => Err(gone("its first process has ended".to_owned()).into()),
            Err(_) => Err(late(self.action)),
        }
    }

    fn process(self, outbox: &Outbox) -> Process {
        let (number, exit) = (self.entry.number(), self.entry.exit());
        let (outbox, terminal) = (outbox.clone(), Terminal::Theirs);
        let control = InitProcess { number, outbox: outbox.clone(), exit: exit.clone(), terminal };
        let control = Arc::new(control);
        match self.ends {
            Ends::Pipes(Pipes { input, output, .. }) => {
                Process { stdin: Box::pin(input), output: output.until_end(exit), control }
            }
            Ends::Framed(framed) => Process {
                stdin: Box::pin(Arc::clone(&framed).input(number, &outbox, false)),
                output: framed.output(number, outbox),
                control,
            },
        }
    }
}

/// Something that listens in a container with an init of ours.
#[derive(Debug)]
struct InitListener {
    asker: Asker,
    place: Place,
    /// Whether somebody waits.
    knock: watch::Receiver<bool>,
    hold: Hold,
    /// Whoever is being taken in; here, so that nobody is lost when nobody waits for them for a while.
    accepting: Option<Connecting>,
    rests_until: Option<Instant>,
}

#[async_trait]
impl Listener for InitListener {
    fn port(&self) -> u16 {
        self.place.port
    }

    fn path(&self) -> &str {
        &self.place.path
    }

    async fn accept(&mut self) -> Result<Caller, ForwardError> {
        loop {
            if let Some(connecting) = &mut self.accepting {
                let begun = connecting.begun().await;
                let connecting = self.accepting.take();
                match (begun, connecting) {
                    (Ok(Origin { host, port }), Some(connecting)) => {
                        let process = connecting.process(&self.asker.outbox);
                        return Ok(Caller { process, host, port });
                    }
                    (Err(error @ ForwardError::Engine(_)), _) => return Err(error),
                    (Err(error), _) => {
                        tracing::debug!(%error, "a caller in a container was not taken in");
                        self.rests_until = Some(Instant::now() + ACCEPT_PAUSE);
                    }
                    (Ok(_), None) => {}
                }
            }
            if let Some(until) = self.rests_until {
                sleep_until(until).await;
                self.rests_until = None;
            }
            if self.knock.wait_for(|knock| *knock).await.is_err() {
                return Err(gone("its first process has ended".to_owned()).into());
            }
            let (hold, listener) = (&self.hold, self.hold.number());
            let accept = |process| {
                hold.answer_knock();
                ToInit::Accept { process, listener }
            };
            self.accepting = Some(self.asker.ask(Kind::Accept, None, accept).await?);
        }
    }
}

impl From<Refusal> for ForwardError {
    fn from(Refusal { failure, reason }: Refusal) -> Self {
        let reason = if reason.is_empty() { in_words(failure).to_owned() } else { reason };
        match failure {
            Failure::Forbidden => Self::Forbidden(reason),
            Failure::Exhausted => Self::Exhausted(reason),
            Failure::Unreachable | Failure::Unknown | Failure::TimedOut | Failure::InUse | Failure::Other => {
                Self::Unreachable(reason)
            }
        }
    }
}

fn in_words(failure: Failure) -> &'static str {
    match failure {
        Failure::Unreachable => "nobody answers there",
        Failure::Unknown => "there is no such name",
        Failure::TimedOut => "it took too long",
        Failure::Forbidden => "it is not to be called",
        Failure::InUse => "somebody listens there already",
        Failure::Exhausted => "too much is going on in the container",
        Failure::Other => "it failed",
    }
}

fn late(action: &'static str) -> ForwardError {
    EngineError::TimedOut { action, after: ANSWER_DEADLINE }.into()
}

fn encoded(frame: &ToInit<'_>) -> Result<Vec<u8>, ForwardError> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).map_err(|_| ForwardError::Unreachable("it is too long".to_owned()))?;
    Ok(bytes)
}

/// An address in the protocol's words. One that holds NUL is nobody's, and an init would not take it for a frame.
fn address_of(address: &Address) -> Result<protocol::Address, ForwardError> {
    let (Address::Tcp { host: text, .. } | Address::Unix { path: text }) = address;
    let bytes = without_nul(text)?;
    Ok(match address {
        Address::Tcp { port, .. } => protocol::Address::Tcp { host: bytes, port: *port },
        Address::Unix { .. } => protocol::Address::Unix { path: bytes },
    })
}

fn listen_of(spec: &ListenSpec) -> Result<Listen, ForwardError> {
    Ok(match spec {
        ListenSpec::At(address) => Listen::At(address_of(address)?),
        ListenSpec::Agent => Listen::Agent,
        ListenSpec::Display { protocol, cookie } => {
            Listen::Display { protocol: without_nul(protocol)?, cookie: cookie.expose().clone() }
        }
    })
}

fn without_nul(text: &str) -> Result<Vec<u8>, ForwardError> {
    if text.contains('\0') {
        return Err(ForwardError::Unreachable("no address holds NUL".to_owned()));
    }
    Ok(text.as_bytes().to_vec())
}
