//! Who shares a container, and how long a persistent one stays.

use std::collections::HashSet;

use tokio::time::{Instant, advance, sleep};

use super::*;
use crate::engine::{LABEL_MODE, MODE_PERSISTENT};

/// Lets every task do what it can without time passing.
async fn yield_to_tasks() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_container_is_due_at_the_login_or_with_each_session() {
    for (mode, at_login) in [(Mode::Connection, true), (Mode::Session, false), (Mode::Persistent, true)] {
        let house = House::of(mode);
        assert_eq!(house.lease_at(Moment::Login, "alice").is_some(), at_login, "{mode:?}");
        assert_eq!(house.lease_at(Moment::Session, "alice").is_some(), !at_login, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_persistent_container_is_there_at_the_next_login() {
    let house = House::of(Mode::Persistent);
    let first = house.lease();
    let container = ready(&first).await.id().clone();
    soon(first.give_back()).await;
    sleep(IDLE / 10 * 9).await;

    let second = house.lease();

    assert_eq!(*ready(&second).await.id(), container);
    sleep(IDLE * 2).await;
    assert_eq!(house.engine.live(), 1, "it is in use");
}

#[tokio::test(start_paused = true)]
async fn a_persistent_container_goes_when_nobody_has_used_it() {
    let house = House::of(Mode::Persistent);
    let lease = house.lease();
    ready(&lease).await;
    soon(lease.give_back()).await;
    // The wait begins anew with each login, however short.
    sleep(IDLE / 2).await;
    drop(house.lease());
    let left = Instant::now();

    while house.engine.live() > 0 {
        assert!(left.elapsed() <= IDLE + Duration::from_secs(1));
        sleep(Duration::from_secs(1)).await;
    }

    assert!(left.elapsed() >= IDLE, "{:?}", left.elapsed());
    let next = house.lease();
    ready(&next).await;
    assert_eq!(house.launches(), 2);
}

#[tokio::test(start_paused = true)]
async fn logins_that_race_share_one_container_and_it_counts_once() {
    let house = House::of(Mode::Persistent);
    house.engine.break_step(Step::Launch, Fault::Delay(Duration::from_secs(1)));

    let leases: Vec<_> = (0..20).map(|_| house.lease()).collect();

    let mut containers = HashSet::new();
    for lease in &leases {
        containers.insert(ready(lease).await.id().clone());
    }
    assert_eq!((containers.len(), house.launches()), (1, 1));
    let theirs = house.lease_of("bob");
    assert!(!containers.contains(ready(&theirs).await.id()));
}

/// The moment at which the last one goes is the worst for the next to come.
#[tokio::test(start_paused = true)]
async fn a_login_at_the_moment_of_expiry_finds_a_container_that_lasts() {
    let house = House::of(Mode::Persistent);
    house.engine.break_step(Step::Remove, Fault::Delay(Duration::from_secs(2)));
    for offset in [-1_i32, 0, 1, 1000, 1999, 2001] {
        let lease = house.lease();
        ready(&lease).await;
        soon(lease.give_back()).await;
        yield_to_tasks().await;
        let wait = i64::try_from(IDLE.as_millis()).unwrap() + i64::from(offset);
        advance(Duration::from_millis(wait.unsigned_abs())).await;

        let next = house.lease();
        ready(&next).await;

        sleep(IDLE).await;
        assert!(matches!(*next.state().borrow(), LaunchState::Ready(_)), "{offset}");
        assert_eq!(house.engine.live(), 1, "{offset}");
    }
}

#[tokio::test]
async fn a_persistent_container_that_is_lost_is_replaced_at_the_next_login() {
    let house = House::of(Mode::Persistent);
    let (first, second) = (house.lease(), house.lease());
    let container = ready(&first).await;
    ready(&second).await;

    house.engine.stop(container.id());

    for lease in [&first, &second] {
        soon(lease.state().wait_for(|state| matches!(state, LaunchState::Lost(_)))).await.unwrap();
    }
    let next = house.lease();
    assert_ne!(ready(&next).await.id(), container.id());
    assert_eq!(house.engine.live(), 1, "the one that stopped is removed");
}

#[tokio::test(start_paused = true)]
async fn a_failed_or_late_launch_is_tried_again_at_the_next_login() {
    let house = House::of(Mode::Persistent);
    house.engine.break_step(Step::Launch, House::unreachable());
    assert!(matches!(outcome(&house.lease()).await, LaunchState::Failed(LaunchError::Engine(_))));
    house.engine.break_step(Step::Launch, Fault::Hang);
    assert!(matches!(outcome(&house.lease()).await, LaunchState::Failed(LaunchError::TimedOut(_))));
    yield_to_tasks().await;
    house.engine.mend(Step::Launch);

    ready(&house.lease()).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_persistent_containers_and_reaps_the_rest() {
    let house = House::of(Mode::Persistent);
    let mine = ready(&house.lease()).await.id().clone();
    let stopped = ready(&house.lease_of("bob")).await.id().clone();
    let other = house.restarted(Mode::Connection).lease();
    ready(&other).await;
    house.engine.stop(&stopped);

    let next = house.restarted(Mode::Persistent);
    next.reaper.start(&next.engine, &next.instance).await;
    next.pool.adopt().await;
    let stop = CancellationToken::new();
    stop.cancel();
    let port: Arc<dyn Engine> = Arc::new(next.engine.clone());
    soon(next.reaper.clone().run(port, next.instance.clone(), stop)).await;

    assert_eq!(next.engine.live(), 1);
    let lease = next.lease();
    assert_eq!(*ready(&lease).await.id(), mine);
    assert_eq!(house.launches(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_found_has_an_idle_timeout_and_counts_in_any_mode() {
    for mode in [Mode::Persistent, Mode::Connection] {
        let house = House::of(Mode::Persistent);
        let forgotten = house.lease();
        ready(&forgotten).await;
        house.drain.begun.cancel();
        soon(forgotten.give_back()).await;
        house.settle().await;
        assert_eq!(house.engine.live(), 1, "it stays at the server's end");

        let next = house.restarted(mode);
        next.pool.adopt().await;
        yield_to_tasks().await;
        if mode == Mode::Connection {
            let refused = outcome(&next.lease()).await;
            assert!(matches!(refused, LaunchState::Failed(LaunchError::TooManyOfUser(1))), "{refused:?}");
        }
        sleep(IDLE + Duration::from_secs(1)).await;

        assert_eq!(next.engine.live(), 0, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_at_the_start_is_asked_again_at_a_login() {
    let house = House::of(Mode::Persistent);
    let lease = house.lease();
    let container = ready(&lease).await.id().clone();
    let owned = house.engine.list_owned(&house.instance).await.unwrap();
    assert_eq!(owned.first().and_then(|owned| owned.label(LABEL_MODE)), Some(MODE_PERSISTENT));
    let next = house.restarted(Mode::Persistent);
    next.engine.break_step(Step::List, House::unreachable());
    next.pool.adopt().await;

    assert!(matches!(outcome(&next.lease()).await, LaunchState::Failed(LaunchError::Engine(_))));
    next.engine.mend(Step::List);

    assert_eq!(*ready(&next.lease()).await.id(), container);
    assert_eq!(next.launches(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_server_calls_off_a_launch_that_nobody_waits_for() {
    let house = House::of(Mode::Persistent);
    house.engine.break_step(Step::Launch, Fault::Hang);
    let lease = house.lease();
    yield_to_tasks().await;

    drop(lease);
    house.drain.begun.cancel();

    house.settle().await;
    assert_eq!((house.engine.live(), house.launches()), (0, 1));
}
