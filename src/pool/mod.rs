//! Containers on loan: a lease is taken at the login and given back at the end, and what slips through is reaped.

mod lease;
mod reaper;

pub use lease::{LaunchError, LaunchState, Lease};
pub use reaper::Reaper;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::engine::{ContainerSpec, Engine};

/// Hands out containers.
#[derive(Clone, Debug)]
pub struct Pool {
    engine: Arc<dyn Engine>,
    reaper: Reaper,
    tasks: TaskTracker,
    launch_timeout: Duration,
}

impl Pool {
    /// Launches may take `launch_timeout`; their tasks run on `tasks`.
    #[must_use]
    pub fn new(
        engine: Arc<dyn Engine>,
        reaper: Reaper,
        tasks: TaskTracker,
        launch_timeout: Duration,
    ) -> Self {
        Self { engine, reaper, tasks, launch_timeout }
    }

    /// Takes a container on loan. Returns at once; the lease tells when the container is there.
    #[must_use]
    pub fn lease(&self, spec: ContainerSpec) -> Lease {
        Lease::start(self, spec)
    }
}

#[cfg(test)]
mod tests;
