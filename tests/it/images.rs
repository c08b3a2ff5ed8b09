//! Images, where they come from, and what a user hears when a container cannot be had (I).

use std::time::Duration;

use crate::harness::{EngineProxy, GUEST, Output, Registry, TINY, TestServer, docker};

/// From the client's start to its end: the handshake and the engine's answer, on a busy machine, and no time-out.
const AT_ONCE: Duration = Duration::from_secs(4);

/// A launch that failed: one line with the reason and an id that the log knows, status 255, nothing left.
async fn assert_told(server: &TestServer, output: &Output, reason: &str) {
    output.assert_code(255);
    assert!(output.wall < AT_ONCE, "{}", output.report());
    let text = output.stderr();
    assert_eq!(text.trim_end().lines().count(), 1, "{}", output.report());
    assert!(text.to_lowercase().contains(reason), "no `{reason}` in {}", output.report());
    let log = server.log.text();
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    assert!(
        words.filter(|word| word.len() == 12).any(|word| log.contains(word)),
        "no id in {}",
        output.report()
    );
    server.assert_all_gone_within(AT_ONCE).await;
}

/// I1
#[tokio::test]
async fn never_means_that_a_missing_image_is_refused_without_a_pull() {
    let folder = tempfile::TempDir::new().unwrap();
    let engine = EngineProxy::listen(folder.path());
    let mut server =
        TestServer::builder().image("coracle/missing:1").docker_host(&engine.url()).alone().start().await;
    server.expect_errors();

    let output = server.ssh(&["true"]).output().await;

    assert_told(&server, &output, "coracle/missing:1").await;
    let requests = engine.take();
    assert!(!requests.iter().any(|request| request.contains("/images/create")), "{requests:?}");
    server.stop().await;
}

/// I3
#[tokio::test]
async fn latest_is_pulled_although_present_and_used_when_the_pull_fails() {
    let mut registry = Registry::start().await;
    let image = registry.push(TINY, "tiny:latest").await;
    let server = TestServer::builder().image(&image).pull_policy("IfNotPresent").start().await;
    let before = registry.manifests_served();

    server.ssh(&["true"]).output().await.assert_success();
    let after = registry.manifests_served();
    registry.stop();
    let output = server.ssh(&["echo used"]).output().await;

    assert!(after > before, "the image was not pulled");
    output.assert_success().assert_stdout("used\n");
    let warned =
        server.log.lines().iter().any(|line| line.contains(r#""level":"WARN""#) && line.contains(&image));
    assert!(warned || output.stderr().contains("pull"), "{}", output.report());
    server.stop().await;
}

/// I3
#[tokio::test]
async fn a_tag_of_its_own_is_not_pulled_when_present() {
    let mut registry = Registry::start().await;
    let image = registry.push(TINY, "tiny:1").await;
    let server = TestServer::builder().image(&image).pull_policy("IfNotPresent").start().await;
    let before = registry.manifests_served();

    server.ssh(&["true"]).output().await.assert_success();

    assert_eq!(registry.manifests_served(), before);
    server.stop().await;
}

/// I4, I3
#[tokio::test]
async fn a_port_is_no_tag_and_one_tag_is_pulled() {
    let mut registry = Registry::start().await;
    let latest = registry.push(TINY, "tiny:latest").await;
    let other = registry.push(TINY, "tiny:other").await;
    docker(&["rmi", &latest, &other]).await;
    let untagged = registry.reference("tiny");
    let server = TestServer::builder().image(&untagged).pull_policy("IfNotPresent").start().await;

    server.ssh(&["true"]).output().await.assert_success();

    let known = docker(&["images", "--format", "{{.Tag}}", &untagged]).await;
    assert_eq!(known, "latest");
    server.stop().await;
}

/// I4
#[tokio::test]
async fn a_digest_is_pulled_once() {
    let mut registry = Registry::start().await;
    let tagged = registry.push(TINY, "tiny:1").await;
    let digests = docker(&["inspect", "-f", "{{json .RepoDigests}}", &tagged]).await;
    let digests: Vec<String> = serde_json::from_str(&digests).unwrap();
    let image =
        digests.into_iter().find(|digest| digest.starts_with(&registry.host)).expect("a digest of its own");
    docker(&["rmi", &tagged]).await;
    registry.reference(image.split_once('/').unwrap().1);
    let server = TestServer::builder().image(&image).pull_policy("IfNotPresent").start().await;
    let before = registry.manifests_served();

    server.ssh(&["true"]).output().await.assert_success();
    let once = registry.manifests_served();
    server.ssh(&["true"]).output().await.assert_success();

    assert!(once > before, "the image was there already");
    assert_eq!(registry.manifests_served(), once, "pulled again");
    server.stop().await;
}

/// I5
#[tokio::test]
async fn always_pulls_for_every_connection() {
    let mut registry = Registry::start().await;
    let image = registry.push(TINY, "tiny:1").await;
    let server = TestServer::builder().image(&image).pull_policy("Always").start().await;

    for _ in 0..2 {
        let before = registry.manifests_served();
        server.ssh(&["true"]).output().await.assert_success();
        assert!(registry.manifests_served() > before, "not pulled");
    }
    server.stop().await;
}

/// I6
#[tokio::test]
async fn an_image_that_no_registry_has_is_told_at_once() {
    let mut registry = Registry::start().await;
    let image = registry.reference("nonexistent:1");
    let mut server = TestServer::builder().image(&image).pull_policy("IfNotPresent").alone().start().await;
    server.expect_errors();

    let output = server.ssh(&["true"]).output().await;

    assert_told(&server, &output, "nonexistent").await;
    server.stop().await;
}

/// I6
#[tokio::test]
async fn a_registry_that_is_down_is_told_at_once() {
    let mut registry = Registry::start().await;
    let image = registry.reference("tiny:1");
    registry.stop();
    let mut server = TestServer::builder().image(&image).pull_policy("IfNotPresent").alone().start().await;
    server.expect_errors();

    let output = server.ssh(&["true"]).output().await;

    assert_told(&server, &output, "tiny:1").await;
    server.stop().await;
}

/// I6
#[tokio::test]
async fn wrong_credentials_are_told_at_once() {
    let mut registry = Registry::start_closed().await;
    let image = registry.reference("tiny:1");
    let folder = tempfile::TempDir::new().unwrap();
    // `tester:wrong`
    let login = format!(r#"{{"auths": {{"{}": {{"auth": "dGVzdGVyOndyb25n"}}}}}}"#, registry.host);
    std::fs::write(folder.path().join("config.json"), login).unwrap();
    let mut server = TestServer::builder()
        .image(&image)
        .pull_policy("IfNotPresent")
        .env("DOCKER_CONFIG", &folder.path().display().to_string())
        .alone()
        .start()
        .await;
    server.expect_errors();

    let output = server.ssh(&["true"]).output().await;

    assert_told(&server, &output, "tiny:1").await;
    server.stop().await;
}

/// I7
#[tokio::test]
async fn an_idle_command_that_does_not_exist_is_told_at_once() {
    let server = TestServer::builder().docker_config("launcher: exec");
    let mut server = server.docker_config("idleCommand: [/nonexistent/idle]").alone().start().await;
    server.expect_errors();

    let output = server.ssh(&["true"]).output().await;

    assert_told(&server, &output, "/nonexistent/idle").await;
    server.stop().await;
}

/// I7
#[tokio::test]
async fn a_mount_without_a_source_is_told_at_once() {
    let mount = "host: {mounts: [{type: bind, source: /nonexistent/source, target: /mnt}]}";
    let mut server = TestServer::builder().docker_config(mount).alone().start().await;
    server.expect_errors();

    let output = server.ssh(&["true"]).output().await;

    assert_told(&server, &output, "/nonexistent/source").await;
    server.stop().await;
}

/// I7
#[tokio::test]
async fn a_name_that_is_taken_is_told_at_once_and_harms_not_its_holder() {
    let name = format!("coracle-it-{:08x}", rand::random::<u32>());
    let mut server =
        TestServer::builder().docker_config(&format!("containerName: {name}")).alone().start().await;
    server.expect_errors();
    let mut first = server.ssh(&["echo started; cat"]).spawn();
    first.wait_for("started").await;

    let output = server.ssh(&["true"]).output().await;

    output.assert_code(255);
    assert!(output.wall < AT_ONCE && output.stderr().contains(&name), "{}", output.report());
    first.write(b"still here").await;
    first.wait_for("still here").await;
    first.end().await.assert_success();
    server.stop().await;
}

/// I7
#[tokio::test]
async fn a_host_config_that_the_engine_refuses_is_told_at_once() {
    let mut server = TestServer::builder().docker_config("host: {memory: 1}").alone().start().await;
    server.expect_errors();

    let output = server.ssh(&["true"]).output().await;

    assert_told(&server, &output, "memory").await;
    server.stop().await;
}

/// I7: what failed once does not stay broken.
#[tokio::test]
async fn a_failed_launch_does_not_spoil_the_next() {
    let mut registry = Registry::start().await;
    let image = registry.reference("late:1");
    let mut server = TestServer::builder().image(&image).start().await;
    server.expect_errors();
    server.ssh(&["true"]).output().await.assert_code(255);

    docker(&["tag", GUEST, &image]).await;
    let output = server.ssh(&["echo here"]).output().await;

    output.assert_success().assert_stdout("here\n");
    server.stop().await;
}
