//! From a specification to a container, to none, or to a reason.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::{HostConfig, Mount, MountType};
use coracle::engine::docker::{Config, Endpoint};
use coracle::engine::{Change, EngineError, LaunchStage, LaunchWatch, Output};
use futures::StreamExt as _;
use tokio::time::timeout;

use crate::harness::{Bench, DEADLINE, Running, bench, config, on, run, shell, socket};
use crate::proxy::{Proxy, Spoil};

/// L3, L4
pub(crate) async fn containers_are_labelled_and_gone_after_removal(bench: Arc<Bench>) {
    let spec = bench.spec();
    let watch = LaunchWatch::default();
    let container = bench.engine.launch(&spec, &watch).await.expect("a container");

    assert_eq!(*watch.stage.borrow(), LaunchStage::Starting);
    let owned = bench.engine.list_owned(&bench.instance).await.expect("a list");
    let [only] = owned.as_slice() else { panic!("{owned:?}") };
    assert_eq!((&only.id, only.running), (container.id(), true));
    for (name, value) in &spec.labels {
        assert_eq!(only.label(name), Some(value.as_str()));
    }

    container.remove().await.expect("a removal");
    assert_eq!(bench.containers().await, 0);
}

/// L9
pub(crate) async fn a_container_that_is_gone_says_so(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let mut running = Running::start(&container, &shell("echo ready; sleep 100")).await;
    running.expect("ready\n").await;
    let began = Instant::now();

    bench.engine.remove(container.id()).await.expect("a removal behind its back");

    let ended = running.finish().await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(matches!(ended.status, Err(EngineError::Gone { .. })), "{:?}", ended.status);
    let next = container.exec(&shell("true")).await;
    assert!(matches!(next, Err(EngineError::Gone { .. })), "{next:?}");
}

/// L8
pub(crate) async fn a_container_can_be_taken_up_by_its_id(bench: Arc<Bench>) {
    let launched = bench.launch().await;

    let adopted = bench.engine.adopt(launched.id());

    let ended = run(&adopted, &shell("echo here"), b"").await;
    assert_eq!((ended.code(), ended.stdout().as_str()), (0, "here\n"));
    bench.engine.remove(launched.id()).await.expect("a removal behind its back");
    timeout(DEADLINE, adopted.lost()).await.expect("to be told of its loss");
    let again = bench.engine.adopt(launched.id());
    timeout(DEADLINE, again.lost()).await.expect("to be told even when it is late");
}

pub(crate) async fn what_programs_change_is_told_for_as_long_as_there_is_a_container(bench: Arc<Bench>) {
    let container = bench.launch().await;
    run(&container, &shell("mkdir /opt/new; echo a > '/opt/new/a]}, \"b'; rm /etc/shells"), b"").await;

    let changes = container.changes(1000).await.expect("a list");
    let few = container.changes(2).await.expect("a list");

    let told = |path: &str, change| changes.files.contains(&(path.to_owned(), change));
    assert!(told("/opt/new/a]}, \"b", Change::Added), "{changes:?}");
    assert!(told("/etc/shells", Change::Deleted) && told("/etc", Change::Changed), "{changes:?}");
    assert!(!changes.truncated);
    assert_eq!((few.files.len(), few.truncated), (2, true));
    container.remove().await.expect("a removal");
    let gone = container.changes(1).await;
    assert!(matches!(gone, Err(EngineError::Gone { .. })), "{gone:?}");
}

/// L6
pub(crate) async fn an_abandoned_launch_leaves_nothing(bench: Arc<Bench>) {
    for delay in [0, 5, 20, 60, 150] {
        let watch = LaunchWatch::default();
        let abandoned = watch.abandoned.clone();
        let launch = async {
            let spec = bench.spec();
            bench.engine.launch(&spec, &watch).await
        };
        let leave = async {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            abandoned.cancel();
        };
        let (launched, ()) = tokio::join!(launch, leave);
        match launched {
            Ok(container) => container.remove().await.expect("a removal"),
            Err(failure) => {
                assert!(matches!(failure.error, EngineError::Abandoned), "{failure:?}");
                assert!(!failure.maybe_left);
            }
        }
        assert_eq!(bench.containers().await, 0, "after {delay} ms");
    }
}

pub(crate) async fn removing_twice_is_fine(bench: Arc<Bench>) {
    let container = bench.launch().await;

    container.remove().await.expect("a removal");
    container.remove().await.expect("a second removal");
    bench.engine.remove(container.id()).await.expect("a third removal");
}

async fn refused(config: Config, action: &str, words: &str) {
    let words = words.to_owned();
    let action = action.to_owned();
    on(bench(&config), |bench| async move {
        let began = Instant::now();
        let failure = bench.try_launch().await.expect_err("a refusal");
        let EngineError::Refused { action: refused, reason, .. } = &failure.error else {
            panic!("{failure:?}")
        };
        assert_eq!(*refused, action);
        assert!(reason.to_lowercase().contains(&words), "{reason}");
        assert!(!failure.maybe_left && began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        assert_eq!(bench.containers().await, 0);
    })
    .await;
}

/// I7
#[tokio::test]
async fn a_bad_idle_command_is_refused_in_the_engines_words() {
    let mut config = config("coracle/tiny:latest");
    config.config.idle_command = vec!["/nowhere".to_owned()].try_into().expect("a program");

    refused(config, "start the container", "/nowhere").await;
}

/// I7
#[tokio::test]
async fn a_bad_mount_is_refused_in_the_engines_words() {
    let mount = Mount {
        source: Some("/nowhere/at/all".to_owned()),
        target: Some("/mnt".to_owned()),
        typ: Some(MountType::BIND),
        ..Default::default()
    };
    let mut config = config("coracle/tiny:latest");
    config.config.host = HostConfig { mounts: Some(vec![mount]), ..Default::default() };

    refused(config, "create the container", "/nowhere/at/all").await;
}

/// I7
#[tokio::test]
async fn a_bad_host_config_is_refused_in_the_engines_words() {
    let mut config = config("coracle/tiny:latest");
    config.config.host = HostConfig { memory: Some(1), ..Default::default() };

    refused(config, "create the container", "memory").await;
}

/// I7
#[tokio::test]
async fn a_name_that_is_taken_is_refused_and_its_owner_unharmed() {
    let name = format!("coracle-test-{}", coracle::ids::ConnectionId::random());
    let mut config = config("coracle/tiny:latest");
    config.config.container_name = name.parse().expect("a name");
    on(bench(&config), |bench| async move {
        let first = bench.launch().await;

        let failure = bench.try_launch().await.expect_err("a refusal");

        let EngineError::Refused { status: 409, reason, .. } = &failure.error else { panic!("{failure:?}") };
        assert!(reason.contains(&name), "{reason}");
        assert_eq!(bench.containers().await, 1);
        assert_eq!(run(&first, &shell("echo well"), b"").await.stdout(), "well\n");
        first.remove().await.expect("a removal");
    })
    .await;
}

/// I1
#[tokio::test]
async fn never_means_no_pull() {
    on(bench(&config("127.0.0.1:9/nosuch:1")), |bench| async move {
        let began = Instant::now();

        let failure = bench.try_launch().await.expect_err("no image");

        assert!(matches!(failure.error, EngineError::NoSuchImage { .. }), "{failure:?}");
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    })
    .await;
}

/// I8
#[tokio::test]
async fn a_container_that_comes_too_late_is_removed() {
    let mut config = config("coracle/tiny:latest");
    config.config.timeout = "2s".parse().expect("a time-out");
    let proxy = Proxy::before(&mut config);
    proxy.spoil("/containers/create", Spoil::AnswerLate(Duration::from_secs(8)));
    let proxied = Arc::clone(&proxy);
    on(bench(&config), |bench| async move {
        // The engine's version is asked for, once.
        bench.containers().await;
        let failure = bench.try_launch().await.expect_err("a time-out");

        assert!(matches!(failure.error, EngineError::TimedOut { .. }), "{failure:?}");
        assert!(!failure.maybe_left);
        let requests = proxied.requests();
        assert!(requests.iter().any(|request| request.starts_with("DELETE")), "{requests:?}");
        assert_eq!(bench.containers().await, 0);
    })
    .await;
}

/// I8
#[tokio::test]
async fn a_start_that_takes_too_long_is_undone() {
    let mut config = config("coracle/tiny:latest");
    config.config.timeout = "5s".parse().expect("a time-out");
    let proxy = Proxy::before(&mut config);
    proxy.spoil("/start", Spoil::Hang);
    on(bench(&config), |bench| async move {
        let began = Instant::now();

        let failure = bench.try_launch().await.expect_err("a time-out");

        assert!(
            matches!(failure.error, EngineError::TimedOut { action: "start the container", .. }),
            "{failure:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert_eq!((failure.maybe_left, bench.containers().await), (false, 0));
    })
    .await;
}

/// I9
#[tokio::test]
async fn an_engine_that_comes_up_later_is_used_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("engine.sock");
    let mut config = config("coracle/tiny:latest");
    config.config.timeout = "5s".parse().expect("a time-out");
    let real = socket(&config);
    config.host = Endpoint::Unix(link.clone());
    let bench = bench(&config);

    let began = Instant::now();
    let failure = bench.try_launch().await.expect_err("no engine");
    assert!(matches!(failure.error, EngineError::Unreachable { .. }), "{failure:?}");
    assert!(!failure.maybe_left && began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());

    std::os::unix::fs::symlink(real, link).expect("a link");
    on(bench, |bench| async move {
        bench.launch().await.remove().await.expect("a removal");
    })
    .await;
}

/// I9
#[tokio::test]
async fn an_engine_that_fails_is_quoted_and_used_again_once_it_is_well() {
    let mut config = config("coracle/tiny:latest");
    let proxy = Proxy::before(&mut config);
    let proxied = Arc::clone(&proxy);
    on(bench(&config), |bench| async move {
        for step in ["/containers/create", "/start"] {
            proxied.spoil(step, Spoil::Fail);
            let failure = bench.try_launch().await.expect_err("a failure");
            assert!(
                matches!(&failure.error, EngineError::Failed { reason, .. } if reason == "the disk is full")
            );
            assert!(!failure.maybe_left, "{failure:?}");
        }
        proxied.mend();
        let container = bench.launch().await;
        proxied.spoil("/exec", Spoil::Fail);
        let failed = container.exec(&shell("true")).await;
        assert!(matches!(failed, Err(EngineError::Failed { .. })), "{failed:?}");
        proxied.mend();
        container.remove().await.expect("a removal");
    })
    .await;
}

/// I9
#[tokio::test]
async fn output_that_is_cut_ends_with_an_error() {
    let mut config = config("coracle/tiny:latest");
    let proxy = Proxy::before(&mut config);
    let proxied = Arc::clone(&proxy);
    on(bench(&config), |bench| async move {
        let container = bench.launch().await;
        proxied.spoil("/start", Spoil::Cut(20_000));
        let mut process = container.exec(&shell("yes")).await.expect("a program");

        let (mut bytes, mut error) = (0, None);
        let read = timeout(DEADLINE / 2, async {
            while let Some(piece) = process.output.next().await {
                match piece {
                    Ok(Output::Stdout(piece) | Output::Stderr(piece)) => bytes += piece.len(),
                    Err(cut) => error = Some(cut),
                }
            }
        });
        read.await.expect("an end");

        assert!(error.is_some() && bytes > 10_000, "{error:?} after {bytes} bytes");
        container.remove().await.expect("a removal");
    })
    .await;
}

/// I10
#[tokio::test]
async fn a_program_in_a_fresh_container_takes_six_requests_and_four_to_the_first_byte() {
    let mut config = config("coracle/tiny:latest");
    let proxy = Proxy::before(&mut config);
    let proxied = Arc::clone(&proxy);
    on(bench(&config), |bench| async move {
        bench.run("true").await;
        proxied.requests();

        let container = bench.launch().await;
        let running = Running::start(&container, &shell("echo hello")).await;
        let before = proxied.requests();
        assert_eq!(running.finish().await.stdout(), "hello\n");
        container.remove().await.expect("a removal");
        let after = proxied.requests();

        assert_eq!((before.len(), after.len()), (4, 2), "{before:?} {after:?}");
        assert!(before.iter().all(|request| request.contains(" /v1.")), "{before:?}");
    })
    .await;
}

/// L10
#[tokio::test]
async fn an_anonymous_volume_goes_with_its_container() {
    let mut config = config("coracle/tiny:latest");
    config.config.container.volumes = Some(vec!["/data".to_owned()]);
    let docker =
        bollard::Docker::connect_with_unix(&config.host.to_string(), 30, bollard::API_DEFAULT_VERSION)
            .expect("a client")
            .negotiate_version()
            .await
            .expect("an engine");
    on(bench(&config), |bench| async move {
        let container = bench.launch().await;
        let id = container.id().as_str();
        let inspected = docker.inspect_container(id, None).await.expect("a container");
        let volume = inspected.mounts.and_then(|mounts| mounts.into_iter().find_map(|mount| mount.name));
        let volume = volume.expect("a volume");
        docker.inspect_volume(&volume).await.expect("the volume");

        container.remove().await.expect("a removal");

        // Volumes are removed before the engine answers.
        assert!(docker.inspect_volume(&volume).await.is_err(), "{volume} is left");
    })
    .await;
}
