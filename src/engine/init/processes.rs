//! The programs of one container, by the numbers that the init knows them by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use coracle_init::{Exit, FromInit, Malformed, ToInit};
use tokio::sync::{oneshot, watch};

use super::START;
use super::framed::Framed;
use super::wires::Outbox;
use crate::engine::{EngineError, Signal};

/// How a program ended, once it has. Closed without: nobody will ever know.
pub(super) type ExitReceiver = watch::Receiver<Option<Exit>>;

/// As many as there are programs; the init bounds them, and so do sessions.
#[derive(Debug, Default)]
pub(super) struct Processes {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    last: u32,
    running: HashMap<u32, Running>,
    /// Streams in frames of programs that have ended, for as long as somebody reads them.
    leaving: HashMap<u32, Weak<Framed>>,
    /// Why there will be no more.
    closed: Option<String>,
}

#[derive(Debug)]
struct Running {
    /// Until it has begun.
    begun: Option<oneshot::Sender<Result<(), String>>>,
    exit: watch::Sender<Option<Exit>>,
    /// Its streams, where they are not descriptors.
    framed: Option<Weak<Framed>>,
    /// Whoever wanted it has gone before it began.
    is_unwanted: bool,
}

/// A program that is to begin. Dropped before it has, the program is killed when it does.
#[derive(Debug)]
pub(super) struct Entry {
    number: u32,
    begun: oneshot::Receiver<Result<(), String>>,
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
    /// Makes room for one more.
    pub(super) fn enter(
        self: &Arc<Self>,
        outbox: &Outbox,
        framed: Option<&Arc<Framed>>,
    ) -> Result<Entry, String> {
        let mut books = self.books();
        if let Some(reason) = &books.closed {
            return Err(reason.clone());
        }
        books.last = books.last.wrapping_add(1);
        let number = books.last;
        let (begun_sender, begun) = oneshot::channel();
        let (exit_sender, exit) = watch::channel(None);
        let framed = framed.map(Arc::downgrade);
        let running = Running { begun: Some(begun_sender), exit: exit_sender, framed, is_unwanted: false };
        books.running.insert(number, running);
        let guard = Unwanted {
            processes: Arc::clone(self),
            outbox: outbox.clone(),
            number,
            standing: Standing::NotAskedFor,
        };
        Ok(Entry { number, begun, exit, guard })
    }

    /// Takes what the init says.
    pub(super) fn take(&self, frame: &FromInit<'_>, outbox: &Outbox) -> Result<(), Malformed> {
        const UNKNOWN: Malformed = Malformed("a program was never asked for, or has ended");
        let mut books = self.books();
        match frame {
            FromInit::Started { process, .. } => {
                let running = books.running.get_mut(process).ok_or(UNKNOWN)?;
                let begun = running.begun.take().ok_or(Malformed("a program begins twice"))?;
                if running.is_unwanted {
                    kill(outbox, *process);
                }
                // Gone between the two: `Unwanted` then sees that it has begun.
                drop(begun.send(Ok(())));
            }
            FromInit::Refused { process, reason } => {
                let running = books.running.remove(process).ok_or(UNKNOWN)?;
                let begun = running.begun.ok_or(Malformed("a program is refused that has begun"))?;
                drop(begun.send(Err(String::from_utf8_lossy(reason).into_owned())));
            }
            FromInit::Exited { process, exit } => {
                let running = books.running.remove(process).ok_or(UNKNOWN)?;
                if running.begun.is_some() {
                    return Err(Malformed("a program ends before it has begun"));
                }
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
                books.framed(*process).inspect(|framed| framed.end(*stream));
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
        let running = books.running.drain().filter_map(|(_, running)| running.framed).collect::<Vec<_>>();
        let leaving = books.leaving.drain().map(|(_, framed)| framed).collect::<Vec<_>>();
        for framed in running.into_iter().chain(leaving).filter_map(|framed| framed.upgrade()) {
            framed.break_off(reason);
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// The streams of a program; `None` for one whose streams nobody has any more.
    fn framed(&self, process: u32) -> Option<Arc<Framed>> {
        let leaving = || self.leaving.get(&process);
        let framed = self.running.get(&process).map_or_else(leaving, |running| running.framed.as_ref());
        framed.and_then(Weak::upgrade)
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

    /// Waits until it has begun.
    pub(super) async fn begun(mut self) -> Result<(), EngineError> {
        let begun = (&mut self.begun).await;
        self.guard.standing = Standing::Answered;
        match begun {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(EngineError::Failed { action: START, reason, is_answer: true }),
            Err(_) => Err(EngineError::Gone { reason: "its first process has ended".to_owned() }),
        }
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
            match running.begun {
                Some(_) => running.is_unwanted = true,
                None => kill(&self.outbox, self.number),
            }
        }
    }
}

/// Nobody has its streams, so there is nothing that it could be asked to finish.
fn kill(outbox: &Outbox, process: u32) {
    outbox.try_say(&ToInit::Signal { process, number: signal_number(Signal::Kill) });
}

pub(super) fn signal_number(signal: Signal) -> u8 {
    u8::try_from(signal.number()).unwrap_or_default()
}
