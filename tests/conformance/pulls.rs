//! Pull policies, against a registry of our own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle::engine::docker::ImagePullPolicy;
use coracle::engine::{Container, EngineError, LaunchFailure, LaunchStage, LaunchWatch};
use tokio::time::sleep;

use crate::faltering::Faltering;
use crate::harness::{Bench, bench, config, on};
use crate::proxy::{Proxy, Spoil};
use crate::registry::Registry;

/// A bench that pulls, with its requests written down.
fn pulling(image: &str, policy: ImagePullPolicy) -> (Bench, Arc<Proxy>) {
    let mut config = config(image);
    config.config.image_pull_policy = policy;
    let proxy = Proxy::before(&mut config);
    (bench(&config), proxy)
}

fn pulls(proxy: &Proxy) -> usize {
    proxy.requests().iter().filter(|request| request.contains("/images/create")).count()
}

async fn launch_and_remove(bench: &Bench) {
    bench.launch().await.remove().await.expect("a removal");
}

async fn launch(bench: &Bench, watch: &LaunchWatch) -> Result<Arc<dyn Container>, LaunchFailure> {
    let spec = bench.spec();
    bench.engine.launch(&spec, watch).await
}

/// I2
#[tokio::test]
async fn a_missing_image_is_pulled_once_and_progress_is_told() {
    let registry = Registry::start().await;
    let image = registry.image(":v1");
    let (bench, proxy) = pulling(&image, ImagePullPolicy::IfNotPresent);
    let proxied = Arc::clone(&proxy);
    on(bench, |bench| async move {
        let watch = LaunchWatch::default();
        let mut stages = watch.stage.subscribe();
        let pulled = async {
            stages.wait_for(|stage| matches!(stage, LaunchStage::Pulling(_))).await.expect("a stage").clone()
        };
        let (launched, stage) = tokio::join!(launch(&bench, &watch), pulled);
        launched.expect("a container").remove().await.expect("a removal");
        assert!(matches!(stage, LaunchStage::Pulling(progress) if progress.image == image));
        assert_eq!(pulls(&proxied), 1);

        launch_and_remove(&bench).await;
        assert_eq!(pulls(&proxied), 0);
    })
    .await;
    registry.forget().await;
}

/// I2
#[tokio::test]
async fn launches_at_the_same_time_share_one_pull() {
    let registry = Registry::start().await;
    let (bench, proxy) = pulling(&registry.image(":v1"), ImagePullPolicy::IfNotPresent);
    proxy.spoil("/images/create", Spoil::AnswerLate(Duration::from_millis(500)));
    let proxied = Arc::clone(&proxy);
    on(bench, |bench| async move {
        let launched = futures::future::join_all((0..4).map(|_| bench.launch())).await;
        for container in launched {
            container.remove().await.expect("a removal");
        }
        assert_eq!(pulls(&proxied), 1);
    })
    .await;
    registry.forget().await;
}

/// I3
#[tokio::test]
async fn latest_is_pulled_and_what_is_there_serves_while_the_registry_is_down() {
    let mut registry = Registry::start().await;
    let (bench, proxy) = pulling(&registry.image(""), ImagePullPolicy::IfNotPresent);
    let bench = Arc::new(bench);
    launch_and_remove(&bench).await;
    launch_and_remove(&bench).await;
    assert_eq!(pulls(&proxy), 2);

    registry.stop().await;

    launch_and_remove(&bench).await;
    assert_eq!(pulls(&proxy), 1);
    // The failure is remembered: the next login does not wait for the registry again.
    launch_and_remove(&bench).await;
    assert_eq!((pulls(&proxy), bench.containers().await), (0, 0));
    registry.forget().await;
}

/// I3, I9
#[tokio::test]
async fn what_is_there_serves_while_the_registry_is_silent() {
    let mut config = config("coracle/tiny:latest");
    config.config.image_pull_policy = ImagePullPolicy::IfNotPresent;
    config.config.timeout = "8s".parse().expect("a time-out");
    let proxy = Proxy::before(&mut config);
    proxy.spoil("/images/create", Spoil::Hang);
    let proxied = Arc::clone(&proxy);
    on(bench(&config), |bench| async move {
        launch_and_remove(&bench).await;
        launch_and_remove(&bench).await;
        assert_eq!(pulls(&proxied), 1);
    })
    .await;
}

/// I6, I9: the layers stop coming, and the engine itself tries for minutes.
#[tokio::test]
async fn a_registry_that_stops_half_way_is_told_in_time() {
    let registry = Registry::start().await;
    registry.push_noise("v2").await;
    let broken = Faltering::before(&registry.address, 200_000).await;
    let mut config = config(&format!("{}/tiny:v2", broken.address));
    config.config.image_pull_policy = ImagePullPolicy::IfNotPresent;
    config.config.timeout = "5s".parse().expect("a time-out");
    on(bench(&config), |bench| async move {
        let began = Instant::now();
        let failure = bench.try_launch().await.expect_err("no image");
        let reason = failure.error.to_string();
        assert!(reason.contains("pull"), "{reason}");
        assert!(!failure.maybe_left && began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    })
    .await;
    registry.forget().await;
}

/// I4
#[tokio::test]
async fn a_digest_is_pulled_once() {
    let registry = Registry::start().await;
    let (bench, proxy) = pulling(&registry.digest().await, ImagePullPolicy::IfNotPresent);
    let proxied = Arc::clone(&proxy);
    on(bench, |bench| async move {
        launch_and_remove(&bench).await;
        launch_and_remove(&bench).await;
        assert_eq!(pulls(&proxied), 1);
    })
    .await;
    registry.forget().await;
}

/// I4
#[tokio::test]
async fn only_the_configured_tag_is_pulled() {
    let registry = Registry::start().await;
    let (bench, _proxy) = pulling(&registry.image(""), ImagePullPolicy::IfNotPresent);
    on(bench, |bench| async move { launch_and_remove(&bench).await }).await;

    registry.docker.inspect_image(&registry.image(":latest")).await.expect("the pulled tag");
    assert!(registry.docker.inspect_image(&registry.image(":v1")).await.is_err(), "all tags were pulled");
    registry.forget().await;
}

/// I5
#[tokio::test]
async fn always_pulls_every_time() {
    let mut registry = Registry::start().await;
    let (bench, proxy) = pulling(&registry.image(":v1"), ImagePullPolicy::Always);
    launch_and_remove(&bench).await;
    launch_and_remove(&bench).await;
    assert_eq!(pulls(&proxy), 2);

    registry.stop().await;

    let failure = bench.try_launch().await.expect_err("no registry");
    assert!(matches!(failure.error, EngineError::PullFailed { .. }), "{failure:?}");
    registry.forget().await;
}

/// I6
#[tokio::test]
async fn an_image_that_nobody_has_is_told_in_the_registrys_words() {
    let mut registry = Registry::start().await;
    for suffix in [":nosuch", "-nosuch"] {
        let (bench, _proxy) = pulling(&registry.image(suffix), ImagePullPolicy::IfNotPresent);
        let began = Instant::now();
        let failure = bench.try_launch().await.expect_err("no image");
        let EngineError::PullFailed { reason, .. } = &failure.error else { panic!("{failure:?}") };
        assert!(!reason.is_empty() && began.elapsed() < Duration::from_secs(15), "{reason}");
    }
    registry.stop().await;
    let (bench, _proxy) = pulling(&registry.image(":v1"), ImagePullPolicy::IfNotPresent);
    let failure = bench.try_launch().await.expect_err("no registry");
    assert!(matches!(&failure.error, EngineError::PullFailed { reason, .. } if reason.contains("refused")));
}

/// L6
#[tokio::test]
async fn a_pull_is_called_off_with_its_last_launch() {
    for how in [Spoil::Hang, Spoil::Stall] {
        let (bench, proxy) = pulling("127.0.0.1:9/nosuch:v1", ImagePullPolicy::IfNotPresent);
        proxy.spoil("/images/create", how);
        let (first, second) = (LaunchWatch::default(), LaunchWatch::default());

        let leave = async {
            proxy.until_waiting(1).await;
            first.abandoned.cancel();
            // The other launch still waits for it.
            sleep(Duration::from_millis(100)).await;
            proxy.until_waiting(1).await;
            second.abandoned.cancel();
            proxy.until_waiting(0).await;
        };
        let (one, two, ()) = tokio::join!(launch(&bench, &first), launch(&bench, &second), leave);

        for launched in [one, two] {
            let failure = launched.expect_err("it was called off");
            assert!(matches!(failure.error, EngineError::Abandoned) && !failure.maybe_left, "{failure:?}");
        }
    }
}
