//! What connections need from the rest of the house.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::admission::ConnectionLimits;
use super::transport::Transport;
use crate::auth::{Caller, Door, Facts};
use crate::events::Events;
use crate::identity::Identity;
use crate::ids::InstanceId;
use crate::policy::Rules;
use crate::pool::Pool;
use crate::recording::Archive;
use crate::session::{Budgets, Registry};
use crate::shutdown::Drain;

/// What connections need from the rest of the house.
pub struct Services {
    /// Who may come in.
    pub door: Arc<Door>,
    /// What they get.
    pub profiles: Arc<dyn Profiles>,
    /// How much input may be kept for programs that do not read.
    pub budgets: Budgets,
    /// Whose containers these are.
    pub instance: InstanceId,
    /// Owner of all tasks.
    pub drain: Drain,
    /// Who wants to know what happens.
    pub events: Events,
    /// Where sessions are recorded, if they are.
    pub archive: Option<Archive>,
    /// Where connections can be found and ended.
    pub registry: Registry,
    /// Shown before the login; empty for none.
    pub banner: String,
    /// What sessions get to end by themselves when the server goes down.
    pub drain_grace: Duration,
    /// How many connections there may be.
    pub connection_limits: ConnectionLimits,
    /// The transport's settings.
    pub transport: Transport,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// What a user gets.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name; empty for what everybody gets.
    pub name: String,
    /// What containers are made of, as configured.
    pub image: String,
    /// What may be started.
    pub rules: Rules,
    /// Where containers come from.
    pub pool: Pool,
    /// Session channels at a time on one connection.
    pub sessions_max: usize,
    /// From the login to the end of a connection, at most.
    pub max_lifetime: Option<Duration>,
    /// Without anything sent in either direction, at most.
    pub idle_timeout: Option<Duration>,
}

/// Finds what a user gets.
#[async_trait]
pub trait Profiles: Send + Sync {
    /// The profile of somebody who logs in, of whom hooks have said this much; and the identity with what was added.
    ///
    /// # Errors
    /// Why there is none, for the log; nobody comes in without.
    async fn of(
        &self,
        admitted: Identity,
        facts: &Facts,
        caller: &Caller,
    ) -> Result<(Identity, Arc<Profile>), String>;

    /// The rules that hold for a user now. `None` where they are not ours to know again: what a hook said at the
    /// login holds until the end.
    fn rules(&self, identity: &Identity) -> Option<Rules>;
}
