//! Removes what nobody could: what an earlier run left, what an engine's fault kept, what came after its launch was
//! given up. Whatever carries our instance's label and is on loan to nobody goes.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, EngineError, OwnedContainer};
use crate::ids::{ContainerId, InstanceId};
use crate::metrics;

/// First pause after a failure; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause between tries while the engine is away.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a container may come late whose create was not answered: until then we look again and again.
const LATE_CREATE_MAX: Duration = Duration::from_mins(3);
/// How long we look for it at least when the server ends; the next start removes what comes later still.
const LATE_CREATE_MIN: Duration = Duration::from_secs(3);
/// Between two looks for what may come late.
const LATE_TICK: Duration = Duration::from_secs(1);
/// Between two looks at what the engine has of ours.
const TICK: Duration = Duration::from_mins(1);
/// How long the first look may hold up the start.
const START_TIMEOUT: Duration = Duration::from_secs(3);

/// A handle to what is on loan and what is to be removed. Neither can outgrow the number of containers that we made
/// and that still exist, so they need no limits of their own.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    shared: Arc<Shared>,
    metrics: metrics::Reaper,
}

#[derive(Debug, Default)]
struct Shared {
    books: Mutex<Books>,
    work: Notify,
}

type Labels = BTreeMap<String, String>;

#[derive(Debug, Default)]
struct Books {
    /// Labels of what is on its way, on loan, or being removed by its own task.
    on_loan: HashSet<Labels>,
    /// Containers that their own task could not remove.
    left: HashSet<ContainerId>,
    /// A look at the engine is due, whatever the time.
    look: bool,
    /// Labels of what may come late, since its create was not answered, and since when.
    unanswered: Vec<(Labels, Instant)>,
}

impl Reaper {
    /// One whose work is counted.
    #[must_use]
    pub fn counted_by(metrics: metrics::Reaper) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// What carries these labels is its own task's business from here on.
    pub(super) fn lend(&self, labels: &Labels) {
        self.with_books(|books| books.on_loan.insert(labels.clone()));
    }

    /// The task has done what it could.
    pub(super) fn take_back(&self, labels: &Labels) {
        self.with_books(|books| books.on_loan.remove(labels));
    }

    /// Looks for what carries these labels, now and for a while: nobody knows whether it will come. Never waits.
    pub(super) fn search(&self, labels: &Labels) {
        self.with_books(|books| {
            books.look = true;
            books.unanswered.retain(|(_, since)| since.elapsed() < LATE_CREATE_MAX);
            books.unanswered.push((labels.clone(), Instant::now()));
        });
        self.shared.work.notify_one();
    }

    /// Takes over a container that could not be removed. Never waits.
    pub(super) fn take(&self, id: &ContainerId) {
        if self.with_books(|books| books.left.insert(id.clone())) {
            self.metrics.found(1);
        }
        self.shared.work.notify_one();
    }

    /// Whether nothing is known to be left.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.with_books(|books| books.left.is_empty() && !books.look)
    }

    /// The look at the start, which finds what an earlier run left. What cannot be done in time is done later.
    pub async fn start(&self, engine: &dyn Engine, instance: &InstanceId) {
        match timeout(START_TIMEOUT, self.look(engine, instance)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::warn!(%error, "cannot look for leftovers of an earlier run yet"),
            Err(_) => tracing::warn!("the engine takes long to tell what an earlier run left"),
        }
        self.with_books(|books| books.look = true);
    }

    /// Works until `stop`, and then until nothing is left to do; whoever stops it sets the deadline.
    pub async fn run(self, engine: Arc<dyn Engine>, instance: InstanceId, stop: CancellationToken) {
        let mut pause = PAUSE_MIN;
        loop {
            if stop.is_cancelled() && !self.expects_late(LATE_CREATE_MIN) {
                // The next start looks anyway; only what we know of is worth a wait.
                self.with_books(|books| books.look = false);
            }
            if self.is_idle() {
                let tick = if self.expects_late(LATE_CREATE_MAX) { LATE_TICK } else { TICK };
                tokio::select! {
                    () = self.shared.work.notified() => {}
                    () = stop.cancelled(), if !self.expects_late(LATE_CREATE_MIN) => return,
                    () = sleep(tick) => self.with_books(|books| books.look = true),
                }
            }
            match self.work(engine.as_ref(), &instance).await {
                Ok(()) => pause = PAUSE_MIN,
                Err(error) => {
                    self.metrics.failed();
                    tracing::warn!(%error, "cannot remove a container yet");
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = stop.cancelled() => sleep(PAUSE_MIN).await,
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Whether a create was not answered within this time.
    fn expects_late(&self, within: Duration) -> bool {
        self.with_books(|books| books.unanswered.iter().any(|(_, since)| since.elapsed() < within))
    }

    async fn work(&self, engine: &dyn Engine, instance: &InstanceId) -> Result<(), EngineError> {
        if self.with_books(|books| std::mem::take(&mut books.look))
            && let Err(error) = self.look(engine, instance).await
        {
            self.with_books(|books| books.look = true);
            return Err(error);
        }
        let left: Vec<ContainerId> = self.with_books(|books| books.left.iter().cloned().collect());
        let mut failed = None;
        for id in left {
            // One that cannot be removed must not keep the others.
            match engine.remove(&id).await {
                Ok(()) => {
                    tracing::info!(container = %id, "reaped");
                    self.metrics.removed();
                    self.with_books(|books| books.left.remove(&id));
                }
                Err(error) => failed = Some(error),
            }
        }
        self.metrics.left(self.with_books(|books| books.left.len()));
        failed.map_or(Ok(()), Err)
    }

    /// Notes whatever the engine has of ours that is on loan to nobody, except for what outlives its connections.
    async fn look(&self, engine: &dyn Engine, instance: &InstanceId) -> Result<(), EngineError> {
        let owned = engine.list_owned(instance).await?;
        let (found, left) = self.with_books(|books| {
            let before = books.left.len();
            for container in owned {
                let has_all = |labels: &Labels| carries(&container, labels);
                let is_lent = books.on_loan.iter().any(has_all);
                let is_late = books.unanswered.iter().any(|(labels, _)| has_all(labels));
                if !is_lent && (is_late || !container.is_persistent()) {
                    books.left.insert(container.id);
                }
            }
            (books.left.len() - before, books.left.len())
        });
        self.metrics.found(found);
        self.metrics.left(left);
        Ok(())
    }

    fn with_books<T>(&self, change: impl FnOnce(&mut Books) -> T) -> T {
        change(&mut self.shared.books.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn carries(owned: &OwnedContainer, labels: &Labels) -> bool {
    labels.iter().all(|(name, value)| owned.label(name) == Some(value))
}
