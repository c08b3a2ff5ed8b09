//! The task that writes one recording. The disk may be slow, full or gone; the session does not notice.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::about::{Exit, Facts, Sidecar, written};
use super::encode::Encoder;
use super::event::{Lost, Outcome, Timed};
use super::store::Sink;
use super::tap::{Drain, End, Left};
use super::totals::Totals;

/// Events that are taken from the queue in one go.
const BATCH_EVENTS: usize = 256;

/// Encoded lines that are written in one go; more of them wait in the queue.
const BATCH_BYTES: usize = 1 << 20;

/// Room that is kept for the lines that end a recording.
const END_BYTES: u64 = 4 << 10;

/// Makes the files; on a thread that may block.
pub(super) type Open = Box<dyn FnOnce(&Sidecar) -> io::Result<Box<dyn Sink>> + Send>;

/// All that the task needs.
pub(super) struct Writer {
    pub(super) facts: Facts,
    pub(super) started: SystemTime,
    pub(super) encoder: Encoder,
    pub(super) sidecar: Sidecar,
    pub(super) bytes_max: u64,
    pub(super) drain: Drain,
    pub(super) totals: Arc<Totals>,
    /// Threads that may wait for the disk.
    pub(super) threads: Arc<Semaphore>,
    /// Where lines go. None before the files are made, and where they could not be.
    pub(super) sink: Option<Box<dyn Sink>>,
}

impl Writer {
    /// Writes until the session has ended, and lets the recording appear.
    pub(super) async fn run(mut self, open: Open) {
        self.begin(open).await;
        let mut batch = Vec::with_capacity(BATCH_EVENTS);
        let end = loop {
            tokio::select! {
                // First: who goes on sending must not keep it from being heard.
                biased;
                end = &mut self.drain.end => break end.unwrap_or_else(|_| unknown(self.started)),
                // Never none: the session's own end holds the queue open for as long as that of `end`.
                _ = self.drain.queue.recv_many(&mut batch, BATCH_EVENTS) => self.write(&mut batch).await,
            }
        };
        self.drain.queue.close();
        // What is left is no more than what a queue holds.
        while self.drain.queue.recv_many(&mut batch, BATCH_EVENTS).await > 0 {
            self.write(&mut batch).await;
        }
        self.finish(end).await;
    }

    async fn begin(&mut self, open: Open) {
        self.totals.begin();
        let sidecar = self.sidecar.clone();
        let header = self.encoder.header(&self.facts, self.started);
        let bytes = header.len() as u64;
        let opened = blocking(&self.threads, move || {
            let mut sink = open(&sidecar)?;
            sink.append(header.as_bytes())?;
            Ok(sink)
        });
        match opened.await {
            Ok(sink) => {
                self.sink = Some(sink);
                self.count(bytes);
            }
            Err(error) => self.give_up(&error),
        }
    }

    /// Writes the events of a batch.
    async fn write(&mut self, batch: &mut Vec<Timed>) {
        let mut lines = String::new();
        // Room in the queue is made when the disk has taken it, so that all that waits anywhere is bounded.
        let mut taken = 0;
        for Timed { at, lost, event } in batch.drain(..) {
            taken += event.weight();
            if self.is_over() {
                continue;
            }
            if !lost.is_nothing() {
                self.gap(at, lost, &mut lines);
            }
            let before = lines.len();
            self.encoder.event(at, &event, &mut lines);
            if self.sidecar.bytes.recorded + lines.len() as u64 + END_BYTES > self.bytes_max {
                lines.truncate(before);
                self.truncate(at, &mut lines);
            }
            if lines.len() >= BATCH_BYTES {
                self.append(std::mem::take(&mut lines)).await;
                self.drain.counts.release(std::mem::take(&mut taken));
            }
        }
        self.append(lines).await;
        self.drain.counts.release(taken);
    }

    async fn append(&mut self, lines: String) {
        let bytes = lines.len() as u64;
        if lines.is_empty() || self.sidecar.failed.is_some() {
            return;
        }
        let Some(mut sink) = self.sink.take() else { return };
        let appended = blocking(&self.threads, move || {
            let appended = sink.append(lines.as_bytes());
            Ok((sink, appended))
        });
        match appended.await {
            Ok((sink, appended)) => {
                // Also after a failure: what is whole may still be completed.
                self.sink = Some(sink);
                match appended {
                    Ok(()) => self.count(bytes),
                    Err(error) => self.give_up(&error),
                }
            }
            Err(error) => self.give_up(&error),
        }
    }

    async fn finish(mut self, end: End) {
        let End { at, outcome, left } = end;
        if !self.is_over() {
            let mut lines = String::new();
            let lost = self.drain.counts.take_lost();
            if !lost.is_nothing() {
                self.gap(at, lost, &mut lines);
            }
            self.encoder.exit(at, &outcome, &mut lines);
            self.append(lines).await;
        }
        let Left { container, changes } = left;
        let counts = &self.drain.counts;
        self.sidecar.bytes.output = counts.output.load(Ordering::Relaxed);
        self.sidecar.bytes.input = counts.input.load(Ordering::Relaxed);
        self.sidecar.ended = Some(written(self.started + at));
        self.sidecar.duration_seconds = Some(at.as_secs_f64());
        self.sidecar.exit = Some(Exit::from(&outcome));
        (self.sidecar.container, self.sidecar.changes) = (container, changes);
        if let Some(mut sink) = self.sink.take() {
            let sidecar = self.sidecar.clone();
            if let Err(error) = blocking(&self.threads, move || sink.complete(&sidecar)).await {
                self.give_up(&error);
            }
        }
        if self.sidecar.failed.is_some() { self.totals.fail() } else { self.totals.complete() }
    }

    /// Whether nothing is to be written any more.
    fn is_over(&self) -> bool {
        self.sidecar.truncated || self.sidecar.failed.is_some()
    }

    fn gap(&mut self, at: Duration, lost: Lost, lines: &mut String) {
        self.encoder.gap(at, lost, lines);
        self.sidecar.lose(lost);
        self.totals.gap();
    }

    fn truncate(&mut self, at: Duration, lines: &mut String) {
        self.encoder.truncated(at, lines);
        self.sidecar.truncated = true;
        self.totals.truncate();
        self.drain.counts.deaf.store(true, Ordering::Relaxed);
    }

    fn count(&mut self, bytes: u64) {
        self.sidecar.bytes.recorded += bytes;
        self.totals.write(bytes);
    }

    /// Says so once, and takes nothing more: a disk that is full is not asked again for each line.
    fn give_up(&mut self, error: &io::Error) {
        if self.sidecar.failed.is_none() {
            let (connection, session) = (&self.facts.connection, self.facts.session);
            tracing::warn!(%connection, session, %error, "the recording of a session is not kept, or not to its end");
        }
        self.sidecar.failed.get_or_insert(error.to_string());
        self.drain.counts.deaf.store(true, Ordering::Relaxed);
    }
}

/// Of a session that has gone without a word.
fn unknown(started: SystemTime) -> End {
    let outcome = Outcome::Failed("the server had a fault".to_owned());
    End { at: started.elapsed().unwrap_or_default(), outcome, left: Left::default() }
}

/// Runs what may wait for a disk on a thread that may wait, when there is one to be had.
async fn blocking<T: Send + 'static>(
    threads: &Semaphore,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let _thread = threads.acquire().await.map_err(io::Error::other)?;
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
