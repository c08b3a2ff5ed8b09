//! What users get: `profiles`, and what a reload takes away.

use std::time::Duration;

use crate::harness::{TestServer, docker, poll_until};

/// How long a program may be on its way out.
const SOON: Duration = Duration::from_secs(10);

const USERS: &str = "  users:
    alice: {groups: [lab], profiles: [node]}
    bob: {groups: [lab], profile: node}
  groups:
    lab: {profile: python}";

const PROFILES: &str = "profiles:
  python:
    docker: {config: {container: {env: [IS=python]}}}
    limits: {maxContainersPerUser: 1}
  node:
    docker: {config: {container: {ENV: [IS=node], labels: {team: web}}}}
    policy: {subsystem: {mode: disable}}";

async fn serve() -> TestServer {
    // Without an entry in the image's passwd users are called what they log in as.
    let container = "hostname: lab, user: '4711'";
    TestServer::builder().container(container).auth(USERS).section(PROFILES).start().await
}

#[tokio::test]
async fn a_user_gets_what_is_asked_for_or_given_merged_over_what_everybody_gets() {
    let server = serve().await;

    for (user, expected) in [
        ("alice", "python lab"),
        ("node+alice", "node lab"),
        ("bob", "node lab"),
        ("carol", "lab"),
        // Not theirs to ask for: just another name.
        ("node+carol", "lab"),
    ] {
        let output = server.ssh_to(user, &["echo $IS $(hostname)"]).output().await;

        output.assert_success();
        assert_eq!(output.stdout().trim(), expected, "{user}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_profiles_policy_limits_and_labels_hold_for_its_users_alone() {
    let server = serve().await;
    let mut running = server.ssh_to("alice", &["echo started; cat"]).spawn();
    running.wait_for("started").await;
    let container = server.the_container().await;

    let second = server.ssh_to("alice", &["true"]).output().await;
    let of_bob = server.ssh_to("bob", &["-s", "sftp"]).output().await;
    let labels = docker(&["inspect", "--format", "{{json .Config.Labels}}", &container]).await;

    second.assert_told("you have 1 containers already");
    assert!(of_bob.stderr().contains("subsystem request failed"), "{}", of_bob.report());
    assert!(labels.contains(r#""coracle.profile":"python""#), "{labels}");
    drop(running);
    server.stop().await;
}

/// Y1: a permit that a reload withdraws ends what was started with it, and nothing else.
#[tokio::test]
async fn a_reload_ends_what_is_not_permitted_any_more() {
    let server = TestServer::start().await;
    let master = server.master(&[]).await;
    let mut doomed = master.ssh(&["echo started; exec sleep 1000"]).spawn();
    let mut spared = master.ssh(&["echo spared; cat; echo end"]).spawn();
    doomed.wait_for("started").await;
    spared.wait_for("spared").await;
    let file = server.path("config.yaml");
    let before = std::fs::read_to_string(&file).unwrap();

    let policy = "policy: {command: {deny: ['echo started; exec sleep 1000']}}";
    std::fs::write(&file, format!("{before}\n{policy}\n")).unwrap();
    server.reload("configuration read again").await;

    poll_until("the end of what is denied now", SOON, async || doomed.has_ended().then_some(())).await;
    doomed.end().await.assert_code(255).assert_told("you may not run this here any more");
    let left = master.ssh(&["ps -ef | grep -c '[s]leep 1000'"]).output().await;
    assert_eq!(left.stdout().trim(), "0", "the program is gone, too");
    spared.close_stdin();
    let spared = spared.end().await;
    assert!(spared.assert_success().stdout().ends_with("end\n"), "{}", spared.report());
    master.close().await;
    server.stop().await;
}
