//! Removes what nobody could: at the start what a crashed predecessor left, later what an engine's fault kept.

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
/// How long the look for a predecessor's containers may hold up the start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A handle to the list of what is to be removed. Its length is bounded by the number of containers we ever made
/// and could not remove, so it needs no limit of its own.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    todo: Mutex<Todo>,
    work: Notify,
}

#[derive(Debug, Default, Clone)]
struct Todo {
    /// Containers to remove.
    containers: HashSet<ContainerId>,
    /// Connections whose containers are to be looked for: the engine did not say whether it made one.
    connections: HashSet<String>,
}

impl Reaper {
    /// Takes over a container that could not be removed. Never waits.
    pub fn take(&self, id: &ContainerId) {
        self.with_todo(|todo| todo.containers.insert(id.clone()));
        self.shared.work.notify_one();
    }

    /// Looks for containers of a connection and removes them. Never waits.
    pub fn search(&self, connection: &str) {
        self.with_todo(|todo| todo.connections.insert(connection.to_owned()));
        self.shared.work.notify_one();
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.with_todo(|todo| todo.containers.is_empty() && todo.connections.is_empty())
    }

    /// Removes everything that carries the instance's label. For the start, when nothing is on loan yet.
    pub async fn reap_leftovers(engine: &dyn Engine, instance: &InstanceId) {
        let reap = async {
            for left in engine.list_owned(instance).await? {
                engine.remove(&left.id).await?;
                tracing::info!(container = %left.id, connection = left.connection, "removed a leftover");
            }
            Ok::<_, EngineError>(())
        };
        match timeout(START_TIMEOUT, reap).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot look for leftovers of an earlier run"),
            Err(_) => tracing::warn!("the engine takes long to say what an earlier run left"),
        }
    }

    /// Works until `stop`, and then until nothing is left to do; whoever stops it sets the deadline.
    pub async fn run(self, engine: Arc<dyn Engine>, instance: InstanceId, stop: CancellationToken) {
        let mut pause = PAUSE_MIN;
        loop {
            if self.is_idle() {
                tokio::select! {
                    () = self.shared.work.notified() => {}
                    () = stop.cancelled() => return,
                }
            }
            match self.work_through(engine.as_ref(), &instance).await {
                Ok(()) => pause = PAUSE_MIN,
                Err(error) => {
                    tracing::warn!(%error, "cannot remove a container yet");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    async fn work_through(&self, engine: &dyn Engine, instance: &InstanceId) -> Result<(), EngineError> {
        let todo = self.with_todo(|todo| todo.clone());
        if !todo.connections.is_empty() {
            for owned in engine.list_owned(instance).await? {
                if owned.connection.is_some_and(|connection| todo.connections.contains(&connection)) {
                    engine.remove(&owned.id).await?;
                }
            }
            self.with_todo(|list| {
                list.connections.retain(|connection| !todo.connections.contains(connection));
            });
        }
        for id in &todo.containers {
            engine.remove(id).await?;
            tracing::info!(container = %id, "reaped");
            self.with_todo(|list| list.containers.remove(id));
        }
        Ok(())
    }

    fn with_todo<T>(&self, change: impl FnOnce(&mut Todo) -> T) -> T {
        change(&mut self.shared.todo.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
