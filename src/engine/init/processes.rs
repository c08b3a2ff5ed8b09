//! The programs and connections of one container, by the numbers that the init knows them by.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use coracle_init::{Exit, Failure, FromInit, Malformed, ToInit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot, watch};

use super::framed::Framed;
use super::listeners::Listening;
use super::wires::Outbox;
use crate::engine::{EngineError, ForwardError, Signal};

/// How a program ended, once it has. Closed without: nobody will ever know.
pub(super) type ExitReceiver = watch::Receiver<Option<Exit>>;

/// Programs that were asked for and not answered for. With each of them descriptors lie in the socket until the init
/// reads it, and there is a bound on those of all containers together.
const UNANSWERED_MAX: usize = 8;

/// Connections that were asked for and not answered for: whoever is called may take their time, and programs are not to wait
/// for it. Past it there is one more only when one of them is answered for.
const DIALS_PENDING_MAX: usize = 256;

/// Requests for connections on their way to the init, each with descriptors.
const CONNECTIONS_UNSENT_MAX: usize = 8;

/// So much of a reason is told to people.
const REASON_CHARACTERS_MAX: usize = 200;

pub(super) const UNKNOWN: Malformed = Malformed("a program was never asked for, or has ended");

/// As many as there are programs; the init bounds them, and so do sessions.
#[derive(Debug)]
pub(super) struct Processes {
    books: Mutex<Books>,
    /// Whether programs' streams travel in frames.
    in_frames: bool,
    unanswered: Arc<Semaphore>,
    dials: Arc<Semaphore>,
    unsent: Arc<Semaphore>,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) last: u32,
    running: HashMap<u32, Running>,
    /// Streams in frames of programs that have ended, for as long as somebody reads them.
    leaving: HashMap<u32, Weak<Framed>>,
    pub(super) listeners: HashMap<u32, Listening>,
    /// Why there will be no more.
    pub(super) closed: Option<String>,
}

/// What the init was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Program,
    Dial,
    Accept,
}

/// Where a caller has called from; empty for whatever is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Why something is not done, in the init's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) failure: Failure,
    pub(super) reason: String,
}

#[derive(Debug)]
struct Running {
    kind: Kind,
    /// Until it has begun.
    begun: Option<Unanswered>,
    exit: watch::Sender<Option<Exit>>,
    /// Its streams, where they are not descriptors.
    framed: Option<Weak<Framed>>,
    /// Whoever wanted it has gone before it began.
    is_unwanted: bool,
}

/// Whom to tell that it has, and its place among those that have not.
#[derive(Debug)]
struct Unanswered {
    sender: oneshot::Sender<Result<Origin, Refusal>>,
    _place: Option<OwnedSemaphorePermit>,
}

/// A program or a connection that is to begin. Dropped before it has, it is killed when it does.
#[derive(Debug)]
pub(super) struct Entry {
    number: u32,
    begun: oneshot::Receiver<Result<Origin, Refusal>>,
    exit: ExitReceiver,
    guard: Unwanted,
}

#[derive(Debug)]
struct Unwanted {
    processes: Arc<Processes>,
    outbox: Outbox,
    number: u32,
    standing: Standing,
}

/// How far a program's start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    NotAskedFor,
    AskedFor,
    Answered,
}

impl Processes {
    pub(super) fn new(in_frames: bool) -> Arc<Self> {
        let places = |count| Arc::new(Semaphore::new(count));
        let (unanswered, dials) = (places(UNANSWERED_MAX), places(DIALS_PENDING_MAX));
        let unsent = places(CONNECTIONS_UNSENT_MAX);
        Arc::new(Self { books: Mutex::default(), in_frames, unanswered, dials, unsent })
    }

    /// Makes room for one more program, once it is its turn. Cancel safe.
    pub(super) async fn enter(
        self: &Arc<Self>,
        outbox: &Outbox,
        framed: Option<&Arc<Framed>>,
    ) -> Result<Entry, String> {
        let place = Arc::clone(&self.unanswered).acquire_owned().await;
        self.enter_as(Kind::Program, place.ok(), outbox, framed)
    }

    /// A place among connections that are not answered for; nobody waits for one.
    pub(super) fn dial_place(&self) -> Result<OwnedSemaphorePermit, ForwardError> {
        Arc::clone(&self.dials).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => {
                ForwardError::Exhausted("too many connections are being made".to_owned())
            }
            TryAcquireError::Closed => gone(self.reason()).into(),
        })
    }

    /// A place among connections whose descriptors are not sent, once there is one. Cancel safe.
    pub(super) async fn unsent_place(&self) -> Result<OwnedSemaphorePermit, EngineError> {
        Arc::clone(&self.unsent).acquire_owned().await.map_err(|_| gone(self.reason()))
    }

    /// Makes room for one more.
    pub(super) fn enter_as(
        self: &Arc<Self>,
        kind: Kind,
        place: Option<OwnedSemaphorePermit>,
        outbox: &Outbox,
        framed: Option<&Arc<Framed>>,
    ) -> Result<Entry, String> {
        let mut books = self.books();
        let number = books.next()?;
        let (sender, begun) = oneshot::channel();
        let (exit_sender, exit) = watch::channel(None);
        let framed = framed.map(Arc::downgrade);
        let begun_sender = Some(Unanswered { sender, _place: place });
        let running = Running { kind, begun: begun_sender, exit: exit_sender, framed, is_unwanted: false };
        books.running.insert(number, running);
        let (processes, outbox, standing) = (Arc::clone(self), outbox.clone(), Standing::NotAskedFor);
        Ok(Entry { number, begun, exit, guard: Unwanted { processes, outbox, number, standing } })
    }

    /// Takes what the init says. What makes no sense changes nothing: all that waits is told of it in [`Self::close`].
    pub(super) fn take(&self, frame: &FromInit<'_>, outbox: &Outbox) -> Result<(), Malformed> {
        let mut books = self.books();
        match frame {
            FromInit::Output { .. } | FromInit::OutputEnd { .. } | FromInit::Credit { .. }
                if !self.in_frames =>
            {
                return Err(Malformed("streams do not travel in frames here"));
            }
            FromInit::Output { process, .. }
            | FromInit::OutputEnd { process, .. }
            | FromInit::Credit { process, .. }
                if *process > books.last =>
            {
                return Err(UNKNOWN);
            }
            FromInit::Started { process, .. } => {
                books.begin(*process, &[Kind::Program, Kind::Dial], Origin::default(), outbox)?;
            }
            FromInit::Accepted { process, host, port } => {
                let origin = Origin { host: address(host)?, port: *port };
                books.begin(*process, &[Kind::Accept], origin, outbox)?;
            }
            FromInit::Refused { process, reason } => {
                let reason = String::from_utf8_lossy(reason).into_owned();
                books.refuse(*process, &[Kind::Program], Refusal { failure: Failure::Other, reason })?;
            }
            FromInit::Failed { process, failure, reason } => {
                let refusal = Refusal { failure: *failure, reason: printable(reason) };
                if books.listeners.contains_key(process) {
                    books.refuse_listener(*process, refusal)?;
                } else {
                    books.refuse(*process, &[Kind::Dial, Kind::Accept], refusal)?;
                }
            }
            FromInit::Listening { listener, port, path } => {
                books.begin_listener(*listener, *port, path, outbox)?;
            }
            FromInit::Knock { listener } if books.running.contains_key(listener) => return Err(UNKNOWN),
            FromInit::Knock { listener } => books.knock(*listener)?,
            FromInit::Exited { process, exit } => {
                let running = books.running.get(process).ok_or(UNKNOWN)?;
                if running.begun.is_some() {
                    return Err(Malformed("a program ends before it has begun"));
                }
                let running = books.running.remove(process).ok_or(UNKNOWN)?;
                running.exit.send_replace(Some(*exit));
                if let Some(framed) = running.framed {
                    books.leaving.retain(|_, framed| framed.strong_count() > 0);
                    books.leaving.insert(*process, framed);
                }
            }
            FromInit::Hello { .. } => return Err(Malformed("a second hello")),
            FromInit::Output { process, stream, bytes } => {
                books.framed(*process).map_or(Ok(()), |framed| framed.arrive(*stream, bytes))?;
            }
            FromInit::OutputEnd { process, stream } => {
                books.framed(*process).map_or(Ok(()), |framed| framed.end(*stream))?;
            }
            FromInit::Credit { process, bytes } => {
                books.framed(*process).map_or(Ok(()), |framed| framed.grant(*bytes))?;
            }
        }
        Ok(())
    }

    /// The init is gone: nobody hears of any program any more.
    pub(super) fn close(&self, reason: &str) {
        let mut books = self.books();
        books.closed = Some(reason.to_owned());
        for places in [&self.unanswered, &self.dials, &self.unsent] {
            places.close();
        }
        books.listeners.clear();
        let running = books.running.drain().filter_map(|(_, running)| running.framed).collect::<Vec<_>>();
        let leaving = books.leaving.drain().map(|(_, framed)| framed).collect::<Vec<_>>();
        for framed in running.into_iter().chain(leaving).filter_map(|framed| framed.upgrade()) {
            framed.break_off(reason);
        }
    }

    /// Why there will be no more.
    fn reason(&self) -> String {
        self.books().closed.clone().unwrap_or_default()
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// The next number, of whatever it is.
    pub(super) fn next(&mut self) -> Result<u32, String> {
        if let Some(reason) = &self.closed {
            return Err(reason.clone());
        }
        self.last = self.last.wrapping_add(1);
        Ok(self.last)
    }

    /// What was asked for has begun.
    fn begin(
        &mut self,
        process: u32,
        fitting: &[Kind],
        origin: Origin,
        outbox: &Outbox,
    ) -> Result<(), Malformed> {
        let running = self.running.get_mut(&process).ok_or(UNKNOWN)?;
        let begun = running.answered(fitting)?;
        if running.is_unwanted {
            kill(outbox, process);
        }
        // Gone between the two: `Unwanted` then sees that it has begun.
        drop(begun.sender.send(Ok(origin)));
        Ok(())
    }

    /// What was asked for is not to be.
    fn refuse(&mut self, process: u32, fitting: &[Kind], refusal: Refusal) -> Result<(), Malformed> {
        let begun = self.running.get_mut(&process).ok_or(UNKNOWN)?.answered(fitting)?;
        self.running.remove(&process);
        drop(begun.sender.send(Err(refusal)));
        Ok(())
    }

    /// The streams of a program; `None` for one whose streams nobody has any more.
    fn framed(&self, process: u32) -> Option<Arc<Framed>> {
        let leaving = || self.leaving.get(&process);
        let framed = self.running.get(&process).map_or_else(leaving, |running| running.framed.as_ref());
        framed.and_then(Weak::upgrade)
    }
}

impl Running {
    /// Whom to tell of an answer that fits what was asked.
    fn answered(&mut self, fitting: &[Kind]) -> Result<Unanswered, Malformed> {
        if !fitting.contains(&self.kind) {
            return Err(Malformed("an answer is to what was not asked"));
        }
        self.begun.take().ok_or(Malformed("a program begins twice, or is refused that has begun"))
    }
}

impl Entry {
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn exit(&self) -> ExitReceiver {
        self.exit.clone()
    }

    /// The init has been asked for it.
    pub(super) fn asked_for(&mut self) {
        self.guard.standing = Standing::AskedFor;
    }

    /// Waits until it has begun; `None` when the init is gone. Cancel safe, and not to be asked again once it is answered.
    pub(super) async fn begun(&mut self) -> Option<Result<Origin, Refusal>> {
        let begun = (&mut self.begun).await;
        self.guard.standing = Standing::Answered;
        begun.ok()
    }
}

impl Drop for Unwanted {
    fn drop(&mut self) {
        let mut books = self.processes.books();
        match self.standing {
            Standing::Answered => return,
            Standing::NotAskedFor => return drop(books.running.remove(&self.number)),
            Standing::AskedFor => {}
        }
        if let Some(running) = books.running.get_mut(&self.number) {
            running.is_unwanted = running.begun.is_some();
            // A call that nobody answers may take long to begin.
            if !running.is_unwanted || running.kind == Kind::Dial {
                kill(&self.outbox, self.number);
            }
        }
    }
}

/// Nobody has its streams, so there is nothing that it could be asked to finish.
fn kill(outbox: &Outbox, process: u32) {
    outbox.promise(&ToInit::Signal { process, number: signal_number(Signal::Kill) });
}

pub(super) fn gone(reason: String) -> EngineError {
    EngineError::Gone { reason }
}

pub(super) fn signal_number(signal: Signal) -> u8 {
    u8::try_from(signal.number()).unwrap_or_default()
}

/// A caller's address, written as we would.
fn address(host: &[u8]) -> Result<String, Malformed> {
    if host.is_empty() {
        return Ok(String::new());
    }
    let host = std::str::from_utf8(host).ok().and_then(|host| host.parse::<IpAddr>().ok());
    host.map(|host| host.to_string()).ok_or(Malformed("a caller's address is none"))
}

/// What a container says, fit for anybody's terminal.
fn printable(reason: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(reason).chars().take(REASON_CHARACTERS_MAX) {
        if character == ' ' || character.is_ascii_graphic() || character.is_alphanumeric() {
            text.push(character);
        } else {
            text.extend(character.escape_default());
        }
    }
    text
}

#[cfg(test)]
mod tests;
