//! Containers that wait for somebody.

use std::collections::{HashMap, HashSet};

use tokio::time::{Instant, sleep};

use super::*;
use crate::engine::{LABEL_PROFILE, LABEL_WARM, OwnedContainer, Starts};
use crate::pool::{Edition, Stock, Terms};

const LIMITS: Limits =
    Limits { launch_timeout: DEADLINE, containers: 0, containers_of_profile: 0, containers_per_user: 0 };

/// What a start takes, where it takes something.
const START: Duration = Duration::from_millis(300);

/// A pool whose shelf can be changed as a reload changes it.
struct Shop {
    house: House,
    limits: Limits,
    edition: u64,
}

impl Shop {
    fn new(limits: Limits) -> Self {
        Self::starting(limits, Starts::new(4))
    }

    fn starting(limits: Limits, starts: Starts) -> Self {
        let engine = FakeEngine::new();
        engine.update_image("sha256:one");
        engine.break_step(Step::Launch, Fault::Delay(START));
        let mut house = House::on(engine, InstanceId::random(), Mode::Connection, limits);
        house.pool = house.pool.clone().with_starts(starts);
        Self { house, limits, edition: 1 }
    }

    async fn with(warm: usize) -> Self {
        let shop = Self::new(LIMITS);
        shop.stock(warm);
        shop.filled(warm).await;
        shop
    }

    fn pool_of(&self, edition: Option<u64>, mode: Mode) -> Pool {
        let engine: Arc<dyn Engine> = Arc::new(self.house.engine.clone());
        let edition = edition.map(Edition);
        let terms = Terms { limits: self.limits, mode, idle_timeout: Some(IDLE), edition };
        self.house.pool.variant(engine, terms)
    }

    fn stock_of(&self, profile: &str, warm: usize, max_age: Option<Duration>) -> Stock {
        let pool = self.pool_of(Some(self.edition), Mode::Connection);
        Stock { profile: profile.to_owned(), warm, max_age, pool }
    }

    fn stock(&self, warm: usize) {
        self.house.pool.stock(vec![self.stock_of("", warm, None)]);
    }

    fn lease_from(&self, pool: &Pool, moment: Moment, username: &str, profile: &str) -> Option<Lease> {
        let mut spec = self.house.spec(username);
        if !profile.is_empty() {
            spec.labels.insert(LABEL_PROFILE.to_owned(), profile.to_owned());
        }
        pool.lease(moment, spec)
    }

    fn lease_as(&self, username: &str, profile: &str) -> Lease {
        let pool = self.pool_of(Some(self.edition), Mode::Connection);
        self.lease_from(&pool, Moment::Login, username, profile).expect("a lease")
    }

    fn lease(&self) -> Lease {
        self.lease_as("alice", "")
    }

    fn engine(&self) -> &FakeEngine {
        &self.house.engine
    }

    async fn owned(&self) -> Vec<OwnedContainer> {
        // A list that fails is one of the test's own.
        self.engine().list_owned(&self.house.instance).await.unwrap_or_default()
    }

    /// The ids of those that are on a shelf, by profile.
    fn waiting(&self) -> HashMap<String, usize> {
        self.house.pool.shelves.all().iter().map(|shelf| (shelf.profile.clone(), shelf.len())).collect()
    }

    /// Waits until so many wait for those without a profile.
    async fn filled(&self, warm: usize) {
        let began = Instant::now();
        while self.waiting().get("").copied().unwrap_or_default() != warm {
            assert!(began.elapsed() < DEADLINE, "{:?} instead of {warm}", self.waiting());
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn ids(&self) -> HashSet<String> {
        self.owned().await.iter().map(|owned| owned.id.as_str().to_owned()).collect()
    }

    /// The end of the server leaves nothing.
    async fn close(&self) {
        self.house.drain.begun.cancel();
        self.house.settle().await;
        assert_eq!(self.engine().live(), 0, "{:?}", self.engine().names());
    }
}

/// Whether a lease is ready without anything having been waited for.
fn is_ready(lease: &Lease) -> bool {
    matches!(*lease.state().borrow(), LaunchState::Ready(_))
}

#[tokio::test(start_paused = true)]
async fn a_login_takes_a_waiting_container_at_once_and_another_is_started() {
    let shop = Shop::with(2).await;
    let before = shop.ids().await;
    let calls = shop.engine().calls().len();

    let lease = shop.lease();

    assert!(is_ready(&lease) && shop.engine().calls().len() == calls, "no call before the first byte");
    assert!(before.contains(ready(&lease).await.id().as_str()));
    shop.filled(2).await;
    assert_eq!(shop.engine().live(), 3);
    soon(lease.give_back()).await;
    assert_eq!(shop.engine().live(), 2);
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_a_container_that_somebody_had() {
    let shop = Shop::with(3).await;
    let mut had = HashSet::new();

    for round in 0..20_u64 {
        let lease = shop.lease();
        assert!(had.insert(ready(&lease).await.id().as_str().to_owned()), "round {round}");
        sleep(Duration::from_millis(round * 40)).await;
        drop(lease);
    }

    shop.filled(3).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(shop.engine().live(), 3);
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_name_of_a_taken_container_tells_whose_it_is() {
    let shop = Shop::with(1).await;
    let [waiting] = <[_; 1]>::try_from(shop.owned().await).unwrap();
    let id = waiting.label(LABEL_WARM).unwrap();
    assert_eq!(shop.engine().names(), [format!("coracle-warm-{id}")]);

    let lease = shop.lease_as("ali/ce", "");
    ready(&lease).await;
    sleep(Duration::from_secs(1)).await;

    assert!(shop.engine().names().contains(&"c1-ali_ce".to_owned()), "{:?}", shop.engine().names());
    drop(lease);
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_cannot_be_given_harms_nobody() {
    let shop = Shop::with(1).await;
    for fault in [House::unreachable(), Fault::Delay(Duration::from_secs(3))] {
        shop.engine().break_step(Step::Rename, fault);
        let lease = shop.lease();
        assert!(is_ready(&lease));
        sleep(Duration::from_secs(1)).await;
        assert!(is_ready(&lease));

        soon(lease.give_back()).await;

        shop.filled(1).await;
        assert_eq!(shop.engine().live(), 1);
    }
    shop.close().await;
}

/// The double's programs write no files, so this one cannot have them.
#[tokio::test(start_paused = true)]
async fn a_waiting_container_has_its_files_before_it_is_ready_or_goes() {
    let shop = Shop::with(1).await;
    shop.engine().break_step(Step::Exec, Fault::Delay(Duration::from_secs(1)));
    let mut spec = shop.house.spec("alice");
    spec.files.push(("/tmp/file".to_owned(), crate::secret::Secret::new(b"text".to_vec())));
    let before = shop.ids().await;

    let lease = shop.pool_of(Some(1), Mode::Connection).lease(Moment::Login, spec).unwrap();

    assert!(!is_ready(&lease));
    let LaunchState::Failed(LaunchError::Engine(error)) = outcome(&lease).await else { panic!("a failure") };
    assert!(error.to_string().contains("/tmp/file"), "{error}");
    shop.filled(1).await;
    sleep(Duration::from_secs(1)).await;
    assert!(shop.ids().await.is_disjoint(&before));
    shop.close().await;
}

/// One after the other would take 0.3 s each.
#[tokio::test(start_paused = true)]
async fn a_burst_is_served_in_order_and_never_more_are_started_at_once_than_configured() {
    let shop = Shop::starting(LIMITS, Starts::new(2));
    shop.stock(2);
    shop.filled(2).await;

    let leases: Vec<_> = (0..10).map(|number| shop.lease_as(&format!("user{number}"), "")).collect();

    assert_eq!(leases.iter().filter(|lease| is_ready(lease)).count(), 2);
    for (index, lease) in leases.iter().enumerate() {
        ready(lease).await;
        let before = leases.iter().skip(index + 2).filter(|lease| is_ready(lease)).count();
        assert_eq!(before, 0, "{index}: nobody overtakes, but for the one that is started at the same time");
    }
    assert_eq!(shop.engine().starting_most(), 2);
    assert_eq!(shop.engine().live(), 10, "people come before refills");
    shop.filled(2).await;
    let mut containers = HashSet::new();
    for lease in &leases {
        assert!(containers.insert(ready(lease).await.id().clone()), "never two users in one");
    }
    assert_eq!(shop.engine().starting_most(), 2);
    drop(leases);
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn each_session_takes_one_in_the_mode_session() {
    let shop = Shop::with(2).await;
    let pool = shop.pool_of(Some(1), Mode::Session);

    assert!(shop.lease_from(&pool, Moment::Login, "alice", "").is_none());
    let lease = shop.lease_from(&pool, Moment::Session, "alice", "").unwrap();

    assert!(is_ready(&lease));
    drop(lease);
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn each_profile_has_its_own_and_what_is_made_otherwise_starts_cold() {
    let shop = Shop::new(LIMITS);
    shop.house.pool.stock(vec![shop.stock_of("", 1, None), shop.stock_of("lab", 2, None)]);
    shop.filled(1).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(shop.waiting()["lab"], 2);

    let lease = shop.lease_as("alice", "lab");
    let id = ready(&lease).await.id().clone();
    let (another, none) = (shop.pool_of(Some(7), Mode::Connection), shop.pool_of(None, Mode::Connection));

    assert!(is_ready(&lease));
    let owned = shop.owned().await;
    let taken = owned.iter().find(|owned| owned.id == id).unwrap();
    assert_eq!(taken.label(LABEL_PROFILE), Some("lab"));
    for pool in [another, none] {
        let cold = shop.lease_from(&pool, Moment::Login, "alice", "lab").unwrap();
        assert!(!is_ready(&cold));
        ready(&cold).await;
    }
    assert!(!is_ready(&shop.lease_as("alice", "nobodys")));
    drop(lease);
    shop.close().await;
}

mod care;
mod room;
