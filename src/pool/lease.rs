//! A container on loan, from the moment it is asked for until it is removed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Pool, Reaper};
use crate::engine::{
    Container, ContainerSpec, Engine, EngineError, LABEL_CONNECTION, LaunchStage, LaunchWatch,
};

/// How long giving back may take before the reaper takes over, so that a slow engine holds nobody up.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(30);

/// A container on loan. Give it back with [`Lease::give_back`]; dropping it leaves the removal to its task.
#[derive(Debug)]
pub struct Lease {
    state: watch::Receiver<LaunchState>,
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
}

impl Lease {
    pub(super) fn start(pool: &Pool, spec: ContainerSpec) -> Self {
        let (state_sender, state) = watch::channel(LaunchState::InProgress(LaunchStage::Preparing));
        let (removed_sender, removed) = watch::channel(false);
        let abandoned = CancellationToken::new();
        let tenancy = Tenancy {
            engine: Arc::clone(&pool.engine),
            reaper: pool.reaper.clone(),
            connection: spec.labels.get(LABEL_CONNECTION).cloned().unwrap_or_default(),
            state: state_sender,
            abandoned: abandoned.clone(),
            launch_timeout: pool.launch_timeout,
        };
        // Before the engine can have anything of it that the reaper might find.
        tenancy.reaper.lend(&tenancy.connection);
        pool.tasks.spawn(async move {
            tenancy.run(spec).await;
            removed_sender.send_replace(true);
        });
        Self { state, abandoned, removed }
    }

    /// Follows the container; each session of the connection holds one of these.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LaunchState> {
        self.state.clone()
    }

    /// Gives the container back and waits until it is gone, or until the reaper has it.
    pub async fn give_back(mut self) {
        self.abandoned.cancel();
        if timeout(GIVE_BACK_TIMEOUT, self.removed.wait_for(|removed| *removed)).await.is_err() {
            tracing::warn!("the engine takes long to remove a container; its task goes on");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The tenancy's task owns the clean-up; it only needs to hear that nobody waits any more.
        self.abandoned.cancel();
    }
}

/// The task behind a lease: it outlives every wait of others, so no engine call is ever cut half-way.
struct Tenancy {
    engine: Arc<dyn Engine>,
    reaper: Reaper,
    connection: String,
    state: watch::Sender<LaunchState>,
    abandoned: CancellationToken,
    launch_timeout: Duration,
}

/// How a launch ended, for the one who cleans up.
enum Launched {
    Container(Arc<dyn Container>),
    Nothing { maybe_left: bool },
}

impl Tenancy {
    async fn run(self, spec: ContainerSpec) {
        let sure = match self.launch(&spec).await {
            Launched::Container(container) => {
                self.abandoned.cancelled().await;
                self.remove(container.as_ref()).await;
                true
            }
            Launched::Nothing { maybe_left } => !maybe_left,
        };
        self.reaper.take_back(&self.connection, sure);
    }

    /// Runs the launch to its end, whoever has gone meanwhile; a late container is removed.
    async fn launch(&self, spec: &ContainerSpec) -> Launched {
        let watch = LaunchWatch { abandoned: self.abandoned.clone(), ..LaunchWatch::default() };
        let mut stage = watch.stage.subscribe();
        let deadline = sleep_until(Instant::now() + self.launch_timeout);
        tokio::pin!(deadline);
        let launch = self.engine.launch(spec, &watch);
        tokio::pin!(launch);
        let mut late = false;
        let result = loop {
            tokio::select! {
                result = &mut launch => break result,
                () = &mut deadline, if !late => {
                    late = true;
                    self.state.send_replace(LaunchState::Failed(LaunchError::TimedOut(self.launch_timeout)));
                    self.abandoned.cancel();
                }
                Ok(()) = stage.changed(), if !late => {
                    let stage = stage.borrow_and_update().clone();
                    self.state.send_replace(LaunchState::InProgress(stage));
                }
            }
        };
        match result {
            Ok(container) if late => {
                self.remove(container.as_ref()).await;
                Launched::Nothing { maybe_left: false }
            }
            Ok(container) => {
                self.state.send_replace(LaunchState::Ready(Arc::clone(&container)));
                Launched::Container(container)
            }
            Err(failure) => {
                if matches!(failure.error, EngineError::Abandoned) {
                    tracing::debug!(
                        connection = self.connection,
                        "the client left before its container came"
                    );
                } else if !late {
                    tracing::warn!(connection = self.connection, error = %failure.error, "no container");
                    let error = LaunchError::Engine(Arc::new(failure.error));
                    self.state.send_replace(LaunchState::Failed(error));
                }
                Launched::Nothing { maybe_left: failure.maybe_left }
            }
        }
    }

    async fn remove(&self, container: &dyn Container) {
        if let Err(error) = container.remove().await {
            tracing::warn!(%error, container = %container.id(), "left for the reaper");
            self.reaper.take(container.id());
        }
    }
}
