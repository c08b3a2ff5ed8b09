//! What waits, and the limits.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_profiles_limit_counts_what_waits_and_what_is_on_loan() {
    let shop = Shop::new(Limits { containers_of_profile: 3, ..LIMITS });
    shop.stock(2);
    shop.filled(2).await;

    let leases = [shop.lease(), shop.lease(), shop.lease()];
    for lease in &leases {
        ready(lease).await;
    }
    let fourth = shop.lease();

    assert!(matches!(outcome(&fourth).await, LaunchState::Failed(LaunchError::TooMany)));
    assert_eq!(shop.engine().live(), 3);
    sleep(Duration::from_mins(1)).await;
    assert_eq!((shop.engine().live(), shop.waiting()[""]), (3, 0));
    drop(leases);
    shop.filled(2).await;
    shop.close().await;
}

/// Those that are only being started count, too, and are somebody's rather than nobody's.
#[tokio::test(start_paused = true)]
async fn a_login_is_not_refused_because_of_what_is_being_started_for_nobody() {
    for limits in [Limits { containers_of_profile: 2, ..LIMITS }, Limits { containers: 2, ..LIMITS }] {
        let shop = Shop::new(limits);
        shop.stock(2);
        sleep(START / 2).await;
        assert_eq!(shop.engine().live(), 0);

        let (first, second, third) = (shop.lease(), shop.lease(), shop.lease());

        ready(&first).await;
        ready(&second).await;
        assert!(matches!(outcome(&third).await, LaunchState::Failed(LaunchError::TooMany)));
        assert_eq!(shop.engine().live(), 2);
        drop((first, second));
        shop.filled(2).await;
        shop.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_others_makes_room_at_the_servers_limit() {
    let shop = Shop::new(Limits { containers: 3, ..LIMITS });
    shop.house.pool.stock(vec![shop.stock_of("", 1, None), shop.stock_of("lab", 2, None)]);
    shop.filled(1).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(shop.engine().live(), 3);

    let leases = [shop.lease(), shop.lease(), shop.lease()];

    for lease in &leases {
        ready(lease).await;
        assert!(shop.engine().live() <= 3);
    }
    assert_eq!(shop.waiting(), HashMap::from([(String::new(), 0), ("lab".to_owned(), 0)]));
    assert!(matches!(outcome(&shop.lease()).await, LaunchState::Failed(LaunchError::TooMany)));
    drop(leases);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(shop.waiting()["lab"] + shop.waiting()[""], 3);
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_users_limit_counts_what_was_taken() {
    let shop = Shop::new(Limits { containers_per_user: 1, ..LIMITS });
    shop.stock(2);
    shop.filled(2).await;
    let first = shop.lease();
    ready(&first).await;

    let second = shop.lease();

    assert!(matches!(outcome(&second).await, LaunchState::Failed(LaunchError::TooManyOfUser(1))));
    assert!(is_ready(&shop.lease_as("bob", "")));
    drop(first);
    shop.close().await;
}

#[tokio::test(start_paused = true)]
async fn persistent_containers_have_the_room_of_what_waits() {
    let shop = Shop::new(Limits { containers: 1, ..LIMITS });
    shop.stock(1);
    shop.filled(1).await;
    let pool = shop.pool_of(Some(9), Mode::Persistent);

    let lease = shop.lease_from(&pool, Moment::Login, "alice", "lab").unwrap();

    ready(&lease).await;
    assert_eq!(shop.engine().live(), 1);
    drop(lease);
    sleep(IDLE * 2).await;
    shop.filled(1).await;
    shop.close().await;
}

/// It would come after all who wait for their turn, and whoever needs its room with it.
#[tokio::test(start_paused = true)]
async fn what_is_not_being_started_yet_gives_its_room_up() {
    let starts = Starts::new(1);
    let shop = Shop::starting(Limits { containers: 2, ..LIMITS }, starts.clone());
    let held = starts.turn().await;
    let first = shop.lease();
    sleep(START).await;
    shop.house.pool.stock(vec![shop.stock_of("lab", 1, None)]);
    sleep(START).await;

    let second = shop.lease();
    sleep(START).await;

    assert_eq!(shop.house.launches(), 2, "both wait for their turn");
    drop(held);
    ready(&first).await;
    ready(&second).await;
    drop((first, second));
    sleep(START * 4).await;
    assert_eq!(shop.waiting()["lab"], 1);
    shop.close().await;
}
