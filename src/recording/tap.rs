//! A session's end of its recording. It never waits: what the writer does not keep up with is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::about::Changes;
use super::event::{EVENT_BYTES, Event, Lost, Outcome, Stream, Timed};
use super::totals::Totals;

/// Events of one session that wait for the writer. Past it they are dropped, counted, and the gap is marked: a slow disk
/// must not slow a shell.
pub(super) const EVENTS_PENDING_MAX: usize = 4096;

/// Bytes of these events. Past it the same.
pub(super) const BYTES_PENDING_MAX: usize = 8 << 20;

/// The same of all sessions together: a disk that is stuck must not fill the memory instead.
const BYTES_PENDING_TOTAL_MAX: usize = 256 << 20;

/// What a recording takes by itself, in bytes: its facts, its queue, its task. All of them count against the bytes of all
/// sessions, also those whose session is over while a disk is stuck.
const RECORDING_BYTES: usize = 32 << 10;

/// A shorter chunk is copied: it might keep a buffer alive that is many times its size.
const SHARED_BYTES_MIN: usize = 8 << 10;

/// Where a session tells what happens. Without a recording it does nothing.
#[derive(Clone, Debug, Default)]
pub struct Tap(Option<Arc<Line>>);

/// The session's own end, which tells how it ended. Dropped before, the recording ends with a word that it does not know.
#[derive(Debug)]
pub struct Recording {
    tap: Tap,
    end: Option<oneshot::Sender<End>>,
}

/// How a session ended, and what it left.
#[derive(Debug)]
pub(super) struct End {
    pub(super) at: Duration,
    pub(super) outcome: Outcome,
    pub(super) left: Left,
}

/// What is known of a session's container once it has ended.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// The engine's id of it.
    pub container: Option<String>,
    /// What changed in it, as far as that could be learned.
    pub changes: Option<Changes>,
}

#[derive(Debug)]
struct Line {
    begun: Instant,
    with_input: bool,
    queue: mpsc::Sender<Timed>,
    counts: Arc<Counts>,
}

/// What both ends of a queue count.
#[derive(Debug)]
pub(super) struct Counts {
    /// Bytes of the events that wait.
    pending: AtomicUsize,
    totals: Arc<Totals>,
    /// Of a gap that no event has told the writer of yet.
    lost_events: AtomicU64,
    lost_bytes: AtomicU64,
    /// What the client was sent and has sent, recorded or not.
    pub(super) output: AtomicU64,
    pub(super) input: AtomicU64,
    /// The writer takes no more, for a reason that it has told: nothing is lost that it wants.
    pub(super) deaf: AtomicBool,
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) queue: mpsc::Receiver<Timed>,
    pub(super) end: oneshot::Receiver<End>,
    pub(super) counts: Arc<Counts>,
}

/// Whether there is room for one more recording.
pub(super) fn has_room(totals: &Totals) -> bool {
    totals.pending.load(Ordering::Relaxed) <= BYTES_PENDING_TOTAL_MAX
}

/// Both ends for a session that begins now.
pub(super) fn line(with_input: bool, totals: &Arc<Totals>) -> (Recording, Drain) {
    let (sender, queue) = mpsc::channel(EVENTS_PENDING_MAX);
    let (end_sender, end) = oneshot::channel();
    let counts = Arc::new(Counts::new(Arc::clone(totals)));
    counts.reserve(RECORDING_BYTES);
    let line = Line { begun: Instant::now(), with_input, queue: sender, counts: Arc::clone(&counts) };
    let recording = Recording { tap: Tap(Some(Arc::new(line))), end: Some(end_sender) };
    (recording, Drain { queue, end, counts })
}

impl Recording {
    /// None.
    #[must_use]
    pub fn off() -> Self {
        Self { tap: Tap::default(), end: None }
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.end.is_some()
    }

    /// For whoever sees something happen.
    #[must_use]
    pub fn tap(&self) -> Tap {
        self.tap.clone()
    }

    /// Ends it: the session ended in this way, so long after its start. What comes after this is not recorded.
    pub fn finish(mut self, outcome: Outcome, at: Duration, left: Left) {
        if let Some(end) = self.end.take() {
            // A writer that has gone has said why.
            drop(end.send(End { at, outcome, left }));
        }
    }
}

impl Tap {
    /// How long the session has lasted.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |line| line.begun.elapsed())
    }

    /// The client is sent something.
    pub fn output(&self, stream: Stream, chunk: &Bytes) {
        if let Some(line) = &self.0 {
            line.counts.output.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            line.record(|| Event::Output(stream, kept(chunk)), chunk.len());
        }
    }

    /// The client has sent something. Recorded only where that is wanted.
    pub fn input(&self, chunk: &[u8]) {
        if let Some(line) = &self.0 {
            line.counts.input.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            if line.with_input {
                line.record(|| Event::Input(Bytes::copy_from_slice(chunk)), chunk.len());
            }
        }
    }

    /// The client's terminal has another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        if let Some(line) = &self.0 {
            line.record(|| Event::Resize { columns, rows }, 0);
        }
    }

    /// The client sends the program a signal.
    pub fn signal(&self, name: &'static str) {
        if let Some(line) = &self.0 {
            line.record(|| Event::Signal(name), 0);
        }
    }
}

impl Line {
    /// Takes an event of so many bytes if there is room for it. Never waits.
    fn record(&self, event: impl FnOnce() -> Event, bytes: usize) {
        let counts = &self.counts;
        if counts.deaf.load(Ordering::Relaxed) {
            return;
        }
        let fits = counts.reserve(bytes + EVENT_BYTES);
        let place = match self.queue.try_reserve() {
            Ok(place) if fits => place,
            refused => {
                counts.release(bytes + EVENT_BYTES);
                // Closed: the session is over for its recording.
                if !matches!(refused, Err(mpsc::error::TrySendError::Closed(()))) {
                    counts.lose(bytes as u64);
                }
                return;
            }
        };
        place.send(Timed { at: self.begun.elapsed(), lost: counts.take_lost(), event: event() });
    }
}

impl Counts {
    fn new(totals: Arc<Totals>) -> Self {
        Self {
            pending: AtomicUsize::new(0),
            totals,
            lost_events: AtomicU64::new(0),
            lost_bytes: AtomicU64::new(0),
            output: AtomicU64::new(0),
            input: AtomicU64::new(0),
            deaf: AtomicBool::new(false),
        }
    }

    /// Counts bytes that are to wait, and tells whether they may. To be released either way.
    fn reserve(&self, bytes: usize) -> bool {
        let pending = self.pending.fetch_add(bytes, Ordering::Relaxed);
        let total = self.totals.pending.fetch_add(bytes, Ordering::Relaxed);
        pending.saturating_add(bytes) <= BYTES_PENDING_MAX
            && total.saturating_add(bytes) <= BYTES_PENDING_TOTAL_MAX
    }

    /// They do not wait any more.
    pub(super) fn release(&self, bytes: usize) {
        self.pending.fetch_sub(bytes, Ordering::Relaxed);
        self.totals.pending.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn lose(&self, bytes: u64) {
        self.totals.lose(bytes);
        self.lost_events.fetch_add(1, Ordering::Relaxed);
        self.lost_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was lost since this was last asked.
    pub(super) fn take_lost(&self) -> Lost {
        if self.lost_events.load(Ordering::Relaxed) == 0 {
            return Lost::default();
        }
        Lost {
            events: self.lost_events.swap(0, Ordering::Relaxed),
            bytes: self.lost_bytes.swap(0, Ordering::Relaxed),
        }
    }
}

impl Drop for Counts {
    /// What still waited, waits no more.
    fn drop(&mut self) {
        self.totals.pending.fetch_sub(*self.pending.get_mut(), Ordering::Relaxed);
    }
}

fn kept(chunk: &Bytes) -> Bytes {
    if chunk.len() < SHARED_BYTES_MIN { Bytes::copy_from_slice(chunk) } else { chunk.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> (Recording, Drain, Arc<Totals>) {
        let totals = Arc::<Totals>::default();
        let (recording, drain) = line(true, &totals);
        for _ in 0..EVENTS_PENDING_MAX {
            recording.tap().signal("INT");
        }
        (recording, drain, totals)
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told_with_the_next_event_that_does() {
        let (recording, mut drain, totals) = full();
        let tap = recording.tap();
        let chunk = Bytes::from_static(b"abc");

        tap.output(Stream::Stdout, &chunk);
        tap.output(Stream::Stdout, &chunk);
        drop(drain.queue.try_recv().unwrap());
        tap.output(Stream::Stdout, &chunk);

        let last = std::iter::from_fn(|| drain.queue.try_recv().ok()).last().unwrap();
        assert_eq!(last.lost, Lost { events: 2, bytes: 6 });
        assert_eq!((totals.snapshot().events_lost, totals.snapshot().bytes_lost), (2, 6));
        assert_eq!(drain.counts.output.load(Ordering::Relaxed), 9);
    }

    #[test]
    fn bytes_are_bounded_and_not_only_events() {
        let totals = Arc::<Totals>::default();
        let (recording, mut drain) = line(false, &totals);
        let chunk = Bytes::from(vec![0; 1 << 20]);

        for _ in 0..20 {
            recording.tap().output(Stream::Stdout, &chunk);
        }

        let kept = std::iter::from_fn(|| drain.queue.try_recv().ok()).count();
        // What an event weighs besides comes on top.
        assert_eq!(kept, (BYTES_PENDING_MAX >> 20) - 1);
        assert_eq!(
            drain.counts.take_lost(),
            Lost { events: 20 - kept as u64, bytes: (20 - kept as u64) << 20 }
        );
    }

    #[test]
    fn input_is_counted_but_not_kept_unless_it_is_wanted() {
        let totals = Arc::<Totals>::default();
        let (recording, mut drain) = line(false, &totals);

        recording.tap().input(b"secret");

        assert!(drain.queue.try_recv().is_err());
        assert_eq!(drain.counts.input.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn a_tap_without_a_recording_does_nothing() {
        let tap = Recording::off().tap();

        tap.output(Stream::Stdout, &Bytes::from_static(b"x"));
        tap.input(b"x");
        tap.signal("INT");
    }
}
