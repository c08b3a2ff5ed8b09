//! The audit stream: what happens to connections as lines of JSON, in a file and at a web service. Knows neither SSH nor
//! containers; what there is to tell is in [`crate::events`].
//!
//! Those who tell put a record into a bounded queue per place; a thread for each place takes it from there. What cannot be
//! written stays in the queue until it can be, so that only what comes after is ever lost: see [`queue`].

pub mod config;
mod file;
mod queue;
mod record;
mod sender;
mod spool;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;

pub use self::config::Config;
use self::config::OnFailure;
use self::file::RecordFile;
use self::queue::Line;
use self::record::{Record, Source};
pub use self::record::{TEXT_BYTES_MAX, VERSION};
use self::sender::Sender;
use self::spool::Spool;
use self::writer::Sink;
use crate::events::{Event, Happening, Witness};
use crate::hook::{Delivery, HookError};
use crate::ids::{ConnectionId, InstanceId};

/// At the end, for what waits to be written. Past it that is lost, and said to be.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// At the end, for what waits in the spool to be sent. Past it the rest is sent at the next start.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// What [`Audit::finish`] takes at most: past it the threads are left behind.
pub const FINISH_TIMEOUT: Duration = Duration::from_secs(6);

/// In the state folder: where records wait for the web service.
const SPOOL_FOLDER: &str = "audit-spool";

/// Why the stream cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file.
    #[error("`audit.file`: `{path}` cannot be written: {reason}")]
    File {
        /// Its name.
        path: String,
        /// What is in the way.
        reason: std::io::Error,
    },
    /// The spool's folder.
    #[error("`audit.spool.dir`: `{path}` cannot be used: {reason}")]
    Spool {
        /// Its name.
        path: String,
        /// What is in the way.
        reason: std::io::Error,
    },
    /// The web service.
    #[error("`audit.http`: {0}")]
    Http(#[from] HookError),
    /// A thread.
    #[error("there can be no thread for it: {0}")]
    Thread(std::io::Error),
}

/// What has been counted since the start, for whoever wants to show it.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records that were made.
    pub told: AtomicU64,
    /// Records in the file.
    pub written: AtomicU64,
    /// Records that one place could not take; those that two places could not take count twice.
    pub lost: AtomicU64,
    /// Bytes that wait for the web service now.
    pub spooled_bytes: AtomicU64,
    /// Records that the web service has taken.
    pub sent: AtomicU64,
    /// Requests to it that failed.
    pub failed: AtomicU64,
    /// Records that it refused.
    pub rejected: AtomicU64,
}

/// The stream, for as long as the server runs.
#[derive(Debug)]
pub struct Audit {
    stream: Arc<Stream>,
    threads: Vec<JoinHandle<()>>,
    /// When sending has to end.
    deadline: watch::Sender<Option<tokio::time::Instant>>,
}

/// Where events become records.
struct Stream {
    source: Source,
    seq: Mutex<u64>,
    sinks: Vec<Arc<Sink>>,
    on_failure: OnFailure,
    counters: Arc<Counters>,
}

impl Audit {
    /// Begins. Without anything to write to there is nobody to tell. To be called within a runtime.
    ///
    /// # Errors
    /// A place cannot be written to.
    pub fn start(config: &Config, instance: &InstanceId, state_dir: &Path) -> Result<Self, AuditError> {
        let counters = Arc::<Counters>::default();
        let (mut sinks, mut threads) = (Vec::new(), Vec::new());
        if config.writes_file() {
            let path = config.file.display().to_string();
            let file = RecordFile::open(&config.file)
                .map_err(|reason| AuditError::File { path: path.clone(), reason })?;
            let (sink, counters) = (Sink::new(path), Arc::clone(&counters));
            sinks.push(Arc::clone(&sink));
            let work = move || {
                sink.write(file, |count| {
                    counters.written.fetch_add(count, Ordering::Relaxed);
                });
            };
            threads.push(thread("audit-file", work)?);
        }
        let deadline = watch::Sender::new(None);
        if config.http.url.is_set() {
            let delivery = Delivery::new(&config.http.webhook())?;
            let spool = Arc::new(spool(config, state_dir, &counters)?);
            let sink = Sink::new(delivery.shown().to_owned());
            sinks.push(Arc::clone(&sink));
            let sender = Sender {
                spool: Arc::clone(&spool),
                delivery,
                authorization_file: config.http.authorization_file.clone(),
                counters: Arc::clone(&counters),
                deadline: deadline.subscribe(),
            };
            let runtime = tokio::runtime::Handle::current();
            threads.push(thread("audit-send", move || sender.run(&runtime))?);
            let work = move || {
                sink.write(Arc::clone(&spool), |_| {});
                spool.close();
            };
            threads.push(thread("audit-spool", work)?);
        }
        let source = Source { instance: instance.to_string(), run: ConnectionId::random().to_string() };
        let (seq, on_failure) = (Mutex::new(0), config.on_failure);
        let stream = Arc::new(Stream { source, seq, sinks, on_failure, counters });
        stream.tell(&json!({"event": "started", "version": env!("CARGO_PKG_VERSION")}));
        Ok(Self { stream, threads, deadline })
    }

    /// Who is to be told, if records are written anywhere.
    #[must_use]
    pub fn witness(&self) -> Option<Arc<dyn Witness>> {
        (!self.stream.sinks.is_empty()).then(|| Arc::clone(&self.stream) as Arc<dyn Witness>)
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.stream.counters)
    }

    /// The file may have been moved away: begins a new one.
    pub fn reopen(&self) {
        for sink in &self.stream.sinks {
            sink.reopen();
        }
    }

    /// Writes what is left. To be called once nothing happens any more.
    pub async fn finish(self) {
        let Self { stream, threads, deadline } = self;
        stream.tell(&json!({"event": "stopped"}));
        deadline.send_replace(Some(tokio::time::Instant::now() + SEND_TIMEOUT));
        for sink in &stream.sinks {
            sink.end(Instant::now() + WRITE_TIMEOUT);
        }
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().filter_map(|thread| thread.join().err()).count()
        });
        if !matches!(tokio::time::timeout(FINISH_TIMEOUT, joined).await, Ok(Ok(0))) {
            tracing::error!("the end of the audit stream may be missing");
        }
    }
}

impl Stream {
    fn tell(&self, what: &serde_json::Value) {
        self.push(&Record::of_stream(&self.source, what.clone()));
    }

    fn push(&self, record: &Record) {
        self.counters.told.fetch_add(1, Ordering::Relaxed);
        // Held while it is put into the queues: their order is that of the numbers.
        let mut seq = self.seq.lock().unwrap_or_else(PoisonError::into_inner);
        *seq += 1;
        let line = Line { seq: *seq, text: record.line(*seq).into() };
        for sink in &self.sinks {
            let confess = |seq, lost: u64| {
                let record = Record::of_stream(&self.source, json!({"event": "lost", "count": lost}));
                Line { seq, text: record.line(seq).into() }
            };
            if !sink.queue.push(line.clone(), confess) {
                self.counters.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Witness for Stream {
    fn hear(&self, event: &Event<'_>) {
        // How long the engine took is no matter of who did what; which container somebody got is told apart.
        if matches!(event.what, Happening::Launched { .. } | Happening::Removed { .. }) {
            return;
        }
        self.push(&Record::of(&self.source, event));
    }

    fn wants_files(&self) -> bool {
        true
    }

    fn objects(&self) -> Option<&'static str> {
        let refuses = self.on_failure == OnFailure::Refuse;
        (refuses && self.sinks.iter().any(|sink| sink.is_failing()))
            .then_some("the audit stream cannot be written")
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({})", self.source.run)
    }
}

fn spool(config: &Config, state_dir: &Path, counters: &Arc<Counters>) -> Result<Spool, AuditError> {
    let folder = config.spool.dir.clone().unwrap_or_else(|| state_dir.join(SPOOL_FOLDER));
    Spool::open(&folder, config.spool.max_bytes.bytes(), Arc::clone(counters))
        .map_err(|reason| AuditError::Spool { path: folder.display().to_string(), reason })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, AuditError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(AuditError::Thread)
}

#[cfg(test)]
mod tests;
