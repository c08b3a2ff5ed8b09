//! Lines that wait for a file or a socket, and the thread that writes them: whoever logs never waits for either.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What may wait, in bytes. Past it lines are dropped and counted: a disk or a daemon that hangs must not take connections
/// with it.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// What a line takes besides its bytes, about.
const LINE_OVERHEAD: usize = 64;

/// Where lines end.
pub(super) trait Sink: Send {
    /// Writes a line. May wait, for a while.
    fn write(&mut self, line: &[u8]) -> io::Result<()>;

    /// Begins anew, where that means something.
    fn reopen(&mut self) -> io::Result<()>;

    /// What it is, for people.
    fn name(&self) -> String;
}

/// Makes a line that says so many were lost.
pub(super) type Gap = Box<dyn Fn(u64) -> Vec<u8> + Send>;

/// Lines that wait. Clones are the same queue.
#[derive(Clone)]
pub(super) struct Queue(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// Told when there is something to do.
    work: Condvar,
    /// Told when all is done.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    pending: VecDeque<Job>,
    bytes: usize,
    busy: bool,
    /// Since the start.
    lost: u64,
}

enum Job {
    Line(Vec<u8>),
    Reopen,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

impl Queue {
    /// One that ends there. Its thread ends with the process.
    pub(super) fn start(sink: Box<dyn Sink>, gap: Gap) -> io::Result<Self> {
        let queue = Self(Arc::default());
        let clerk = Clerk { queue: queue.clone(), sink, gap, reported: 0, is_broken: false };
        thread::Builder::new().name("log".to_owned()).spawn(move || clerk.work())?;
        Ok(queue)
    }

    /// Never waits for more than the lock.
    pub(super) fn put(&self, line: Vec<u8>) {
        let mut state = self.state();
        let size = line.len() + LINE_OVERHEAD;
        if state.bytes + size > PENDING_BYTES_MAX {
            state.lost += 1;
        } else {
            state.bytes += size;
            state.pending.push_back(Job::Line(line));
        }
        self.0.work.notify_one();
    }

    /// What was put before still goes where it would have gone.
    pub(super) fn reopen(&self) {
        let mut state = self.state();
        if !matches!(state.pending.back(), Some(Job::Reopen)) {
            state.pending.push_back(Job::Reopen);
        }
        drop(state);
        self.0.work.notify_one();
    }

    /// Waits until all is written, or `at_most`.
    pub(super) fn flush(&self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        let mut state = self.state();
        while state.busy || !state.pending.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.0.idle.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lines that were lost since the start.
    pub(super) fn lost(&self) -> u64 {
        self.state().lost
    }

    fn lose(&self) {
        self.state().lost += 1;
    }

    fn next(&self) -> Job {
        let mut state = self.state();
        state.busy = false;
        loop {
            if let Some(job) = state.pending.pop_front() {
                if let Job::Line(line) = &job {
                    state.bytes -= line.len() + LINE_OVERHEAD;
                }
                state.busy = true;
                return job;
            }
            self.0.idle.notify_all();
            state = self.0.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who writes what waits.
struct Clerk {
    queue: Queue,
    sink: Box<dyn Sink>,
    gap: Gap,
    /// Of those that were lost, how many the log has been told of.
    reported: u64,
    is_broken: bool,
}

impl Clerk {
    fn work(mut self) {
        loop {
            match self.queue.next() {
                Job::Line(line) => {
                    let written = self.report().and_then(|()| self.sink.write(&line));
                    if written.is_err() {
                        self.queue.lose();
                    }
                    self.judge(written);
                }
                Job::Reopen => {
                    let reopened = self.sink.reopen();
                    self.judge(reopened);
                }
            }
        }
    }

    /// A log with a gap says so where the gap is.
    fn report(&mut self) -> io::Result<()> {
        let lost = self.queue.lost();
        if lost > self.reported {
            self.sink.write(&(self.gap)(lost - self.reported))?;
            self.reported = lost;
        }
        Ok(())
    }

    /// Complains once, when it begins, and says when it is over.
    fn judge(&mut self, outcome: io::Result<()>) {
        let (name, text) = match outcome {
            Err(error) if !self.is_broken => {
                (self.sink.name(), format!("{error}; lines are lost until it works"))
            }
            Ok(()) if self.is_broken => (self.sink.name(), "works again".to_owned()),
            _ => return,
        };
        self.is_broken = !self.is_broken;
        // A closed standard error leaves nobody to tell.
        drop(writeln!(io::stderr(), "coracle: the log to {name}: {text}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Writes while it may: each token is a line.
    struct Gate {
        tokens: mpsc::Receiver<io::Result<()>>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Sink for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<()> {
            self.tokens.recv().unwrap()?;
            self.written.send(line.to_owned()).map_err(io::Error::other)
        }

        fn reopen(&mut self) -> io::Result<()> {
            self.written.send(b"reopened".to_vec()).map_err(io::Error::other)
        }

        fn name(&self) -> String {
            "a gate".to_owned()
        }
    }

    fn gate() -> (Queue, mpsc::Sender<io::Result<()>>, mpsc::Receiver<Vec<u8>>) {
        let (tokens, take) = mpsc::channel();
        let (written, read) = mpsc::channel();
        let gap: Gap = Box::new(|lost| format!("lost {lost}").into_bytes());
        (Queue::start(Box::new(Gate { tokens: take, written }), gap).unwrap(), tokens, read)
    }

    fn next(read: &mpsc::Receiver<Vec<u8>>) -> String {
        String::from_utf8(read.recv_timeout(Duration::from_mins(1)).unwrap()).unwrap()
    }

    #[test]
    fn whoever_logs_is_not_held_up_and_a_gap_says_how_large_it_is() {
        let (queue, tokens, read) = gate();

        // Nobody writes, and this returns.
        for _ in 0..PENDING_BYTES_MAX / 1024 {
            queue.put(vec![b'x'; 1024]);
        }
        queue.flush(Duration::from_millis(1));

        let lost = queue.lost();
        assert!(lost > 100, "{lost}");
        // Told at once, or in two parts where the clerk looked while lines were being lost.
        let (mut told, mut lines) = (0, 0);
        while told < lost || lines < 2 {
            tokens.send(Ok(())).unwrap();
            let written = next(&read);
            if let Some(count) = written.strip_prefix("lost ") {
                told += count.parse::<u64>().unwrap();
            } else {
                assert_eq!(written.len(), 1024);
                lines += 1;
            }
            assert!(lines <= 2, "{told} of {lost} are told");
        }
        assert_eq!(told, lost);
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_the_next_one_says_so() {
        let (queue, tokens, read) = gate();
        for line in ["one", "two", "three"] {
            queue.put(line.into());
        }

        for outcome in [Ok(()), Err(io::ErrorKind::StorageFull.into()), Ok(()), Ok(())] {
            tokens.send(outcome).unwrap();
        }

        assert_eq!([next(&read), next(&read), next(&read)], ["one", "lost 1", "three"]);
        assert_eq!(queue.lost(), 1);
    }

    #[test]
    fn what_was_logged_before_a_reopen_is_written_before_it() {
        let (queue, tokens, read) = gate();
        queue.put("one".into());
        queue.reopen();
        queue.put("two".into());

        tokens.send(Ok(())).unwrap();
        tokens.send(Ok(())).unwrap();
        queue.flush(Duration::from_mins(1));

        assert_eq!([next(&read), next(&read), next(&read)], ["one", "reopened", "two"]);
    }
}
