//! The connections that live, as whoever runs the server gets hold of them: what containers they have, and a way to end
//! them. A connection is on it until nothing of it is left, its containers included.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Cut;
use crate::ids::ConnectionId;
use crate::pool::LaunchState;

/// The connections that live.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    live: Mutex<BTreeMap<ConnectionId, Live>>,
    /// Told whenever one has gone.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Live {
    cut: watch::Sender<Option<Cut>>,
    /// What is still there of it.
    held: BTreeMap<u64, Held>,
    next: u64,
}

/// What somebody still has of a connection.
#[derive(Debug)]
enum Held {
    Connection,
    Container { session: Option<u32>, state: watch::Receiver<LaunchState> },
}

/// A container of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerOf {
    /// The session that has it for itself; `None` where the connection has it.
    pub session: Option<u32>,
    /// `starting`, `running`, `failed`, `lost`.
    pub state: &'static str,
    /// The engine's id, once there is one.
    pub id: Option<String>,
}

/// A connection's own end of the registry.
#[derive(Debug)]
pub struct Registration {
    registry: Registry,
    id: ConnectionId,
    cut: watch::Sender<Option<Cut>>,
}

/// Keeps a connection on the registry until it is dropped.
#[derive(Debug)]
pub struct Hold {
    registry: Registry,
    id: ConnectionId,
    number: u64,
}

impl Registry {
    /// For a new connection, which is on the registry once something of it is held.
    #[must_use]
    pub fn register(&self, id: ConnectionId) -> Registration {
        Registration { registry: self.clone(), id, cut: watch::Sender::new(None) }
    }

    /// How many live.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live().len()
    }

    /// Those that live, by their ids.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.live().keys().cloned().collect()
    }

    /// The containers that a connection has.
    #[must_use]
    pub fn containers(&self, connection: &ConnectionId) -> Vec<ContainerOf> {
        let live = self.live();
        let held = live.get(connection).into_iter().flat_map(|live| live.held.values());
        held.filter_map(|held| match held {
            Held::Connection => None,
            Held::Container { session, state } => Some(look(*session, &state.borrow())),
        })
        .collect()
    }

    /// Ends a connection for this reason. Says whether there is one.
    #[must_use]
    pub fn end(&self, connection: &ConnectionId, cut: Cut) -> bool {
        let live = self.live();
        let found = live.get(connection);
        if let Some(found) = found {
            found.cut.send_replace(Some(cut));
        }
        found.is_some()
    }

    /// Waits until none of these is left. Cancel safe.
    pub async fn gone(&self, connections: &[ConnectionId]) {
        let mut changed = self.0.changed.subscribe();
        while connections.iter().any(|id| self.live().contains_key(id)) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until one has gone. Cancel safe.
    pub async fn fewer(&self) {
        // The sender is ours: it cannot have gone.
        drop(self.0.changed.subscribe().changed().await);
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, id: &ConnectionId, number: u64) {
        let mut live = self.live();
        let Some(found) = live.get_mut(id) else { return };
        found.held.remove(&number);
        if found.held.is_empty() {
            live.remove(id);
            drop(live);
            self.0.changed.send_replace(());
        }
    }
}

impl Registration {
    /// From now on the connection lives.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.keep(Held::Connection)
    }

    /// From now on it has this container, for all of it or for one session.
    #[must_use]
    pub fn hold_container(&self, session: Option<u32>, state: watch::Receiver<LaunchState>) -> Hold {
        self.keep(Held::Container { session, state })
    }

    /// Waits until it is to be ended, and says why. Cancel safe.
    pub async fn cut(&self) -> Cut {
        let mut cut = self.cut.subscribe();
        let reason = cut.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    fn keep(&self, held: Held) -> Hold {
        let mut live = self.registry.live();
        let mine = live.entry(self.id.clone()).or_insert_with(|| Live {
            cut: self.cut.clone(),
            held: BTreeMap::new(),
            next: 0,
        });
        let number = mine.next;
        mine.next += 1;
        mine.held.insert(number, held);
        Hold { registry: self.registry.clone(), id: self.id.clone(), number }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.registry.release(&self.id, self.number);
    }
}

fn look(session: Option<u32>, state: &LaunchState) -> ContainerOf {
    let (state, id) = match state {
        LaunchState::InProgress(_) => ("starting", None),
        LaunchState::Ready(container) => ("running", Some(container.id().as_str().to_owned())),
        LaunchState::Failed(_) => ("failed", None),
        LaunchState::Lost(_) => ("lost", None),
    };
    ContainerOf { session, state, id }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::engine::LaunchStage;

    #[tokio::test]
    async fn a_connection_is_there_until_the_last_of_its_containers_has_gone() {
        let registry = Registry::default();
        let id = ConnectionId::random();
        let connection = registry.register(id.clone());
        assert_eq!(registry.count(), 0);

        let held = connection.hold();
        let (_state, starting) = watch::channel(LaunchState::InProgress(LaunchStage::Preparing));
        let container = connection.hold_container(Some(1), starting);
        let expected = ContainerOf { session: Some(1), state: "starting", id: None };
        assert_eq!(registry.containers(&id), [expected]);
        drop(held);
        let waiting = registry.clone();
        let ids = [id.clone()];
        let mut gone = Box::pin(waiting.gone(&ids));
        assert!(timeout(Duration::from_millis(10), &mut gone).await.is_err());

        drop(container);

        gone.await;
        assert_eq!(registry.connections(), []);
        assert!(!registry.end(&id, Cut::Draining));
    }

    #[tokio::test]
    async fn whoever_is_to_end_hears_why_also_when_it_listens_late() {
        let registry = Registry::default();
        let id = ConnectionId::random();
        let connection = registry.register(id.clone());
        let _held = connection.hold();

        assert!(registry.end(&id, Cut::Operator("maintenance".to_owned())));

        let cut = connection.cut().await;
        assert_eq!(cut.to_string(), "an operator ended this connection: maintenance");
        assert_eq!(Cut::Operator(String::new()).to_string(), "an operator ended this connection");
    }
}
