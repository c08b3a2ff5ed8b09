//! Containers that wait for a login: `pool`.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;

use crate::harness::{GUEST, HookService, TINY, TestServer, docker, poll_until, try_docker};

/// How long containers may be on their way in or out.
const SOON: Duration = Duration::from_mins(1);

/// For the end of a server; a removal that hangs takes longer.
const END: Duration = Duration::from_secs(20);

/// What the server does about an updated image, it does within this time.
const LOOK: Duration = Duration::from_secs(50);

async fn serve(pool: &str) -> TestServer {
    TestServer::builder().section(&format!("pool: {{{pool}}}")).start().await
}

/// A clean end: what waits goes with the server.
async fn end(mut server: TestServer) {
    server.terminate();
    server.assert_ends_within(END).await;
    let log = server.log.text();
    assert!(!log.contains("panicked at") && !log.contains(r#""level":"ERROR""#), "{log}");
}

/// The ids of the containers that can be taken.
async fn on_the_shelf(server: &TestServer) -> Vec<String> {
    let list = ["ps", "-q", "--no-trunc", "--filter", &server.label(), "--filter", "name=coracle-warm-"];
    let log = server.log.lines();
    let put =
        |id: &str| log.iter().any(|line| line.contains("a container waits") && line.contains(&id[..12]));
    let taken =
        |id: &str| log.iter().any(|line| line.contains("container is taken") && line.contains(&id[..12]));
    docker(&list).await.lines().filter(|id| put(id) && !taken(id)).map(str::to_owned).collect()
}

/// Waits until exactly so many can be taken, and gives their ids.
async fn filled(server: &TestServer, count: usize) -> HashSet<String> {
    poll_until(&format!("{count} waiting containers"), SOON, async || {
        let waiting = on_the_shelf(server).await;
        (waiting.len() == count).then(|| waiting.into_iter().collect())
    })
    .await
}

async fn names(server: &TestServer) -> Vec<String> {
    let names = docker(&["ps", "-a", "--filter", &server.label(), "--format", "{{.Names}}"]).await;
    names.lines().map(str::to_owned).collect()
}

/// A session that stays, and the host name of its container, which tells which of them it is.
macro_rules! stay {
    ($client:expr) => {{
        let mut client = $client.spawn();
        let seen = client.wait_for("\n").await;
        (client, seen.trim().to_owned())
    }};
}

const STAY: &str = "hostname; cat";

async fn id_by_hostname(server: &TestServer, hostname: &str) -> String {
    for id in server.containers().await {
        // One that is just being made is listed before it can be looked at.
        if try_docker(&["inspect", "-f", "{{.Config.Hostname}}", &id])
            .await
            .is_ok_and(|name| name == hostname)
        {
            return id;
        }
    }
    panic!("no container calls itself {hostname}: {:?}", names(server).await);
}

/// Rewrites the configuration, and has it read.
async fn change(server: &TestServer, from: &str, to: &str) {
    let file = server.path("config.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&file, text.replace(from, to)).unwrap();
    server.reload("configuration read again").await;
}

#[tokio::test]
async fn a_login_takes_a_container_that_waits_and_it_goes_with_the_connection() {
    let server = serve("warm: 2").await;
    let waiting = filled(&server, 2).await;

    let (client, hostname) = stay!(server.ssh_to("alice", &[STAY]));

    let taken = id_by_hostname(&server, &hostname).await;
    assert!(waiting.contains(&taken));
    filled(&server, 2).await;
    assert_eq!(server.containers().await.len(), 3);
    client.end().await.assert_success();
    poll_until("its removal", SOON, async || (!server.containers().await.contains(&taken)).then_some(()))
        .await;
    assert_eq!(server.containers().await.len(), 2);
    end(server).await;
}

#[tokio::test]
async fn the_engines_list_shows_whose_a_taken_container_is() {
    let server = serve("warm: 1").await;
    filled(&server, 1).await;
    let before = names(&server).await;
    assert!(before.len() == 1 && before[0].starts_with("coracle-warm-"), "{before:?}");

    let (client, _) = stay!(server.ssh_to("al ice/ö", &[STAY]));

    let log = server.log.lines().into_iter().find(|line| line.contains("logged in")).unwrap();
    let log: serde_json::Value = serde_json::from_str(&log).unwrap();
    let connection = log["fields"]["connection"].as_str().or(log["connection"].as_str()).unwrap();
    let expected = format!("coracle-{connection}-al_ice__");
    poll_until(&expected, SOON, async || names(&server).await.contains(&expected).then_some(())).await;
    client.end().await.assert_success();
    end(server).await;
}

/// L11
#[tokio::test]
async fn more_logins_than_wait_all_get_one_of_their_own() {
    let server = serve("warm: 3, startParallel: 2").await;
    filled(&server, 3).await;

    let clients = (0..12).map(|_| server.ssh_to("alice", &["hostname; sleep 1"]).output());
    let outputs = join_all(clients).await;

    let hostnames: HashSet<_> = outputs.iter().map(|output| output.assert_success().stdout()).collect();
    assert_eq!(hostnames.len(), 12);
    filled(&server, 3).await;
    poll_until("nothing but those that wait", SOON, async || {
        (server.containers().await.len() == 3).then_some(())
    })
    .await;
    end(server).await;
}

#[tokio::test]
async fn there_are_never_more_than_wait_and_are_in_use() {
    let server = serve("warm: 2").await;
    filled(&server, 2).await;
    let (first, _) = stay!(server.ssh(&[STAY]));
    let (second, _) = stay!(server.ssh(&[STAY]));

    for _ in 0..40 {
        let running = docker(&["ps", "-q", "--filter", &server.label()]).await.lines().count();
        assert!(running <= 4, "{running}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    filled(&server, 2).await;
    assert_eq!(server.containers().await.len(), 4);
    first.end().await.assert_success();
    second.end().await.assert_success();
    end(server).await;
}

/// L8
#[tokio::test]
async fn what_waited_before_a_crash_is_reaped_at_the_next_start() {
    let mut server = serve("warm: 3").await;
    let before = filled(&server, 3).await;

    server.kill();
    assert_eq!(server.containers().await.len(), 3);
    server.start_again().await;

    let after = filled(&server, 3).await;
    assert!(before.is_disjoint(&after));
    // Neither of the two waits for the other.
    poll_until("the leftovers' end", SOON, async || (server.containers().await.len() == 3).then_some(()))
        .await;
    end(server).await;
}

/// L7
#[tokio::test]
async fn a_shutdown_while_containers_are_being_started_leaves_none() {
    for millis in [0, 150, 400] {
        let server = serve("warm: 4, startParallel: 4").await;
        tokio::time::sleep(Duration::from_millis(millis)).await;

        end(server).await;
    }
}

#[tokio::test]
async fn a_reload_replaces_what_waits_if_it_is_made_otherwise_and_only_then() {
    let server = serve("warm: 2").await;
    let before = filled(&server, 2).await;

    change(&server, "pool: {warm: 2}", "pool: {warm: 3}\nlimits: {maxLifetime: 1h}").await;
    let more = filled(&server, 3).await;
    assert!(more.is_superset(&before));
    change(&server, GUEST, TINY).await;
    poll_until("the old ones' removal", SOON, async || {
        more.is_disjoint(&server.containers().await.into_iter().collect()).then_some(())
    })
    .await;
    filled(&server, 3).await;

    server.ssh(&["test ! -e /usr/bin/git"]).output().await.assert_success();
    change(&server, "pool: {warm: 3}", "pool: {warm: 0}").await;
    server.assert_all_gone_within(SOON).await;
    end(server).await;
}

#[tokio::test]
async fn a_new_image_of_the_same_name_replaces_what_waits() {
    let image = format!("coracle-it-warm-{}:1", std::process::id());
    docker(&["tag", GUEST, &image]).await;
    let server = TestServer::builder().image(&image).section("pool: {warm: 2}").start().await;
    let before = filled(&server, 2).await;

    docker(&["tag", TINY, &image]).await;

    poll_until("the old ones' removal", LOOK, async || {
        before.is_disjoint(&server.containers().await.into_iter().collect()).then_some(())
    })
    .await;
    filled(&server, 2).await;
    server.ssh(&["test ! -e /usr/bin/git"]).output().await.assert_success();
    end(server).await;
    docker(&["rmi", &image]).await;
}

/// L9
#[tokio::test]
async fn a_waiting_container_that_is_removed_or_stopped_is_replaced() {
    let server = serve("warm: 2").await;
    let before = filled(&server, 2).await;

    for (id, action) in before.iter().zip(["rm", "kill"]) {
        let options: &[&str] = if action == "rm" { &["rm", "-f", id] } else { &["kill", id] };
        docker(options).await;
    }

    poll_until("two others", SOON, async || {
        let now: HashSet<_> = on_the_shelf(&server).await.into_iter().collect();
        (now.len() == 2 && now.is_disjoint(&before) && server.containers().await.len() == 2).then_some(())
    })
    .await;
    server.ssh(&["true"]).output().await.assert_success();
    end(server).await;
}

#[tokio::test]
async fn what_waits_counts_and_makes_room_for_people() {
    let profiles = "profiles:\n  lab: {pool: {warm: 2}}\n";
    let server = TestServer::builder()
        .section(&format!("pool: {{warm: 1}}\nlimits: {{maxContainers: 3}}\n{profiles}"))
        .start()
        .await;
    filled(&server, 3).await;

    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(stay!(server.ssh(&[STAY])).0);
        assert!(server.containers().await.len() <= 3);
    }
    let refused = server.ssh(&["true"]).output().await;

    refused.assert_code(255);
    assert!(refused.stderr().contains("as many containers as this server allows"), "{}", refused.report());
    for client in clients {
        client.end().await.assert_success();
    }
    filled(&server, 3).await;
    end(server).await;
}

#[tokio::test]
async fn a_profiles_limit_holds_for_its_own_containers() {
    let profiles = "profiles:\n  lab: {pool: {warm: 1, max: 1}}\n";
    let users = "  users:\n    alice: {profile: lab}";
    let server = TestServer::builder().auth(users).section(profiles).start().await;
    filled(&server, 1).await;
    let (first, _) = stay!(server.ssh_to("alice", &[STAY]));

    let second = server.ssh_to("alice", &["true"]).output().await;
    let of_bob = server.ssh_to("bob", &["true"]).output().await;

    second.assert_code(255);
    assert!(second.stderr().contains("as many containers"), "{}", second.report());
    of_bob.assert_success();
    first.end().await.assert_success();
    filled(&server, 1).await;
    server.ssh_to("alice", &["true"]).output().await.assert_success();
    end(server).await;
}

#[tokio::test]
async fn each_profile_has_its_own_and_a_user_gets_one_of_them() {
    let profiles = "profiles:
  python: {docker: {config: {container: {env: [IS=python]}}}, pool: {warm: 1}}
  node: {docker: {config: {container: {env: [IS=node]}}}}
pool: {warm: 0}";
    let users = "  users:\n    alice: {profile: python, profiles: [node]}";
    let server = TestServer::builder().auth(users).section(profiles).start().await;
    let waiting = filled(&server, 1).await;
    let id = waiting.iter().next().unwrap();
    let labels = docker(&["inspect", "-f", "{{json .Config.Labels}}", id]).await;
    assert!(labels.contains(r#""coracle.profile":"python""#) && labels.contains("coracle.warm"), "{labels}");

    let (client, hostname) = stay!(server.ssh_to("alice", &[STAY]));

    assert_eq!(&id_by_hostname(&server, &hostname).await, id);
    client.end().await.assert_success();
    for (user, expected) in [("alice", "python"), ("node+alice", "node"), ("bob", "")] {
        let output = server.ssh_to(user, &["echo $IS"]).output().await;
        assert_eq!(output.assert_success().stdout().trim(), expected, "{user}");
    }
    end(server).await;
}

#[tokio::test]
async fn each_session_takes_one_in_the_mode_session() {
    let server =
        TestServer::builder().docker_config("mode: session").section("pool: {warm: 2}").start().await;
    let waiting = filled(&server, 2).await;
    let master = server.master(&[]).await;
    assert_eq!(filled(&server, 2).await, waiting, "a login alone takes none");

    let (first, one) = stay!(master.ssh(&[STAY]));
    let (second, other) = stay!(master.ssh(&[STAY]));

    let ids = [id_by_hostname(&server, &one).await, id_by_hostname(&server, &other).await];
    assert!(ids[0] != ids[1] && ids.iter().all(|id| waiting.contains(id)));
    first.end().await.assert_success();
    second.end().await.assert_success();
    master.close().await;
    end(server).await;
}

#[tokio::test]
async fn a_hooks_files_are_in_a_container_that_waited_and_what_it_changes_starts_cold() {
    let service = HookService::start().await;
    service
        .says("/hooks/pubkey", json!({"success": true, "files": {"/root/deep/file": {"value": "aGVsbG8K"}}}));
    service.says("/hooks/config", json!({"config": {"docker": {"config": {"container": {"env": []}}}}}));
    let hook = format!("  publicKey: {{method: webhook, webhook: {{url: '{}'}}}}", service.url("/hooks"));
    let configserver = format!("configserver: {{url: '{}'}}", service.url("/hooks/config"));
    let server = TestServer::builder()
        .no_authorized_keys()
        .auth(&hook)
        .container("env: []")
        .section(&format!("pool: {{warm: 1}}\n{configserver}"))
        .start()
        .await;
    let waiting = filled(&server, 1).await;

    let (client, hostname) = stay!(server.ssh_to("alice", &["hostname; cat /root/deep/file; cat"]));
    assert!(waiting.contains(&id_by_hostname(&server, hostname.lines().next().unwrap()).await));
    assert!(client.end().await.assert_success().stdout().contains("hello"));

    filled(&server, 1).await;
    service.says(
        "/hooks/config",
        json!({"config": {"docker": {"config": {"container": {"env": ["IS=hooked"]}}}}}),
    );
    let waiting = filled(&server, 1).await;
    let output = server.ssh_to("alice", &["echo $IS; cat /root/deep/file"]).output().await;
    output.assert_success().assert_stdout("hooked\nhello\n");
    assert_eq!(filled(&server, 1).await, waiting);
    end(server).await;
}

#[tokio::test]
async fn an_image_that_is_missing_keeps_nobody_waiting_and_is_told_once() {
    let image = format!("coracle-it-warm-missing-{}:1", std::process::id());
    let server = TestServer::builder().image(&image).section("pool: {warm: 3}").start().await;
    poll_until("the reason in the log", SOON, async || {
        server.log.text().contains("can be kept waiting").then_some(())
    })
    .await;

    let output = server.ssh(&["true"]).output().await;

    output.assert_code(255);
    assert!(output.stderr().contains("is not on the engine"), "{}", output.report());
    docker(&["tag", TINY, &image]).await;
    poll_until("three waiting containers", SOON * 2, async || {
        (on_the_shelf(&server).await.len() == 3).then_some(())
    })
    .await;
    assert_eq!(server.log.text().matches("no container can be kept waiting").count(), 1);
    end(server).await;
    try_docker(&["rmi", &image]).await.ok();
}
