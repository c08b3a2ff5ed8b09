//! A thread that takes records off a queue and puts them where they belong, for as long as it takes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::queue::{Line, Queue, Woken};

/// How often what was written is brought to the disk, and tried again where it cannot be written.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where records are put.
pub(super) trait Place: Send {
    /// Adds records; how many of the first of them are there now, and why not all.
    fn append(&mut self, lines: &[Line]) -> (usize, io::Result<()>);
    /// The most bytes that it takes at a time.
    fn room(&self) -> usize;
    /// Makes sure that what was added outlives a power failure.
    fn sync(&mut self) -> io::Result<()>;
    /// Somebody has moved it away: begins a new one.
    fn reopen(&mut self) -> io::Result<()>;
}

/// One place for records, as those who tell see it.
#[derive(Debug)]
pub(super) struct Sink {
    /// For the log, with what it is.
    pub(super) name: String,
    pub(super) queue: Queue,
    failing: AtomicBool,
    reopen: AtomicBool,
    /// When to give up, once no more comes.
    deadline: OnceLock<Instant>,
}

impl Sink {
    pub(super) fn new(name: String) -> Arc<Self> {
        Arc::new(Self {
            name,
            queue: Queue::default(),
            failing: AtomicBool::default(),
            reopen: AtomicBool::default(),
            deadline: OnceLock::new(),
        })
    }

    /// Whether records cannot be written now.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed) || self.queue.is_full()
    }

    /// What was moved away is begun anew.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
        self.queue.call();
    }

    /// No more comes; what is there is to be written by then.
    pub(super) fn end(&self, deadline: Instant) {
        self.deadline.get_or_init(|| deadline);
        self.queue.close();
    }

    /// Writes until the queue is closed and empty; `done` is told of how many were written.
    pub(super) fn write(&self, mut place: impl Place, done: impl Fn(u64)) {
        let mut synced = Instant::now();
        loop {
            if self.reopen.swap(false, Ordering::Relaxed)
                && let Err(error) = place.reopen()
            {
                tracing::error!(sink = self.name, %error, "the audit stream's file cannot be opened anew; the one before is used");
            }
            let woken = self.queue.wait(INTERVAL);
            if woken == Woken::Something {
                let lines = self.queue.front(place.room());
                // Somebody only wanted the file opened anew.
                let (count, outcome) = if lines.is_empty() { (0, Ok(())) } else { place.append(&lines) };
                self.queue.written(count);
                done(count as u64);
                let failed = outcome.is_err();
                if count > 0 || failed {
                    self.note(outcome);
                }
                if failed {
                    if self.is_too_late() {
                        return self.give_up();
                    }
                    self.queue.rest(INTERVAL);
                }
            }
            if woken != Woken::Something || synced.elapsed() >= INTERVAL {
                synced = Instant::now();
                // What could not be written says more about it.
                if !self.failing.load(Ordering::Relaxed) {
                    self.note(place.sync());
                }
            }
            if woken == Woken::Done {
                return;
            }
        }
    }

    fn note(&self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(sink = self.name, "the audit stream can be written again");
                }
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(sink = self.name, %error, "the audit stream cannot be written; it is tried again");
                }
            }
        }
    }

    fn is_too_late(&self) -> bool {
        self.queue.is_closed() && self.deadline.get().is_none_or(|deadline| Instant::now() >= *deadline)
    }

    fn give_up(&self) {
        let records = self.queue.len();
        tracing::error!(
            sink = self.name,
            records,
            "records of the audit stream are lost: they cannot be written"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A double of a place that is full as long as it is asked to take nothing, as a spool is.
    struct Full {
        reopened: mpsc::Sender<()>,
        asked: mpsc::Sender<usize>,
    }

    impl Place for Full {
        fn append(&mut self, lines: &[Line]) -> (usize, io::Result<()>) {
            self.asked.send(lines.len()).unwrap();
            (0, Err(io::ErrorKind::StorageFull.into()))
        }
        fn room(&self) -> usize {
            1
        }
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn reopen(&mut self) -> io::Result<()> {
            self.reopened.send(()).unwrap();
            Ok(())
        }
    }

    #[test]
    fn a_call_to_begin_anew_is_nothing_to_write() {
        let ((reopened, reopenings), (asked, appends)) = (mpsc::channel(), mpsc::channel());
        let sink = Sink::new("a place".to_owned());
        let writing = Arc::clone(&sink);
        let writer = std::thread::spawn(move || writing.write(Full { reopened, asked }, |_| {}));

        sink.reopen();
        reopenings.recv_timeout(Duration::from_mins(1)).unwrap();
        sink.end(Instant::now());
        writer.join().unwrap();

        assert!(appends.iter().next().is_none() && !sink.is_failing());
    }
}
