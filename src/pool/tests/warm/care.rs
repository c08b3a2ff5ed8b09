//! What is stale, lost or cannot be had, and the end of the server.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_replaced_and_not_all_at_once() {
    const AGE: Duration = Duration::from_hours(1);
    let shop = Shop::new(LIMITS);
    shop.house.pool.stock(vec![shop.stock_of("", 10, Some(AGE))]);
    shop.filled(10).await;
    let first = shop.ids().await;

    sleep(AGE / 10 * 9).await;
    let halfway = shop.ids().await;
    sleep(AGE / 10 + Duration::from_secs(5)).await;
    let then = shop.ids().await;

    assert!(first.intersection(&halfway).count() > 0 && first != halfway, "some, not all");
    assert_eq!((first.intersection(&then).count(), then.len()), (0, 10));
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_updated_image_replaces_what_waits() {
    let shop = Shop::with(2).await;
    let before = shop.ids().await;
    sleep(Duration::from_mins(5)).await;
    assert_eq!(shop.ids().await, before);
    let launches = shop.house.launches();

    shop.engine().update_image("sha256:two");
    sleep(Duration::from_secs(40)).await;

    let after = shop.ids().await;
    assert_eq!((before.intersection(&after).count(), after.len()), (0, 2));
    sleep(Duration::from_mins(5)).await;
    assert_eq!((shop.ids().await, shop.house.launches()), (after, launches + 2));
    // An engine that does not tell is no reason.
    shop.engine().break_step(Step::Image, House::unreachable());
    sleep(Duration::from_mins(5)).await;
    assert_eq!(shop.house.launches(), launches + 2);
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_is_made_alike_and_replaces_the_rest() {
    let mut shop = Shop::with(3).await;
    let before = shop.ids().await;

    shop.stock(4);
    shop.filled(4).await;
    assert_eq!(shop.ids().await.intersection(&before).count(), 3);
    shop.stock(2);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((shop.waiting()[""], shop.engine().live()), (2, 2));

    let kept = shop.ids().await;
    let old = shop.pool_of(Some(1), Mode::Connection);
    shop.edition = 2;
    shop.stock(2);
    let cold = shop.lease_from(&old, Moment::Login, "alice", "").unwrap();
    assert!(!is_ready(&cold), "whoever came before the reload gets what was configured then");
    ready(&cold).await;
    shop.filled(2).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((shop.ids().await.intersection(&kept).count(), shop.engine().live()), (0, 3));

    shop.stock(0);
    drop(cold);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(shop.engine().live(), 0);
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_dies_while_it_waits_is_replaced_and_given_to_nobody() {
    let shop = Shop::with(2).await;
    let shelf = shop.house.pool.shelves.of("").unwrap();
    let first = shelf.state().waiting[0].taken.container.id().clone();

    shop.engine().stop(&first);
    // Before anybody had the time to notice.
    let lease = shop.lease();

    assert!(is_ready(&lease));
    assert_ne!(*ready(&lease).await.id(), first);
    shop.filled(2).await;
    sleep(Duration::from_secs(1)).await;
    assert!(!shop.ids().await.contains(first.as_str()), "a stopped one is removed");
    drop(lease);
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn containers_that_die_at_once_are_not_started_without_end() {
    let shop = Shop::new(LIMITS);
    shop.stock(1);

    let began = Instant::now();
    while began.elapsed() < Duration::from_mins(5) {
        for owned in shop.owned().await {
            shop.engine().stop(&owned.id);
        }
        sleep(Duration::from_millis(100)).await;
    }

    assert!((10..=25).contains(&shop.house.launches()), "{}", shop.house.launches());
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_fails_is_asked_ever_more_rarely_and_used_once_it_is_back() {
    let shop = Shop::new(LIMITS);
    shop.engine().break_step(Step::Launch, House::unreachable());
    shop.stock(5);

    sleep(Duration::from_mins(5)).await;
    assert!((10..=25).contains(&shop.house.launches()), "{}", shop.house.launches());
    let lease = shop.lease();
    let LaunchState::Failed(LaunchError::Engine(_)) = outcome(&lease).await else { panic!("told at once") };
    shop.engine().mend(Step::Launch);
    let cold = shop.lease();
    ready(&cold).await;

    sleep(Duration::from_secs(31)).await;
    assert_eq!(shop.waiting()[""], 5);
    drop((lease, cold));
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn refills_that_hang_hold_no_login_up() {
    let shop = Shop::starting(LIMITS, Starts::new(2));
    shop.engine().break_step(Step::Launch, Fault::Hang);
    shop.stock(5);
    sleep(Duration::from_secs(1)).await;
    shop.engine().mend(Step::Launch);
    let began = Instant::now();

    let lease = shop.lease();

    ready(&lease).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    drop(lease);
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_reaper_spares_what_waits_and_what_was_taken_of_it() {
    let shop = Shop::with(2).await;
    let ending = CancellationToken::new();
    let port: Arc<dyn Engine> = Arc::new(shop.engine().clone());
    let reaper = shop.house.reaper.clone().run(port, shop.house.instance.clone(), ending.clone());
    let reaping = shop.house.tasks.spawn(reaper);
    let before = shop.ids().await;
    let lease = shop.lease();

    sleep(Duration::from_mins(10)).await;

    assert!(shop.ids().await.is_superset(&before) && is_ready(&lease));
    drop(lease);
    ending.cancel();
    soon(reaping).await.unwrap();
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_run_had_waiting_is_reaped() {
    let shop = Shop::with(2).await;

    let next = shop.house.restarted(Mode::Connection);
    next.reaper.start(shop.engine(), &next.instance).await;
    let ending = CancellationToken::new();
    ending.cancel();
    let port: Arc<dyn Engine> = Arc::new(shop.engine().clone());
    soon(next.reaper.clone().run(port, next.instance.clone(), ending)).await;

    assert_eq!(shop.engine().live(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_server_leaves_nothing_at_whatever_moment_it_comes() {
    for millis in [0, 100, 299, 300, 301, 600, 1500] {
        let shop = Shop::new(LIMITS);
        shop.stock(5);
        let lease = shop.lease();
        sleep(Duration::from_millis(millis)).await;

        shop.house.drain.begun.cancel();
        drop(lease);

        shop.close().await;
        let launches = shop.house.launches();
        sleep(Duration::from_mins(1)).await;
        assert_eq!(shop.house.launches(), launches);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_at_the_end_is_the_reapers() {
    let shop = Shop::with(2).await;
    shop.engine().break_step(Step::Remove, House::unreachable());

    shop.house.drain.begun.cancel();
    shop.house.settle().await;

    assert_eq!(shop.engine().live(), 2);
    assert!(!shop.house.reaper.is_idle());
}

/// Whatever happens in whatever order, the books are right in the end.
#[tokio::test(start_paused = true)]
async fn any_order_of_events_leaves_a_full_shelf_and_nothing_else() {
    use rand::{RngExt as _, SeedableRng as _};

    for seed in 0..60 {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let mut shop = Shop::starting(Limits { containers: 8, ..LIMITS }, Starts::new(3));
        shop.stock(3);
        let mut leases: Vec<Lease> = Vec::new();
        for _ in 0..60 {
            match random.random_range(0..9) {
                0..=2 => leases.push(shop.lease_as(["alice", "bob"][random.random_range(0..2)], "")),
                3 | 4 if !leases.is_empty() => {
                    drop(leases.swap_remove(random.random_range(0..leases.len())));
                }
                5 => {
                    shop.edition = random.random_range(1..3);
                    shop.stock(random.random_range(0..5));
                }
                6 => shop.engine().update_image(["sha256:one", "sha256:two"][random.random_range(0..2)]),
                7 => {
                    if let Some(owned) = shop.owned().await.first() {
                        shop.engine().stop(&owned.id);
                    }
                }
                _ => sleep(Duration::from_millis(random.random_range(0..3000))).await,
            }
            let mut containers = HashSet::new();
            for lease in &leases {
                if let LaunchState::Ready(container) = &*lease.state().borrow() {
                    assert!(containers.insert(container.id().clone()), "seed {seed}: two in one");
                }
            }
            assert!(shop.engine().live() <= 8 && shop.engine().starting_most() <= 3, "seed {seed}");
        }
        leases.clear();
        shop.stock(2);
        sleep(Duration::from_mins(2)).await;
        assert_eq!((shop.waiting()[""], shop.engine().live()), (2, 2), "seed {seed}");
        shop.close().await;
    }
}
