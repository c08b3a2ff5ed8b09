//! Removes what nobody could: what an earlier run left, what an engine's fault kept, what came after its launch was
//! given up. Whatever carries our instance's label and is on loan to nobody goes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, EngineError};
use crate::ids::{ContainerId, InstanceId};

/// First pause after a failure; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause between tries while the engine is away.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Between two looks at what the engine has of ours.
const TICK: Duration = Duration::from_mins(1);
/// How long the first look may hold up the start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A handle to what is on loan and what is to be removed. Neither can outgrow the number of containers that we made
/// and that still exist, so they need no limits of their own.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    books: Mutex<Books>,
    work: Notify,
}

#[derive(Debug, Default)]
struct Books {
    /// Connections whose container is on its way, on loan, or being removed by its own task.
    on_loan: HashSet<String>,
    /// Containers that their own task could not remove.
    left: HashSet<ContainerId>,
    /// A look at the engine is due, whatever the time.
    look: bool,
}

impl Reaper {
    /// A connection's container is its own task's business from here on.
    pub(super) fn lend(&self, connection: &str) {
        self.with_books(|books| books.on_loan.insert(connection.to_owned()));
    }

    /// The task has done what it could. `sure`: nothing of it is left.
    pub(super) fn take_back(&self, connection: &str, sure: bool) {
        self.with_books(|books| {
            books.on_loan.remove(connection);
            books.look |= !sure;
        });
        if !sure {
            self.shared.work.notify_one();
        }
    }

    /// Takes over a container that could not be removed. Never waits.
    pub(super) fn take(&self, id: &ContainerId) {
        self.with_books(|books| books.left.insert(id.clone()));
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
            if self.is_idle() {
                tokio::select! {
                    () = self.shared.work.notified() => {}
                    () = stop.cancelled() => return,
                    () = sleep(TICK) => self.with_books(|books| books.look = true),
                }
            }
            match self.work(engine.as_ref(), &instance).await {
                Ok(()) => pause = PAUSE_MIN,
                Err(error) => {
                    tracing::warn!(%error, "cannot remove a container yet");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
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
                    self.with_books(|books| books.left.remove(&id));
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Notes whatever the engine has of ours that is on loan to nobody.
    async fn look(&self, engine: &dyn Engine, instance: &InstanceId) -> Result<(), EngineError> {
        let owned = engine.list_owned(instance).await?;
        self.with_books(|books| {
            for container in owned {
                let lent = container.connection.is_some_and(|connection| books.on_loan.contains(&connection));
                if !lent {
                    books.left.insert(container.id);
                }
            }
        });
        Ok(())
    }

    fn with_books<T>(&self, change: impl FnOnce(&mut Books) -> T) -> T {
        change(&mut self.shared.books.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
