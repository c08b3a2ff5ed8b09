//! Between those who tell and the thread that writes: bounded, and whoever adds to it never waits.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Records that may wait to be written. A disk that hesitates for a second at hundreds of events a second stays far
/// below; past it, new ones are lost, and counted.
const RECORDS_PENDING_MAX: usize = 16 << 10;

/// The same in bytes.
const BYTES_PENDING_MAX: usize = 16 << 20;

/// Between tries once no more comes: whoever waits for the end is in a hurry.
const LAST_TRIES_INTERVAL: Duration = Duration::from_millis(100);

/// What one record costs besides its bytes.
const OVERHEAD_BYTES: usize = 64;

/// Records that wait for one place. What cannot be written stays in here, so that all that is ever lost is lost at its
/// end.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Lost since the last one that was taken in.
    lost: u64,
    closed: bool,
    called: bool,
}

/// A record with its number.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) seq: u64,
    pub(super) text: Arc<[u8]>,
}

/// Why a wait is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Something may have come.
    Something,
    /// Nothing came for as long as was waited.
    Nothing,
    /// No more comes, and nothing is left.
    Done,
}

impl Queue {
    /// Adds a record. `false` where it is lost. After a loss `confess` makes the record that says so, from the number
    /// lost; it takes the number of the last one that is missing.
    pub(super) fn push(&self, line: Line, confess: impl FnOnce(u64, u64) -> Line) -> bool {
        let mut pending = self.lock();
        let lost = pending.lost;
        let room = |pending: &Pending, more: usize| {
            pending.lines.len() < RECORDS_PENDING_MAX && pending.bytes + more <= BYTES_PENDING_MAX
        };
        // A little room first: otherwise each record that leaves would let one in, with a confession of its own.
        let has_room = if lost == 0 {
            room(&pending, line.cost())
        } else {
            pending.lines.len() < RECORDS_PENDING_MAX / 2 && pending.bytes < BYTES_PENDING_MAX / 2
        };
        if pending.closed || !has_room {
            pending.lost += 1;
            return false;
        }
        if lost > 0 {
            pending.lost = 0;
            let confession = confess(line.seq.saturating_sub(1), lost);
            pending.add(confession);
        }
        pending.add(line);
        drop(pending);
        self.changed.notify_all();
        true
    }

    /// Waits until there is something or the queue is called, for `patience` at most.
    pub(super) fn wait(&self, patience: Duration) -> Woken {
        let deadline = Instant::now() + patience;
        let mut pending = self.lock();
        loop {
            if !pending.lines.is_empty() || std::mem::take(&mut pending.called) {
                return Woken::Something;
            }
            if pending.closed {
                return Woken::Done;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            else {
                return Woken::Nothing;
            };
            let (guard, _) = self.changed.wait_timeout(pending, left).unwrap_or_else(PoisonError::into_inner);
            pending = guard;
        }
    }

    /// Waits for `pause`, or until there is a call or the end; after the end, for a moment.
    pub(super) fn rest(&self, pause: Duration) {
        let pending = self.lock();
        let pause = if pending.closed { pause.min(LAST_TRIES_INTERVAL) } else { pause };
        let was_closed = pending.closed;
        let quiet = |pending: &mut Pending| pending.closed == was_closed && !pending.called;
        let waited = self.changed.wait_timeout_while(pending, pause, quiet);
        waited.unwrap_or_else(PoisonError::into_inner).0.called = false;
    }

    /// The first records, at most so many bytes of them, but one at least. They stay until [`Queue::written`].
    pub(super) fn front(&self, bytes_max: usize) -> Vec<Line> {
        let pending = self.lock();
        let mut bytes = 0;
        let fits = |line: &&Line| {
            bytes += line.text.len();
            bytes == line.text.len() || bytes <= bytes_max
        };
        pending.lines.iter().take_while(fits).cloned().collect()
    }

    /// So many of the first need no longer be kept.
    pub(super) fn written(&self, count: usize) {
        let mut pending = self.lock();
        for _ in 0..count {
            let Some(line) = pending.lines.pop_front() else { return };
            pending.bytes = pending.bytes.saturating_sub(line.cost());
        }
    }

    /// Wakes whoever waits.
    pub(super) fn call(&self) {
        self.lock().called = true;
        self.changed.notify_all();
    }

    /// No more comes.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether records are lost now.
    pub(super) fn is_full(&self) -> bool {
        self.lock().lost > 0
    }

    /// Records that are in it.
    pub(super) fn len(&self) -> usize {
        self.lock().lines.len()
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn add(&mut self, line: Line) {
        self.bytes += line.cost();
        self.lines.push_back(line);
    }
}

impl Line {
    fn cost(&self) -> usize {
        self.text.len() + OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u64, bytes: usize) -> Line {
        Line { seq, text: vec![b'x'; bytes].into() }
    }

    fn confession(seq: u64, count: u64) -> Line {
        Line { seq, text: format!("lost {count}\n").into_bytes().into() }
    }

    #[test]
    fn what_is_lost_is_confessed_once_there_is_room_again() {
        let queue = Queue::default();
        let mut seq = 0;
        let mut push = |queue: &Queue| {
            seq += 1;
            queue.push(line(seq, 1 << 20), confession)
        };
        while push(&queue) {}
        assert!(!push(&queue) && queue.is_full());
        let held = queue.len();

        queue.written(1);
        assert!(!push(&queue), "one that leaves lets none in");
        queue.written(held - 2);
        assert!(push(&queue));

        let (count, lines) = (u64::try_from(held).unwrap(), queue.front(usize::MAX));
        let seen: Vec<_> = lines.iter().map(|line| line.seq).collect();
        assert_eq!(seen, [count, count + 3, count + 4]);
        assert_eq!(&*lines[1].text, b"lost 3\n");
        assert!(!queue.is_full());
    }

    #[test]
    fn a_batch_has_one_record_at_least_and_no_more_bytes_than_asked_for() {
        let queue = Queue::default();
        for seq in 1..=3 {
            assert!(queue.push(line(seq, 100), confession));
        }

        assert_eq!(queue.front(10).len(), 1);
        assert_eq!(queue.front(200).len(), 2);
        queue.written(3);
        queue.close();
        assert_eq!(queue.wait(Duration::from_mins(1)), Woken::Done);
    }
}
