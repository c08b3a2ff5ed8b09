//! Containers of users instead of connections: one per user name, kept until nobody has used it for a while, and
//! found again by its labels when we have been away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::census::{Counted, Who};
use super::launch::Launch;
use super::{LaunchError, LaunchState, Pool};
use crate::engine::{
    Container, ContainerSpec, EngineError, LABEL_MODE, LABEL_PROFILE, LABEL_USERNAME, LaunchStage,
    MODE_PERSISTENT,
};
use crate::ids::ContainerId;

/// How long the look for an earlier run's containers may hold up the start.
const START_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a user's next container waits for the removal of the last: both count, and may have one name.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(10);

/// Every user's container. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Homes {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// One without a container has no entry.
    homes: Mutex<HashMap<Tenant, Arc<Home>>>,
    /// Of an earlier run, until its tenant's home takes it. Empty until the engine could be asked.
    found: OnceCell<Mutex<HashMap<Tenant, ContainerId>>>,
}

/// Whose a home is: a user's, with the profile that the container was made for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Tenant {
    username: String,
    /// Empty for the default.
    profile: String,
}

impl Tenant {
    fn of<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Self {
        let text = |name| label(name).unwrap_or_default().to_owned();
        Self { username: text(LABEL_USERNAME), profile: text(LABEL_PROFILE) }
    }
}

/// One user's container, from before its launch until after its removal.
#[derive(Debug)]
struct Home {
    state: watch::Receiver<LaunchState>,
    occupancy: watch::Sender<Occupancy>,
    /// Cancelled when the container is gone, or with the reaper.
    gone: CancellationToken,
}

#[derive(Debug, Default)]
struct Occupancy {
    guests: usize,
    /// About to be removed: nobody may come in any more.
    closed: bool,
}

/// One connection's use of a home; dropping it ends it.
#[derive(Debug)]
pub(super) struct Guest(Arc<Home>);

impl Guest {
    pub(super) fn state(&self) -> watch::Receiver<LaunchState> {
        self.0.state.clone()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.occupancy.send_modify(|occupancy| occupancy.guests -= 1);
    }
}

impl Home {
    /// Comes in, unless there is no container to be had here any more.
    fn enter(self: &Arc<Self>) -> Option<Guest> {
        let entered = self.stands()
            && self.occupancy.send_if_modified(|occupancy| {
                occupancy.guests += usize::from(!occupancy.closed);
                !occupancy.closed
            });
        entered.then(|| Guest(Arc::clone(self)))
    }

    /// Whether the container is there or on its way.
    fn stands(&self) -> bool {
        matches!(*self.state.borrow(), LaunchState::InProgress(_) | LaunchState::Ready(_))
            && !self.gone.is_cancelled()
    }

    /// Closes it, unless somebody is in.
    fn close_if_empty(&self) -> bool {
        self.occupancy.send_if_modified(|occupancy| {
            occupancy.closed |= occupancy.guests == 0;
            occupancy.closed
        })
    }

    async fn empty(&self) {
        // The sender is our own, so the wait cannot fail.
        drop(self.occupancy.subscribe().wait_for(|occupancy| occupancy.guests == 0).await);
    }

    /// Waits until nobody has been in for so long, and closes.
    async fn expire(&self, idle_timeout: Option<Duration>) {
        let Some(idle_timeout) = idle_timeout else { return std::future::pending().await };
        let mut occupancy = self.occupancy.subscribe();
        loop {
            self.empty().await;
            occupancy.mark_unchanged();
            tokio::select! {
                () = sleep(idle_timeout) => if self.close_if_empty() { return },
                // Somebody came, be it for a moment: the time begins anew.
                _ = occupancy.changed() => {}
            }
        }
    }
}

impl Homes {
    fn lock(&self) -> MutexGuard<'_, HashMap<Tenant, Arc<Home>>> {
        self.shared.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Containers that are there: in use, and not.
    pub(super) fn count(&self) -> (usize, usize) {
        let homes = self.lock();
        let there = homes.values().filter(|home| matches!(*home.state.borrow(), LaunchState::Ready(_)));
        let (used, idle): (Vec<_>, Vec<_>) = there.partition(|home| home.occupancy.borrow().guests > 0);
        (used.len(), idle.len())
    }

    fn forget(&self, tenant: &Tenant, home: &Arc<Home>) {
        let mut homes = self.lock();
        if homes.get(tenant).is_some_and(|current| Arc::ptr_eq(current, home)) {
            homes.remove(tenant);
        }
    }
}

impl Pool {
    /// Looks for the persistent containers of an earlier run, in whatever mode it ran. From now on they have an
    /// idle time-out again; those that have stopped go to the reaper.
    pub async fn adopt(&self) {
        match timeout(START_TIMEOUT, self.found()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot look for persistent containers yet"),
            Err(_) => tracing::warn!("the engine takes long to list persistent containers"),
        }
    }

    /// The user's container, which is launched if there is none.
    pub(super) fn visit(&self, mut spec: ContainerSpec) -> Guest {
        let tenant = Tenant::of(|name| spec.labels.get(name).map(String::as_str));
        spec.labels.insert(LABEL_MODE.to_owned(), MODE_PERSISTENT.to_owned());
        let mut homes = self.homes.lock();
        if let Some(guest) = homes.get(&tenant).and_then(Home::enter) {
            return guest;
        }
        let (keeper, home) = Keeper::new(self, &tenant);
        home.occupancy.send_modify(|occupancy| occupancy.guests = 1);
        let guest = Guest(Arc::clone(&home));
        let predecessor = homes.insert(tenant, home);
        drop(homes);
        self.tasks.spawn(keeper.run(Some(spec), predecessor));
        guest
    }

    /// Gives a container that was found a keeper of its own, unless its user is here already.
    fn take_up(&self, tenant: &Tenant) {
        let mut homes = self.homes.lock();
        if homes.get(tenant).is_none_or(|home| !home.stands()) {
            let (keeper, home) = Keeper::new(self, tenant);
            let predecessor = homes.insert(tenant.clone(), home);
            self.tasks.spawn(keeper.run(None, predecessor));
        }
    }

    /// What an earlier run left. The engine is asked until it has answered once.
    async fn found(&self) -> Result<&Mutex<HashMap<Tenant, ContainerId>>, EngineError> {
        self.homes.shared.found.get_or_try_init(|| self.look()).await
    }

    async fn look(&self) -> Result<Mutex<HashMap<Tenant, ContainerId>>, EngineError> {
        let mut found = HashMap::new();
        let owned = self.engine.list_owned(&self.tenure.instance).await?;
        for owned in owned.into_iter().filter(crate::engine::OwnedContainer::is_persistent) {
            let tenant = Tenant::of(|name| owned.label(name));
            let username = &tenant.username;
            if owned.running && !found.contains_key(&tenant) {
                tracing::info!(container = %owned.id, user = username, "found a persistent container");
                found.insert(tenant, owned.id);
            } else {
                tracing::info!(container = %owned.id, user = username, "removing a persistent container that has ended");
                self.reaper.take(&owned.id);
            }
        }
        for tenant in found.keys() {
            self.take_up(tenant);
        }
        Ok(Mutex::new(found))
    }
}

/// The task behind a home.
struct Keeper {
    pool: Pool,
    tenant: Tenant,
    home: Arc<Home>,
    state: watch::Sender<LaunchState>,
}

impl Keeper {
    fn new(pool: &Pool, tenant: &Tenant) -> (Self, Arc<Home>) {
        let (state, receiver) = watch::channel(LaunchState::InProgress(LaunchStage::Preparing));
        let occupancy = watch::Sender::new(Occupancy::default());
        let home = Arc::new(Home { state: receiver, occupancy, gone: CancellationToken::new() });
        let keeper = Self { pool: pool.clone(), tenant: tenant.clone(), home: Arc::clone(&home), state };
        (keeper, home)
    }

    /// `spec` is for a container that has to be launched; without one there has to be one that was found.
    async fn run(self, spec: Option<ContainerSpec>, predecessor: Option<Arc<Home>>) {
        let _gone_on_drop = self.home.gone.clone().drop_guard();
        if let Some(predecessor) = predecessor {
            wait_for_removal(&predecessor).await;
        }
        match self.move_in(spec).await {
            Ok(Some((container, _counted))) => self.keep(container.as_ref()).await,
            Ok(None) => {}
            Err(error) => {
                self.pool.note_refusal(&error);
                tracing::warn!(user = self.tenant.username, %error, "no container");
                self.state.send_replace(LaunchState::Failed(error));
            }
        }
        self.pool.homes.forget(&self.tenant, &self.home);
    }

    /// Takes up what was found, else launches. `None` where the launch has told already why there is nothing.
    async fn move_in(
        &self,
        spec: Option<ContainerSpec>,
    ) -> Result<Option<(Arc<dyn Container>, Counted)>, LaunchError> {
        let launch_timeout = self.pool.limits.launch_timeout;
        let found = timeout(launch_timeout, self.pool.found()).await;
        let found = found.map_err(|_| LaunchError::TimedOut(launch_timeout))?;
        let found = found.map_err(|error| LaunchError::Engine(Arc::new(error)))?;
        let found = found.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.tenant);
        if let Some(id) = found {
            let counted = self.pool.census.count_existing(&self.who());
            let container = self.pool.engine.adopt(&id);
            self.state.send_replace(LaunchState::Ready(Arc::clone(&container)));
            return Ok(Some((container, counted)));
        }
        let Some(spec) = spec else { return Ok(None) };
        let Some(counted) = self.count().await else { return Ok(None) };
        let counted = counted?;
        let launched = self.launch(&spec).await;
        Ok(launched.map(|container| (container, counted)))
    }

    /// `None` when nobody wants it any more.
    async fn count(&self) -> Option<Result<Counted, LaunchError>> {
        let (who, called_off) = (self.who(), CancellationToken::new());
        let count = || self.pool.census.count(&who, &self.pool.limits);
        tokio::select! {
            biased;
            counted = self.pool.admit_when_there_is_room(&who, &called_off, count) => counted,
            () = self.deserted() => None,
        }
    }

    fn who(&self) -> Who {
        Who { username: self.tenant.username.clone(), profile: self.tenant.profile.clone() }
    }

    /// Clients that leave do not call it off, since they come back; the end of the server does.
    async fn launch(&self, spec: &ContainerSpec) -> Option<Arc<dyn Container>> {
        let abandoned = CancellationToken::new();
        let launch = Launch { pool: &self.pool, spec, state: &self.state, abandoned: &abandoned };
        let launch = launch.run();
        tokio::pin!(launch);
        tokio::select! {
            launched = &mut launch => return launched,
            () = self.deserted() => abandoned.cancel(),
        }
        launch.await
    }

    async fn keep(&self, container: &dyn Container) {
        let idle_timeout = self.pool.tenure.idle_timeout;
        tokio::select! {
            reason = container.lost() => {
                self.pool.metrics.lost();
                tracing::warn!(user = self.tenant.username, container = %container.id(), reason, "container lost");
                self.state.send_replace(LaunchState::Lost(reason));
            }
            () = self.home.expire(idle_timeout) => {
                tracing::info!(user = self.tenant.username, container = %container.id(), "nobody uses the container");
            }
            () = self.deserted() => {
                tracing::info!(user = self.tenant.username, container = %container.id(), "the container stays");
                return;
            }
        }
        self.pool.remove(container).await;
    }

    /// Waits until the server is going down and nobody is in any more.
    async fn deserted(&self) {
        self.pool.draining.cancelled().await;
        self.home.empty().await;
    }
}

/// One whose launch failed is not waited for: it may be late for minutes, and holds nobody else up.
async fn wait_for_removal(predecessor: &Home) {
    let failed = matches!(*predecessor.state.borrow(), LaunchState::Failed(_));
    if !failed && timeout(PREDECESSOR_TIMEOUT, predecessor.gone.cancelled()).await.is_err() {
        tracing::warn!("the engine takes long to remove a container; the next one is launched already");
    }
}
