//! The programs of one container, by the numbers that the init knows them by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use coracle_init::{Exit, FromInit, Malformed, ToInit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::START;
use super::framed::Framed;
use super::wires::Outbox;
use crate::engine::{EngineError, Signal};

/// How a program ended, once it has. Closed without: nobody will ever know.
pub(super) type ExitReceiver = watch::Receiver<Option<Exit>>;

/// Programs that were asked for and not answered for. With each of them descriptors lie in the socket until the init
/// reads it, and there is a bound on those of all containers together.
const UNANSWERED_MAX: usize = 8;

/// As many as there are programs; the init bounds them, and so do sessions.
#[derive(Debug)]
pub(super) struct Processes {
    books: Mutex<Books>,
    /// Whether programs' streams travel in frames.
    in_frames: bool,
    unanswered: Arc<Semaphore>,
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
    sender: oneshot::Sender<Result<(), String>>,
    _place: OwnedSemaphorePermit,
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
    pub(super) fn new(in_frames: bool) -> Arc<Self> {
        let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
        Arc::new(Self { books: Mutex::default(), in_frames, unanswered })
    }

    /// Makes room for one more, once it is its turn. Cancel safe.
    pub(super) async fn enter(
        self: &Arc<Self>,
        outbox: &Outbox,
        framed: Option<&Arc<Framed>>,
    ) -> Result<Entry, String> {
        let place = Arc::clone(&self.unanswered).acquire_owned().await;
        let mut books = self.books();
        if let Some(reason) = &books.closed {
            return Err(reason.clone());
        }
        let place = place.map_err(|error| error.to_string())?;
        books.last = books.last.wrapping_add(1);
        let number = books.last;
        let (sender, begun) = oneshot::channel();
        let (exit_sender, exit) = watch::channel(None);
        let framed = framed.map(Arc::downgrade);
        let answered = Some(Unanswered { sender, _place: place });
        let running = Running { begun: answered, exit: exit_sender, framed, is_unwanted: false };
        books.running.insert(number, running);
        let guard = Unwanted {
            processes: Arc::clone(self),
            outbox: outbox.clone(),
            number,
            standing: Standing::NotAskedFor,
        };
        Ok(Entry { number, begun, exit, guard })
    }

    /// Takes what the init says. What makes no sense changes nothing: all that waits is told of it in [`Self::close`].
    pub(super) fn take(&self, frame: &FromInit<'_>, outbox: &Outbox) -> Result<(), Malformed> {
        const UNKNOWN: Malformed = Malformed("a program was never asked for, or has ended");
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
                let running = books.running.get_mut(process).ok_or(UNKNOWN)?;
                let begun = running.begun.take().ok_or(Malformed("a program begins twice"))?;
                if running.is_unwanted {
                    kill(outbox, *process);
                }
                // Gone between the two: `Unwanted` then sees that it has begun.
                drop(begun.sender.send(Ok(())));
            }
            FromInit::Refused { process, reason } => {
                let running = books.running.get_mut(process).ok_or(UNKNOWN)?;
                let begun = running.begun.take().ok_or(Malformed("a program is refused that has begun"))?;
                books.running.remove(process);
                drop(begun.sender.send(Err(String::from_utf8_lossy(reason).into_owned())));
            }
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
            FromInit::Listening { .. }
            | FromInit::Knock { .. }
            | FromInit::Accepted { .. }
            | FromInit::Failed { .. } => return Err(UNKNOWN),
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
        self.unanswered.close();
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

#[cfg(test)]
mod tests {
    use super::super::wires::{Queue, outbox};
    use super::*;

    const EXIT: Exit = Exit::Status(7);

    fn started(process: u32) -> FromInit<'static> {
        FromInit::Started { process, pid: 2 }
    }

    fn exited(process: u32) -> FromInit<'static> {
        FromInit::Exited { process, exit: EXIT }
    }

    async fn entered(processes: &Arc<Processes>, outbox: &Outbox) -> Entry {
        let mut entry = processes.enter(outbox, None).await.unwrap();
        entry.asked_for();
        entry
    }

    /// Which programs the init is told to kill.
    fn killed(queue: &mut Queue) -> Vec<u32> {
        let mut killed = Vec::new();
        while let Ok(parcel) = queue.try_recv() {
            let Ok(Some((ToInit::Signal { process, number: 9 }, _))) = ToInit::decode(&parcel.bytes) else {
                panic!("it is told something else: {parcel:?}");
            };
            killed.push(process);
        }
        killed
    }

    #[tokio::test]
    async fn a_program_begins_runs_and_ends() {
        let ((outbox, mut queue), processes) = (outbox(), Processes::new(false));
        let entry = entered(&processes, &outbox).await;
        let exit = entry.exit();

        processes.take(&started(1), &outbox).unwrap();
        entry.begun().await.unwrap();
        assert!(exit.borrow().is_none());
        processes.take(&exited(1), &outbox).unwrap();

        assert_eq!(*exit.borrow(), Some(EXIT));
        assert_eq!(killed(&mut queue), [0; 0]);
    }

    #[tokio::test]
    async fn a_program_that_nobody_waits_for_is_killed_when_it_has_begun() {
        let ((outbox, mut queue), processes) = (outbox(), Processes::new(false));
        let before = entered(&processes, &outbox).await;
        let after = entered(&processes, &outbox).await;

        drop(before);
        assert_eq!(killed(&mut queue), [0; 0], "it does not exist yet");
        processes.take(&started(1), &outbox).unwrap();
        assert_eq!(killed(&mut queue), [1]);

        processes.take(&started(2), &outbox).unwrap();
        drop(after);
        assert_eq!(killed(&mut queue), [2], "whoever waited has not heard of it");
    }

    #[tokio::test]
    async fn a_program_that_was_not_asked_for_is_forgotten_and_one_that_was_refused_is_not_killed() {
        let ((outbox, mut queue), processes) = (outbox(), Processes::new(false));
        drop(processes.enter(&outbox, None).await.unwrap());
        assert!(processes.take(&started(1), &outbox).is_err());

        let entry = entered(&processes, &outbox).await;
        processes.take(&FromInit::Refused { process: 2, reason: b"no" }, &outbox).unwrap();
        let refused = entry.begun().await.unwrap_err();

        assert!(matches!(&refused, EngineError::Failed { reason, .. } if reason == "no"), "{refused}");
        assert_eq!(killed(&mut queue), [0; 0]);
    }

    #[tokio::test]
    async fn programs_that_are_not_answered_for_are_few_whoever_has_gone() {
        let ((outbox, _queue), processes) = (outbox(), Processes::new(false));
        for _ in 0..UNANSWERED_MAX {
            drop(entered(&processes, &outbox).await);
        }
        let mut next = Box::pin(processes.enter(&outbox, None));
        assert!(futures::poll!(&mut next).is_pending());

        processes.take(&started(3), &outbox).unwrap();

        assert_eq!(next.await.unwrap().number(), 9);
    }

    #[tokio::test]
    async fn the_end_of_the_init_is_told_to_all() {
        let ((outbox, _queue), processes) = (outbox(), Processes::new(false));
        let mut entries = Vec::new();
        for _ in 0..UNANSWERED_MAX {
            entries.push(entered(&processes, &outbox).await);
        }
        let mut waiting = Box::pin(processes.enter(&outbox, None));
        assert!(futures::poll!(&mut waiting).is_pending());

        processes.close("it fell over");

        assert_eq!(waiting.await.unwrap_err(), "it fell over");
        for entry in entries {
            let mut exit = entry.exit();
            assert!(matches!(entry.begun().await, Err(EngineError::Gone { .. })));
            assert!(exit.wait_for(Option::is_some).await.is_err());
        }
        assert_eq!(processes.enter(&outbox, None).await.unwrap_err(), "it fell over");
    }

    #[tokio::test]
    async fn streams_in_frames_are_forgotten_with_whoever_had_them() {
        let ((outbox, _queue), processes) = (outbox(), Processes::new(true));
        for process in 1..=100 {
            let framed = Framed::new(true);
            let mut entry = processes.enter(&outbox, Some(&framed)).await.unwrap();
            entry.asked_for();
            processes.take(&started(process), &outbox).unwrap();
            entry.begun().await.unwrap();
            processes.take(&exited(process), &outbox).unwrap();
            assert!(processes.books().framed(process).is_some(), "somebody may read them yet");
        }

        assert!(processes.books().running.is_empty());
        assert!(processes.books().leaving.len() <= 2, "{}", processes.books().leaving.len());
        assert!(processes.books().framed(1).is_none());
    }
}
