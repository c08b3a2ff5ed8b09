//! The web hook that is asked what a connection gets: the configuration server.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{HookService, Output, Reply, TINY, TestServer, docker, poll_until};

/// From the client's start until it knows: no answer that is wrong is asked for again.
const QUICK: Duration = Duration::from_secs(15);

/// For a line to get into the log, or a client to end.
const SOON: Duration = Duration::from_secs(10);

async fn serve(service: &HookService, lines: &str, docker_config: &[&str]) -> TestServer {
    let section = format!("configserver: {{url: '{}', timeout: 2s}}\n{lines}", service.url("/config"));
    let builder = TestServer::builder().container("env: [KEPT=yes]").section(&section);
    docker_config.iter().fold(builder, |builder, line| builder.docker_config(line)).start().await
}

/// A service that gives everybody this `config`.
async fn gives(config: Value) -> HookService {
    let service = HookService::start().await;
    service.says("/config", json!({"config": config}));
    service
}

async fn run(server: &TestServer, command: &str) -> Output {
    server.ssh_to("alice", &[command]).output().await
}

#[tokio::test]
async fn what_the_hook_says_lies_over_the_configuration() {
    let service = gives(json!({"docker": {"config": {
        "container": {"env": ["IS=theirs"], "hostname": "hooked"},
        "host": {"memory": 67_108_864, "binds": [], "privileged": false},
        "disableCommand": false,
    }}}))
    .await;
    let ours = [
        "host: {memory: 134217728, memorySwap: 134217728, binds: ['/tmp:/ours'], shmSize: 1048576}",
        "disableCommand: true",
    ];
    let server = serve(&service, "", &ours).await;

    let mut running = server.ssh_to("alice", &["echo $IS $KEPT. $(hostname); ls -d /ours; cat"]).spawn();

    running.wait_for("theirs . hooked\n").await;
    running.wait_for_error("No such file").await;
    let container = server.the_container().await;
    let format = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.ShmSize}}";
    let host = docker(&["inspect", "--format", format, &container]).await;
    assert_eq!(host, "67108864 134217728 1048576");
    let asked = service.asked_once("/config");
    assert_eq!(asked["username"], "alice");
    assert_eq!(asked["remoteAddr"], "127.0.0.1");
    let label = r#"{{index .Config.Labels "coracle.connection"}}"#;
    assert_eq!(asked["connectionId"], docker(&["inspect", "--format", label, &container]).await);
    drop(running);
    server.stop().await;
}

#[tokio::test]
async fn limits_that_the_hook_sets_hold() {
    let service = gives(json!({"limits": {"maxContainersPerUser": 1, "idleTimeout": 0}})).await;
    let server = serve(&service, "limits: {idleTimeout: 1s}", &[]).await;
    let mut running = server.ssh_to("alice", &["echo in; read line; echo end"]).spawn();
    running.wait_for("in\n").await;

    let second = run(&server, "true").await;
    // Longer in silence than the limit that the hook takes away.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let first = running.end().await;

    second.assert_told("you have 1 containers already");
    first.assert_success().assert_stdout("in\nend\n");
    server.stop().await;
}

#[tokio::test]
async fn containerssh_shapes_are_understood() {
    let service = HookService::start().await;
    let launch = json!({"container": {"Image": TINY}, "disableAgent": true});
    let shapes = [
        json!({"backend": "docker", "docker": {"execution": launch}}),
        json!({"dockerrun": {"config": launch}}),
        json!({"docker": {"config": launch}, "log": {"level": "debug"}, "whatever": [1]}),
    ];
    service.at("/config", shapes.map(|config| Reply::Says(json!({"config": config, "unknown": 1}))));
    let server = serve(&service, "", &[]).await;

    for _ in 0..3 {
        run(&server, "ls /bin/bash || echo tiny").await.assert_success().assert_stdout("tiny\n");
    }
    assert_eq!(service.asked("/config").len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_not_right_lets_nobody_in_and_says_why_in_the_log() {
    let service = HookService::start().await;
    let server = serve(&service, "", &[]).await;

    for (reply, reason) in [
        (
            Reply::Says(json!({"config": {"docker": {"config": {"container": {"image": [5]}}}}})),
            "`docker.config.container.image`: ",
        ),
        (
            Reply::Says(json!({"config": {"docker": {"config": {"imge": "x"}}}})),
            "`docker.config.imge`: unknown key",
        ),
        (Reply::Says(json!({"config": {"docker": {"config": []}}})), "docker.config"),
        (Reply::Says(json!({"config": {"docker": "x"}})), "`docker` is no object"),
        (Reply::Says(json!({"config": {"policy": {"command": {"mode": "x"}}}})), "`policy.command.mode`: "),
        (Reply::Says(json!({"success": true})), "`config` is missing"),
        (Reply::Status(403), "refuses with HTTP 403"),
        (Reply::Status(302), "redirects are not followed"),
        (Reply::Status(500), "gave no answer"),
    ] {
        service.at("/config", [reply.clone()]);

        let output = run(&server, "true").await;

        output.assert_code(255);
        assert!(output.stderr().contains("Permission denied"), "{reply:?}: {}", output.report());
        assert!(output.wall < QUICK, "{reply:?}: {}", output.report());
        let what = format!("`{reason}` for {reply:?}");
        poll_until(&what, SOON, async || {
            let log = server.log.lines();
            let last = log.iter().rfind(|line| line.contains("nobody comes in without a profile"))?;
            last.contains(reason).then_some(())
        })
        .await;
    }
    assert!(server.containers().await.is_empty());
    server.stop().await;
}

/// Layers of policy can only take away.
#[tokio::test]
async fn a_policy_of_the_hooks_takes_away_and_gives_nothing() {
    let service = HookService::start().await;
    let server = serve(&service, "policy: {command: {mode: filter, allow: ['echo a', 'echo b']}}", &[]).await;

    service.says("/config", json!({"config": {"policy": {"command": {"mode": "enable"}}}}));
    let allowed = run(&server, "echo a").await;
    let denied = run(&server, "echo c").await;
    service.says(
        "/config",
        json!({"config": {"policy": {"command": {"mode": "filter", "allow": ["echo b", "echo c"]}}}}),
    );
    let narrowed = run(&server, "echo a").await;
    let both = run(&server, "echo b").await;
    let theirs = run(&server, "echo c").await;

    allowed.assert_success().assert_stdout("a\n");
    both.assert_success().assert_stdout("b\n");
    for output in [denied, narrowed, theirs] {
        assert!(output.code() != 0 && output.stdout.is_empty(), "{}", output.report());
    }
    server.stop().await;
}

#[tokio::test]
async fn the_answer_lies_over_the_users_own_profile() {
    let service = gives(json!({"docker": {"config": {"container": {"hostname": "hooked"}}}})).await;
    let profiles = "profiles:\n  python: {docker: {config: {container: {env: [IS=python]}}}, policy: {subsystem: {mode: disable}}}";
    let hook = format!("configserver: {{url: '{}'}}\n{profiles}", service.url("/config"));
    let users = "  users: {alice: {profile: python}}";
    let server = TestServer::builder().auth(users).section(&hook).start().await;

    let output = run(&server, "echo $IS $(hostname)").await;
    let sftp = server.ssh_to("alice", &["-s", "sftp"]).output().await;

    output.assert_success().assert_stdout("python hooked\n");
    assert!(sftp.stderr().contains("subsystem request failed"), "{}", sftp.report());
    server.stop().await;
}

#[tokio::test]
async fn a_hook_may_give_a_container_that_stays() {
    let service = gives(json!({"docker": {"config": {
        "mode": "persistent", "persistent": {"idleTimeout": "1h"}}}}))
    .await;
    service.says(
        "/config",
        json!({"config": {"docker": {"config": {"mode": "persistent", "persistent": {"idleTimeout": "1h"}}}},
               "files": {"/root/from-hook": {"value": "eA=="}}}),
    );
    let server = serve(&service, "", &[]).await;

    run(&server, "touch /root/mine").await.assert_success();
    let later = run(&server, "ls /root/mine /root/from-hook").await;

    later.assert_success().assert_stdout("/root/from-hook\n/root/mine\n");
    for container in server.containers().await {
        docker(&["rm", "-fv", &container]).await;
    }
    server.stop().await;
}

/// What users share is seen by what they are limited by together: pulls of one profile are one.
#[tokio::test]
async fn equal_answers_are_one_profile_and_different_ones_are_not_mixed_up() {
    let service = HookService::start().await;
    let answer = |name: &str| json!({"config": {"docker": {"config": {"container": {"hostname": name}}}}});
    service.at("/config", ["one", "other", "one"].map(|name| Reply::Says(answer(name))));
    let server = serve(&service, "", &[]).await;

    let mut seen = Vec::new();
    for user in ["alice", "bob", "carol"] {
        seen.push(server.ssh_to(user, &["hostname"]).output().await.assert_success().stdout());
    }

    assert_eq!(seen, ["one\n", "other\n", "one\n"]);
    server.stop().await;
}

#[tokio::test]
async fn a_reload_asks_another_configuration_server() {
    let named = |name: &str| json!({"docker": {"config": {"container": {"hostname": name}}}});
    let (one, other) = (gives(named("one")).await, gives(named("other")).await);
    let server = serve(&one, "", &[]).await;
    let mut running = server.ssh_to("alice", &["hostname; cat"]).spawn();
    running.wait_for("one\n").await;

    let file = server.path("config.yaml");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, before.replace(&one.url("/config"), &other.url("/config"))).unwrap();
    server.reload("configuration read again").await;

    run(&server, "hostname").await.assert_success().assert_stdout("other\n");
    assert!(!running.has_ended(), "whoever is in keeps what was given");
    running.close_stdin();
    poll_until("the end of cat", SOON, async || running.has_ended().then_some(())).await;
    server.stop().await;
}
