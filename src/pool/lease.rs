//! A container on loan, from the moment it is asked for until it is given back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Pool;
use super::home::Guest;
use super::launch::Launch;
use crate::engine::{Container, ContainerSpec, EngineError, LABEL_CONNECTION, LABEL_USERNAME, LaunchStage};

/// How long giving back may take before the reaper takes over, so that a slow engine holds nobody up.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(30);

/// A container on loan. Give it back with [`Lease::give_back`]; dropping it leaves the removal to its task.
#[derive(Debug)]
pub struct Lease {
    state: watch::Receiver<LaunchState>,
    hold: Hold,
}

/// What a lease means to its container.
#[derive(Debug)]
enum Hold {
    /// The container goes with the lease.
    Sole(Sole),
    /// The container stays; others may have it on loan, too.
    Shared(Guest),
}

#[derive(Debug)]
struct Sole {
    abandoned: CancellationToken,
    removed: watch::Receiver<bool>,
}

/// Where the container of a lease stands.
#[derive(Clone, Debug)]
pub enum LaunchState {
    /// On its way.
    InProgress(LaunchStage),
    /// Running.
    Ready(Arc<dyn Container>),
    /// It will not come.
    Failed(LaunchError),
    /// It was there, and ended behind our back, for this reason.
    Lost(String),
}

/// Why there is no container.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LaunchError {
    /// The engine's answer.
    #[error("{0}")]
    Engine(Arc<EngineError>),
    /// It took too long.
    #[error("no container within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// There are as many as there may be.
    #[error("there are as many containers as this server allows; try again later")]
    TooMany,
    /// The user has as many as one may have.
    #[error(
        "you have {0} containers already, as many as one user may have here; end a session and try again"
    )]
    TooManyOfUser(u32),
}

impl Lease {
    /// One whose container goes with it.
    pub(super) fn sole(pool: &Pool, spec: ContainerSpec) -> Self {
        let (state_sender, state) = watch::channel(LaunchState::InProgress(LaunchStage::Preparing));
        let (removed_sender, removed) = watch::channel(false);
        let abandoned = CancellationToken::new();
        let username = spec.labels.get(LABEL_USERNAME).map_or("", String::as_str);
        match pool.census.count(username, &pool.limits) {
            Ok(counted) => {
                // Before the engine can have anything of it that the reaper might find.
                pool.reaper.lend(&spec.labels);
                let tenancy =
                    Tenancy { pool: pool.clone(), state: state_sender, abandoned: abandoned.clone() };
                pool.tasks.spawn(async move {
                    tenancy.run(spec).await;
                    drop(counted);
                    removed_sender.send_replace(true);
                });
            }
            Err(error) => {
                let connection = spec.labels.get(LABEL_CONNECTION);
                tracing::warn!(connection, username, %error, "no container");
                state_sender.send_replace(LaunchState::Failed(error));
                removed_sender.send_replace(true);
            }
        }
        Self { state, hold: Hold::Sole(Sole { abandoned, removed }) }
    }

    /// One whose container stays.
    pub(super) fn shared(guest: Guest) -> Self {
        Self { state: guest.state(), hold: Hold::Shared(guest) }
    }

    /// Follows the container; each session holds one of these.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LaunchState> {
        self.state.clone()
    }

    /// Gives the container back. Where it goes with the lease, waits until it is gone, or until the reaper has it.
    pub async fn give_back(self) {
        match self.hold {
            Hold::Sole(mut sole) => {
                sole.abandoned.cancel();
                if timeout(GIVE_BACK_TIMEOUT, sole.removed.wait_for(|removed| *removed)).await.is_err() {
                    tracing::warn!("the engine takes long to remove a container; its task goes on");
                }
            }
            Hold::Shared(guest) => drop(guest),
        }
    }
}

impl Drop for Sole {
    fn drop(&mut self) {
        // The tenancy's task owns the clean-up; it only needs to hear that nobody waits any more.
        self.abandoned.cancel();
    }
}

/// The task behind a sole lease: it outlives every wait of others, so no engine call is ever cut half-way.
struct Tenancy {
    pool: Pool,
    state: watch::Sender<LaunchState>,
    abandoned: CancellationToken,
}

impl Tenancy {
    async fn run(self, spec: ContainerSpec) {
        self.keep(&spec).await;
        self.pool.reaper.take_back(&spec.labels);
    }

    /// Launches a container, keeps it until nobody wants it any more, and removes it.
    async fn keep(&self, spec: &ContainerSpec) {
        let Self { pool, state, abandoned } = self;
        let Some(container) = (Launch { pool, spec, state, abandoned }).run().await else { return };
        tokio::select! {
            () = abandoned.cancelled() => {}
            reason = container.lost() => {
                let connection = spec.labels.get(LABEL_CONNECTION);
                tracing::warn!(connection, container = %container.id(), reason, "container lost");
                state.send_replace(LaunchState::Lost(reason));
            }
        }
        // A lost one may still be there, stopped; and who waits for the end of the lease waits for its removal.
        abandoned.cancelled().await;
        pool.remove(container.as_ref()).await;
    }
}
