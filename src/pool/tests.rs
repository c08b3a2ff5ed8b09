//! Leases on the double: every way a launch can end leaves no container.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{LaunchError, LaunchState, Lease, Limits, Mode, Moment, Pool, Reaper, Tenure};
use crate::engine::fake::{Call, FakeEngine, Fault, Step};
use crate::engine::{
    Container, ContainerSpec, Engine, EngineError, LABEL_CONNECTION, LABEL_INSTANCE, LABEL_USERNAME,
    LaunchWatch,
};
use crate::ids::InstanceId;
use crate::shutdown::Drain;

const DEADLINE: Duration = Duration::from_secs(20);

/// How long persistent containers stay unused.
const IDLE: Duration = Duration::from_mins(10);

struct House {
    engine: FakeEngine,
    pool: Pool,
    reaper: Reaper,
    instance: InstanceId,
    tasks: TaskTracker,
    drain: Drain,
}

impl House {
    fn new(launch_timeout: Duration) -> Self {
        let limits =
            Limits { launch_timeout, containers: 0, containers_of_profile: 0, containers_per_user: 0 };
        Self::on(FakeEngine::new(), InstanceId::random(), Mode::Connection, limits)
    }

    fn of(mode: Mode) -> Self {
        let launch_timeout = DEADLINE / 4;
        let limits =
            Limits { launch_timeout, containers: 0, containers_of_profile: 0, containers_per_user: 1 };
        Self::on(FakeEngine::new(), InstanceId::random(), mode, limits)
    }

    fn on(engine: FakeEngine, instance: InstanceId, mode: Mode, limits: Limits) -> Self {
        let (reaper, drain) = (Reaper::default(), Drain::default());
        let port: Arc<dyn Engine> = Arc::new(engine.clone());
        let tenure = Tenure { mode, idle_timeout: Some(IDLE), instance: instance.clone() };
        let pool = Pool::new(port, reaper.clone(), &drain, limits, tenure);
        Self { engine, pool, reaper, instance, tasks: drain.tasks.clone(), drain }
    }

    /// The same installation after a restart.
    fn restarted(&self, mode: Mode) -> Self {
        Self::on(self.engine.clone(), self.instance.clone(), mode, self.pool.limits)
    }

    fn lease(&self) -> Lease {
        self.lease_of("alice")
    }

    fn lease_of(&self, username: &str) -> Lease {
        self.lease_at(Moment::Login, username).expect("a lease")
    }

    fn lease_at(&self, moment: Moment, username: &str) -> Option<Lease> {
        self.pool.lease(moment, self.spec(username))
    }

    fn spec(&self, username: &str) -> ContainerSpec {
        let labels = [
            (LABEL_CONNECTION, "c1".to_owned()),
            (LABEL_INSTANCE, self.instance.to_string()),
            (LABEL_USERNAME, username.to_owned()),
        ];
        let labels: BTreeMap<_, _> = labels.map(|(name, value)| (name.to_owned(), value)).into();
        ContainerSpec { name: "c1".to_owned(), hostname: "c1".to_owned(), labels, files: Vec::new() }
    }

    fn launches(&self) -> usize {
        self.engine.calls().iter().filter(|call| matches!(call, Call::Launch(_))).count()
    }

    /// A container that no lease knows.
    async fn leave_behind(&self, instance: &InstanceId) {
        let labels = [(LABEL_CONNECTION, "gone".to_owned()), (LABEL_INSTANCE, instance.to_string())];
        let labels: BTreeMap<_, _> = labels.map(|(name, value)| (name.to_owned(), value)).into();
        let spec =
            ContainerSpec { name: "gone".to_owned(), hostname: "gone".to_owned(), labels, files: Vec::new() };
        self.engine.launch(&spec, &LaunchWatch::default()).await.unwrap();
    }

    /// Waits until every task is done: whatever is left then stays left.
    async fn settle(&self) {
        self.tasks.close();
        soon(self.tasks.wait()).await;
    }

    fn unreachable() -> Fault {
        Fault::fail(|| EngineError::Unreachable {
            endpoint: "unix:///x".to_owned(),
            reason: "gone".to_owned(),
        })
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("within the deadline")
}

async fn outcome(lease: &Lease) -> LaunchState {
    let mut state = lease.state();
    let ended = |state: &LaunchState| !matches!(state, LaunchState::InProgress(_));
    soon(state.wait_for(ended)).await.unwrap().clone()
}

async fn ready(lease: &Lease) -> Arc<dyn Container> {
    match outcome(lease).await {
        LaunchState::Ready(container) => container,
        other => panic!("{other:?}"),
    }
}

/// L4
#[tokio::test]
async fn a_container_is_gone_once_it_was_given_back() {
    let house = House::new(DEADLINE);
    let lease = house.lease();
    assert!(matches!(outcome(&lease).await, LaunchState::Ready(_)));
    assert_eq!(house.engine.live(), 1);

    soon(lease.give_back()).await;

    assert_eq!(house.engine.live(), 0);
}

/// L6
#[tokio::test]
async fn a_client_that_leaves_during_the_launch_leaves_nothing() {
    let house = House::new(DEADLINE);
    house.engine.break_step(Step::Launch, Fault::Delay(Duration::from_millis(50)));
    let lease = house.lease();

    drop(lease);

    house.settle().await;
    assert_eq!(house.engine.live(), 0);
}

/// I8
#[tokio::test(start_paused = true)]
async fn a_launch_that_is_too_slow_fails_in_time_and_its_late_container_goes() {
    let house = House::new(Duration::from_secs(3));
    house.engine.break_step(Step::Launch, Fault::Delay(Duration::from_secs(10)));
    let lease = house.lease();

    let failed = outcome(&lease).await;

    assert!(matches!(failed, LaunchState::Failed(LaunchError::TimedOut(_))), "{failed:?}");
    house.settle().await;
    assert_eq!(house.engine.live(), 0);
}

#[tokio::test]
async fn a_failed_launch_tells_the_engines_reason() {
    let house = House::new(DEADLINE);
    house.engine.break_step(Step::Launch, House::unreachable());
    let lease = house.lease();

    let LaunchState::Failed(error) = outcome(&lease).await else { panic!("it must fail") };

    assert!(error.to_string().contains("cannot be reached"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_is_removed_once_the_engine_is_back() {
    let house = House::new(DEADLINE);
    let stop = CancellationToken::new();
    let port: Arc<dyn Engine> = Arc::new(house.engine.clone());
    let reaping = house.tasks.spawn(house.reaper.clone().run(port, house.instance.clone(), stop.clone()));
    let lease = house.lease();
    outcome(&lease).await;
    house.engine.break_step(Step::Remove, House::unreachable());

    soon(lease.give_back()).await;
    assert_eq!(house.engine.live(), 1);
    house.engine.mend(Step::Remove);
    stop.cancel();

    soon(reaping).await.unwrap();
    assert_eq!(house.engine.live(), 0);
    assert!(house.reaper.is_idle());
}

/// L9
#[tokio::test]
async fn a_container_that_ends_behind_our_back_is_told_and_cleaned_up() {
    let house = House::new(DEADLINE);
    let lease = house.lease();
    let LaunchState::Ready(container) = outcome(&lease).await else { panic!("it must run") };

    house.engine.kill(container.id());

    let lost = |state: &LaunchState| matches!(state, LaunchState::Lost(_));
    soon(lease.state().wait_for(lost)).await.unwrap();
    soon(lease.give_back()).await;
    house.settle().await;
}

/// L8
#[tokio::test(start_paused = true)]
async fn leftovers_of_this_instance_are_reaped_and_nobody_elses_nor_what_is_on_loan() {
    let (house, other) = (House::new(DEADLINE), House::new(DEADLINE));
    let port: Arc<dyn Engine> = Arc::new(house.engine.clone());
    for instance in [&house.instance, &other.instance] {
        house.leave_behind(instance).await;
    }
    let lease = house.lease();
    outcome(&lease).await;
    let stop = CancellationToken::new();

    house.reaper.start(port.as_ref(), &house.instance).await;
    let reaping = house.tasks.spawn(house.reaper.clone().run(port, house.instance.clone(), stop.clone()));
    stop.cancel();
    soon(reaping).await.unwrap();

    assert_eq!(house.engine.live(), 2, "what is on loan, and the other instance's");
    soon(lease.give_back()).await;
    assert_eq!(house.engine.live(), 1);
}

/// L8
#[tokio::test(start_paused = true)]
async fn leftovers_are_reaped_also_when_the_engine_comes_up_after_us() {
    let house = House::new(DEADLINE);
    let port: Arc<dyn Engine> = Arc::new(house.engine.clone());
    house.leave_behind(&house.instance).await;
    house.engine.break_step(Step::List, House::unreachable());
    let stop = CancellationToken::new();

    house.reaper.start(port.as_ref(), &house.instance).await;
    let reaping = house.tasks.spawn(house.reaper.clone().run(port, house.instance.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(house.engine.live(), 1);
    house.engine.mend(Step::List);
    tokio::time::sleep(Duration::from_secs(30)).await;

    assert_eq!(house.engine.live(), 0);
    stop.cancel();
    soon(reaping).await.unwrap();
}

/// L6
#[tokio::test(start_paused = true)]
async fn what_appears_after_its_launch_was_given_up_is_found_by_the_next_look() {
    let house = House::new(DEADLINE);
    let port: Arc<dyn Engine> = Arc::new(house.engine.clone());
    let stop = CancellationToken::new();
    let reaping = house.tasks.spawn(house.reaper.clone().run(port, house.instance.clone(), stop.clone()));

    house.leave_behind(&house.instance).await;
    tokio::time::sleep(Duration::from_mins(2)).await;

    assert_eq!(house.engine.live(), 0);
    stop.cancel();
    soon(reaping).await.unwrap();
}

mod persistent;
mod warm;
