//! Recordings: what happens in a session, on disk, to be played back. A session tells its [`Tap`], which never waits; a task
//! for each recording writes files. Knows neither SSH nor containers.

mod about;
mod config;
mod encode;
mod event;
mod list;
mod name;
mod read;
mod repair;
mod retention;
mod screen;
mod store;
mod tap;
mod totals;
mod utf8;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use about::{Change, Changes, Facts, Kind, TerminalFacts};
pub use config::{Config, Format};
pub use event::{Outcome, Stream};
pub use list::{Listed, list};
pub use read::{Entry, Form, ReadError, Reader, What};
pub use screen::{Filter, Keep};
pub use tap::{Left, Recording, Tap};
pub use totals::{Snapshot, Totals};
pub use utf8::Utf8;

use about::{Sidecar, format_name};
use encode::Encoder;
use name::Name;
use store::{Folder, Sink};
use writer::Writer;

use crate::ids::InstanceId;

/// How many of a container's changed files are written down. Past it the list says that there are more.
pub const CHANGES_MAX: usize = 1000;

/// Recordings that are being written to the disk at the same time; the others wait their turn. Past it a disk that is stuck
/// would hold the threads that others need, such as those on which passwords are checked.
const THREADS_MAX: usize = 32;

/// Everything that records in this process.
#[derive(Debug)]
pub struct Recorder {
    instance: InstanceId,
    totals: Arc<Totals>,
    tasks: TaskTracker,
    threads: Arc<Semaphore>,
    stop: CancellationToken,
    /// Folders in which nothing of an earlier run is left; what is unfinished there is our own.
    repaired: Mutex<Vec<PathBuf>>,
    kept: watch::Sender<Option<(Folder, Config)>>,
}

/// Where sessions that begin now are recorded.
#[derive(Clone, Debug)]
pub struct Archive {
    folder: Folder,
    config: Config,
    totals: Arc<Totals>,
    tasks: TaskTracker,
    threads: Arc<Semaphore>,
}

/// A folder that cannot be recorded to.
#[derive(Debug, thiserror::Error)]
#[error("recordings cannot be written to `{}`: {reason}", dir.display())]
pub struct Unusable {
    dir: PathBuf,
    #[source]
    reason: io::Error,
}

impl Recorder {
    /// Records nothing until it is told where. `instance` tells its unfinished files from other servers'.
    #[must_use]
    pub fn new(instance: InstanceId) -> Arc<Self> {
        let recorder = Arc::new(Self {
            instance,
            totals: Arc::default(),
            tasks: TaskTracker::new(),
            threads: Arc::new(Semaphore::new(THREADS_MAX)),
            stop: CancellationToken::new(),
            repaired: Mutex::default(),
            kept: watch::Sender::new(None),
        });
        let (kept, stop) = (recorder.kept.subscribe(), recorder.stop.clone());
        let totals = Arc::clone(&recorder.totals);
        recorder.tasks.spawn(stop.run_until_cancelled_owned(retention::run(kept, totals)));
        recorder
    }

    /// What all recordings have come to.
    #[must_use]
    pub fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }

    /// Makes sure of the folder, and closes what an earlier run left in it. `None` where nothing is to be recorded. To be
    /// followed by [`Recorder::keep`] once the configuration holds. Blocks on the disk.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn open(&self, config: &Config) -> Result<Option<Archive>, Unusable> {
        let Some(dir) = &config.dir else { return Ok(None) };
        let unusable = |reason| Unusable { dir: dir.clone(), reason };
        let folder = Folder::open(dir, &self.instance).map_err(unusable)?;
        let mut repaired = self.repaired.lock().unwrap_or_else(PoisonError::into_inner);
        let path = dir.canonicalize().map_err(unusable)?;
        if !repaired.contains(&path) {
            let count = repair::repair(&folder).map_err(unusable)?;
            if count > 0 {
                tracing::info!(count, dir = %dir.display(), "recordings of an earlier run closed");
            }
            self.totals.repair(count);
            repaired.push(path);
        }
        let (totals, tasks) = (Arc::clone(&self.totals), self.tasks.clone());
        let threads = Arc::clone(&self.threads);
        Ok(Some(Archive { folder, config: config.clone(), totals, tasks, threads }))
    }

    /// From now on this is what is kept, for as long as it says.
    pub fn keep(&self, archive: Option<&Archive>) {
        self.kept.send_replace(archive.map(|archive| (archive.folder.clone(), archive.config.clone())));
    }

    /// Waits until all recordings are complete, or for so long. No session may begin any more.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}

impl Archive {
    /// Begins to record a session. Never waits: the files are made by the task that writes them.
    #[must_use]
    pub fn begin(&self, facts: Facts) -> Recording {
        if !tap::has_room(&self.totals) {
            let (connection, session) = (&facts.connection, facts.session);
            tracing::warn!(%connection, session, "the disk of the recordings is stuck; a session is not recorded");
            self.totals.begin();
            self.totals.fail();
            return Recording::off();
        }
        let facts = facts.bounded();
        let started = SystemTime::now();
        let name = Name::new(started, &facts.connection, facts.session);
        let encoder = Encoder::new(&facts, self.config.format);
        let suffix = encoder.suffix();
        let mut sidecar = Sidecar::begin(&facts, self.folder.instance().as_str(), started);
        sidecar.input = self.config.input;
        format_name(encoder.format()).clone_into(&mut sidecar.format);
        sidecar.recording = Some(name.file(suffix));
        let (recording, drain) = tap::line(self.config.input, &self.totals);
        let (totals, threads) = (Arc::clone(&self.totals), Arc::clone(&self.threads));
        let bytes_max = self.config.bytes_max();
        let writer =
            Writer { facts, started, encoder, sidecar, bytes_max, drain, totals, threads, sink: None };
        let folder = self.folder.clone();
        self.tasks.spawn(writer.run(Box::new(move |sidecar| {
            let draft =
                folder.begin(&name, suffix, sidecar).inspect_err(|_| folder.discard(&name, suffix))?;
            Ok(Box::new(draft) as Box<dyn Sink>)
        })));
        recording
    }
}

#[cfg(test)]
mod tests;
