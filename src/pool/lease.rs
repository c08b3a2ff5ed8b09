//! A container on loan, from the moment it is asked for until it is given back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Pool;
use super::census::Who;
use super::home::Guest;
use super::launch::Launch;
use super::name::with_user;
use super::room::Admission;
use crate::engine::{Container, ContainerSpec, EngineError, LABEL_CONNECTION, LaunchStage};
use crate::events::Happening;
use crate::metrics::{Outcome, Way};

/// How long giving back may take before the reaper takes over, so that a slow engine holds nobody up.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(30);

/// From a container's being taken until it gets its new name.
const NAMED_AFTER: Duration = Duration::from_millis(250);

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
        let who = Who::of(&spec.labels);
        let tenancy =
            Tenancy { pool: pool.clone(), who, spec, state: state_sender, abandoned: abandoned.clone() };
        let admission = match pool.admit_now(&tenancy.who) {
            Ok(admission) => admission,
            Err(error) => {
                tenancy.refuse(error);
                removed_sender.send_replace(true);
                return Self { state, hold: Hold::Sole(Sole { abandoned, removed }) };
            }
        };
        if let Some(Admission::Warm(taken)) = &admission
            && tenancy.spec.files.is_empty()
        {
            // Whoever looks now finds it ready: there is nothing to wait for.
            tenancy.state.send_replace(LaunchState::Ready(Arc::clone(&taken.container)));
        }
        pool.tasks.spawn(async move {
            tenancy.run(admission).await;
            removed_sender.send_replace(true);
        });
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
    who: Who,
    spec: ContainerSpec,
    state: watch::Sender<LaunchState>,
    abandoned: CancellationToken,
}

impl Tenancy {
    /// Gets a container, keeps it until nobody wants it any more, and removes it. Without an admission there has to be
    /// room first.
    async fn run(self, admission: Option<Admission>) {
        let admission = match admission {
            Some(admission) => admission,
            None => match self.wait_for_room().await {
                Some(Ok(admission)) => admission,
                Some(Err(error)) => return self.refuse(error),
                None => return,
            },
        };
        match admission {
            Admission::Warm(taken) => {
                let connection = self.spec.labels.get(LABEL_CONNECTION);
                tracing::debug!(connection, container = %taken.container.id(), "a waiting container is taken");
                if let Some(container) = self.take(&taken.container).await {
                    tokio::join!(self.name(container.as_ref()), self.keep(container.as_ref()));
                    self.remove(container.as_ref()).await;
                }
                self.pool.reaper.take_back(&taken.labels);
                drop(taken.counted);
            }
            Admission::Cold(counted) => {
                // Before the engine can have anything of it that the reaper might find.
                self.pool.reaper.lend(&self.spec.labels);
                if let Some(container) = self.launch().run().await {
                    self.keep(container.as_ref()).await;
                    self.remove(container.as_ref()).await;
                }
                self.pool.reaper.take_back(&self.spec.labels);
                drop(counted);
            }
        }
    }

    async fn wait_for_room(&self) -> Option<Result<Admission, LaunchError>> {
        let admit = || self.pool.admit(&self.who);
        self.pool.admit_when_there_is_room(&self.who, &self.abandoned, admit).await
    }

    /// Takes one that had waited.
    async fn take(&self, container: &Arc<dyn Container>) -> Option<Arc<dyn Container>> {
        let (counted, begun) = (self.pool.metrics.launch(Way::Warm), Instant::now());
        let launch = self.launch();
        let furnished = launch.furnish(Arc::clone(container)).await;
        let outcome = if furnished.is_some() { Outcome::Ready } else { launch.unfurnished() };
        counted.ended(outcome);
        self.pool.tell_taken(&self.spec, outcome, begun.elapsed());
        furnished
    }

    async fn remove(&self, container: &dyn Container) {
        let begun = Instant::now();
        let is_gone = self.pool.remove(container).await;
        self.pool.tell(&self.spec, &Happening::Removed { is_gone, took: begun.elapsed() });
    }

    fn launch(&self) -> Launch<'_> {
        let Self { pool, spec, state, abandoned, .. } = self;
        Launch { pool, spec, state, abandoned }
    }

    fn refuse(&self, error: LaunchError) {
        self.pool.note_refusal(&error);
        let connection = self.spec.labels.get(LABEL_CONNECTION);
        tracing::warn!(connection, username = self.who.username, %error, "no container");
        self.state.send_replace(LaunchState::Failed(error));
    }

    /// Makes the engine's list say whose a container is that waited: its labels cannot. Not at once: what is short
    /// needs no name, and the first program none that delays it.
    async fn name(&self, container: &dyn Container) {
        tokio::select! {
            () = self.abandoned.cancelled() => return,
            () = sleep(NAMED_AFTER) => {}
        }
        let name = with_user(&self.spec.name, &self.who.username);
        if let Err(error) = container.rename(&name).await {
            tracing::info!(container = %container.id(), name, %error, "the container keeps its name");
        }
    }

    /// Returns when nobody wants the container any more.
    async fn keep(&self, container: &dyn Container) {
        tokio::select! {
            () = self.abandoned.cancelled() => {}
            reason = container.lost() => {
                self.pool.metrics.lost();
                let connection = self.spec.labels.get(LABEL_CONNECTION);
                tracing::warn!(connection, container = %container.id(), reason, "container lost");
                self.state.send_replace(LaunchState::Lost(reason));
            }
        }
        // A lost one may still be there, stopped; and who waits for the end of the lease waits for its removal.
        self.abandoned.cancelled().await;
    }
}
