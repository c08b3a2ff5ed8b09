//! Failures that pass are survived; those that do not are told; nothing is done twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle::engine::docker::Endpoint;
use coracle::engine::{EngineError, LaunchWatch};
use tokio::time::sleep;

use crate::harness::{bench, config, on, run, shell, socket};
use crate::proxy::{Proxy, Spoil};

fn count(requests: &[String], text: &str) -> usize {
    requests.iter().filter(|request| request.contains(text)).count()
}

/// I9
#[tokio::test]
async fn steps_that_fail_twice_are_made_a_third_time() {
    let mut config = config("coracle/tiny:latest");
    let proxy = Proxy::before(&mut config);
    let proxied = Arc::clone(&proxy);
    on(bench(&config), |bench| async move {
        for how in [Spoil::Fail, Spoil::Drop, Spoil::Cut(0)] {
            for step in ["/start", "/exec "] {
                proxied.spoil_next(2, step, how);
                let ended = bench.run("echo well").await;
                assert_eq!(ended.stdout(), "well\n", "{step} {how:?}");
                let requests = proxied.requests();
                // The start of the program is one of these, too.
                let expected = if step == "/start" { 4 } else { 3 };
                assert_eq!(count(&requests, step), expected, "{how:?}: {requests:?}");
                assert_eq!(count(&requests, "/containers/create"), 1, "{requests:?}");
            }
        }
        for how in [Spoil::Fail, Spoil::Drop] {
            proxied.spoil_next(2, "/containers/create", how);
            assert_eq!(bench.run("echo well").await.stdout(), "well\n", "{how:?}");
            assert_eq!(count(&proxied.requests(), "/containers/create"), 3, "{how:?}");
        }
    })
    .await;
}

/// I9
#[tokio::test]
async fn a_container_whose_creation_was_never_confirmed_is_found_and_used() {
    let mut config = config("coracle/tiny:latest");
    let proxy = Proxy::before(&mut config);
    let proxied = Arc::clone(&proxy);
    on(bench(&config), |bench| async move {
        proxied.spoil_next(1, "/containers/create", Spoil::Cut(0));

        let container = bench.launch().await;

        assert_eq!(bench.containers().await, 1);
        assert_eq!(count(&proxied.requests(), "/containers/create"), 1);
        assert_eq!(run(&container, &shell("echo well"), b"").await.stdout(), "well\n");
        container.remove().await.expect("a removal");
    })
    .await;
}

/// I7, I9
#[tokio::test]
async fn a_fixed_name_is_not_taken_from_its_owner_after_a_broken_connection() {
    let mut config = config("coracle/tiny:latest");
    let name = format!("coracle-test-{}", coracle::ids::ConnectionId::random());
    config.config.container_name = name.parse().expect("a name");
    let proxy = Proxy::before(&mut config);
    let proxied = Arc::clone(&proxy);
    on(bench(&config), |bench| async move {
        let owner = bench.launch().await;
        for how in [Spoil::Drop, Spoil::Cut(0)] {
            proxied.spoil_next(1, "/containers/create", how);
            let failure = bench.try_launch().await.expect_err("a conflict");
            let EngineError::Refused { status: 409, reason, .. } = &failure.error else {
                panic!("{failure:?}")
            };
            assert!(reason.contains(&name), "{reason}");
        }
        assert_eq!(run(&owner, &shell("echo well"), b"").await.stdout(), "well\n");
        owner.remove().await.expect("a removal");
    })
    .await;
}

/// I7
#[tokio::test]
async fn a_refusal_is_not_asked_for_again() {
    let mut config = config("coracle/tiny:latest");
    config.config.host.memory = Some(1);
    let proxy = Proxy::before(&mut config);
    let proxied = Arc::clone(&proxy);
    on(bench(&config), |bench| async move {
        let failure = bench.try_launch().await.expect_err("a refusal");

        assert!(matches!(failure.error, EngineError::Refused { .. }), "{failure:?}");
        assert_eq!(count(&proxied.requests(), "/containers/create"), 1);
    })
    .await;
}

/// I9
#[tokio::test]
async fn a_program_is_never_started_twice() {
    let mut config = config("coracle/tiny:latest");
    let proxy = Proxy::before(&mut config);
    let proxied = Arc::clone(&proxy);
    on(bench(&config), |bench| async move {
        let container = bench.launch().await;
        for how in [Spoil::Fail, Spoil::Drop] {
            proxied.requests();
            proxied.spoil_next(1, "/start", how);
            let failed = container.exec(&shell("true")).await;
            assert!(matches!(failed, Err(EngineError::Failed { .. })), "{failed:?}");
            assert_eq!(count(&proxied.requests(), "/start"), 1);
        }
        container.remove().await.expect("a removal");
    })
    .await;
}

/// L6
#[tokio::test]
async fn nothing_is_tried_again_for_a_client_that_has_left() {
    let mut config = config("coracle/tiny:latest");
    let proxy = Proxy::before(&mut config);
    let proxied = Arc::clone(&proxy);
    on(bench(&config), |bench| async move {
        for (step, how) in [("/containers/create", Spoil::Drop), ("/start", Spoil::Drop)] {
            proxied.spoil(step, how);
            let watch = LaunchWatch::default();
            let began = Instant::now();
            let spec = bench.spec();
            let leave = async {
                sleep(Duration::from_millis(800)).await;
                watch.abandoned.cancel();
            };
            let (launched, ()) = tokio::join!(bench.engine.launch(&spec, &watch), leave);
            let failure = launched.expect_err("it was called off");
            assert!(matches!(failure.error, EngineError::Abandoned), "{failure:?}");
            assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
            assert_eq!(bench.containers().await, 0);
        }
    })
    .await;
}

/// I9
#[tokio::test]
async fn a_login_outlasts_the_restart_of_its_engine() {
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("engine.sock");
    let mut config = config("coracle/tiny:latest");
    let real = socket(&config);
    config.host = Endpoint::Unix(link.clone());
    on(bench(&config), |bench| async move {
        let back = async {
            sleep(Duration::from_secs(1)).await;
            std::os::unix::fs::symlink(real, link).expect("a link");
        };
        let (container, ()) = tokio::join!(bench.launch(), back);
        container.remove().await.expect("a removal");
    })
    .await;
}
