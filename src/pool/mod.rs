//! Containers on loan: a lease is taken when it is due and given back at the end, and what slips through is reaped.
//! Who shares a container with whom, and which of them stay, is known here alone.

mod census;
mod files;
mod home;
mod launch;
mod lease;
mod reaper;

use census::Census;
use home::Homes;
pub use lease::{LaunchError, LaunchState, Lease};
pub use reaper::Reaper;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{ContainerSpec, Engine};
use crate::ids::InstanceId;
use crate::shutdown::Drain;

/// Hands out containers.
#[derive(Clone, Debug)]
pub struct Pool {
    engine: Arc<dyn Engine>,
    reaper: Reaper,
    tasks: TaskTracker,
    /// Cancelled when the server is going down.
    draining: CancellationToken,
    limits: Limits,
    tenure: Tenure,
    census: Census,
    homes: Homes,
}

/// Who shares a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The sessions of a connection.
    #[default]
    Connection,
    /// Nobody: each session has its own.
    Session,
    /// All connections of a user name, also later ones.
    Persistent,
}

/// Whose containers are, and for how long.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// Who shares one.
    pub mode: Mode,
    /// How long a persistent one stays without a connection; `None` for ever.
    pub idle_timeout: Option<Duration>,
    /// By which we know our own after a restart.
    pub instance: InstanceId,
}

/// When a container may be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A client has logged in.
    Login,
    /// A session's program is to run.
    Session,
}

/// Bounds on what a pool hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For everything until a container runs.
    pub launch_timeout: Duration,
    /// Containers at a time; 0 for any number.
    pub containers: u32,
    /// Containers at a time of one user name; 0 for any number.
    pub containers_per_user: u32,
}

impl Pool {
    /// The tasks of launches run on the drain's tracker.
    #[must_use]
    pub fn new(
        engine: Arc<dyn Engine>,
        reaper: Reaper,
        drain: &Drain,
        limits: Limits,
        tenure: Tenure,
    ) -> Self {
        Self {
            engine,
            reaper,
            tasks: drain.tasks.clone(),
            draining: drain.begun.clone(),
            limits,
            tenure,
            census: Census::default(),
            homes: Homes::default(),
        }
    }

    /// The same pool for what comes from now on, with another engine, other limits and other tenants' rights. It knows
    /// of the same containers.
    #[must_use]
    pub fn variant(
        &self,
        engine: Arc<dyn Engine>,
        limits: Limits,
        mode: Mode,
        idle_timeout: Option<Duration>,
    ) -> Self {
        let tenure = Tenure { mode, idle_timeout, ..self.tenure.clone() };
        Self { engine, limits, tenure, ..self.clone() }
    }

    /// Takes a container on loan, if one is due at this moment. Returns at once; the lease tells when the container is
    /// there. `spec` has to be unlike any other's by its name and labels.
    #[must_use]
    pub fn lease(&self, moment: Moment, spec: ContainerSpec) -> Option<Lease> {
        match (self.tenure.mode, moment) {
            (Mode::Connection, Moment::Login) | (Mode::Session, Moment::Session) => {
                Some(Lease::sole(self, spec))
            }
            (Mode::Persistent, Moment::Login) => Some(Lease::shared(self.visit(spec))),
            (Mode::Connection | Mode::Persistent, Moment::Session) | (Mode::Session, Moment::Login) => None,
        }
    }

    /// Whether containers stay when they are given back: what runs in them has to be ended by itself then.
    #[must_use]
    pub fn keeps_containers(&self) -> bool {
        self.tenure.mode == Mode::Persistent
    }
}

#[cfg(test)]
mod tests;
