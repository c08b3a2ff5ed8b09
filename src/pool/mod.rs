//! Containers on loan: a lease is taken when it is due and given back at the end, and what slips through is reaped.
//! Some wait for their lease, started already; a container is on loan once and never again. Who shares a container with whom, and which of them stay, is known here alone.

mod census;
pub mod config;
mod files;
mod home;
mod launch;
mod lease;
mod name;
mod reaper;
mod room;
mod shelf;
mod stocker;
mod tally;
mod told;
mod trouble;

use census::Census;
use home::Homes;
pub use lease::{LaunchError, LaunchState, Lease};
pub use reaper::Reaper;
use shelf::Shelves;
pub use shelf::Stock;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{ContainerSpec, Engine, Starts};
use crate::events::Events;
use crate::ids::InstanceId;
use crate::metrics::Containers;
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
    /// By what the containers that wait for somebody are known to be of use here; `None` where none are.
    edition: Option<Edition>,
    starts: Starts,
    census: Census,
    homes: Homes,
    shelves: Shelves,
    metrics: Containers,
    events: Events,
}

/// Containers of one edition are made alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edition(pub u64);

/// What differs from one profile's pool to another's, besides the engine.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Bounds on what it hands out.
    pub limits: Limits,
    /// Who shares a container.
    pub mode: Mode,
    /// How long a persistent one stays without a connection; `None` for ever.
    pub idle_timeout: Option<Duration>,
    /// How its containers are made; `None` where they are like nobody else's.
    pub edition: Option<Edition>,
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
    /// Containers at a time of the profile; 0 for any number.
    pub containers_of_profile: u32,
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
            edition: None,
            starts: Starts::default(),
            census: Census::default(),
            homes: Homes::default(),
            shelves: Shelves::default(),
            metrics: Containers::default(),
            events: Events::default(),
        }
    }

    /// The same pool, with no more containers being started at once than that.
    #[must_use]
    pub fn with_starts(self, starts: Starts) -> Self {
        Self { starts, ..self }
    }

    /// The same pool for what comes from now on, with another engine and on other terms. It knows of the same
    /// containers.
    #[must_use]
    pub fn variant(&self, engine: Arc<dyn Engine>, terms: Terms) -> Self {
        let Terms { limits, mode, idle_timeout, edition } = terms;
        let tenure = Tenure { mode, idle_timeout, ..self.tenure.clone() };
        Self { engine, limits, tenure, edition, ..self.clone() }
    }

    /// Takes a container on loan, if one is due at this moment: one that waits, else a new one. Returns at once; the
    /// lease tells when the container is there. `spec` has to be unlike any other's by its name and labels.
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

    /// By what its containers are known to be made alike.
    #[must_use]
    pub fn edition(&self) -> Option<Edition> {
        self.edition
    }

    /// Whether a connection has a container that its sessions share.
    #[must_use]
    pub fn serves_connections(&self) -> bool {
        self.tenure.mode != Mode::Session
    }

    /// Whether containers stay when they are given back: what runs in them has to be ended by itself then.
    #[must_use]
    pub fn keeps_containers(&self) -> bool {
        self.tenure.mode == Mode::Persistent
    }
}

#[cfg(test)]
mod tests;
