//! When a container comes, and that it always goes (L).

use std::time::{Duration, Instant};

use crate::harness::{
    MIB, Registry, Sshd, TINY, Target, TcpProxy, TestServer, docker, poll_until, resident_bytes, scaled,
};

on_both!(
    /// L1
    two_commands_of_one_connection_share_their_files,
    |target| {
        let master = target.master(&[]).await;

        master.ssh(&["echo kept > /tmp/file"]).output().await.assert_success();
        let output = master.ssh(&["cat /tmp/file"]).output().await;

        output.assert_success().assert_stdout("kept\n");
        master.close().await;
    }
);

/// L1
#[tokio::test]
async fn one_connection_has_one_container() {
    let server = TestServer::start().await;
    let master = server.master(&[]).await;

    let first = master.ssh(&["hostname"]).output().await;
    let second = master.ssh(&["hostname"]).output().await;

    assert_eq!(first.assert_success().stdout(), second.assert_success().stdout());
    assert_eq!(server.containers().await.len(), 1);
    master.close().await;
    server.stop().await;
}

/// L2
#[tokio::test]
async fn two_connections_have_two_containers() {
    let server = TestServer::start().await;
    let (first, second) = (server.master(&[]).await, server.master(&[]).await);

    first.ssh(&["touch /tmp/mine"]).output().await.assert_success();
    let output = second.ssh(&["test -e /tmp/mine"]).output().await;

    output.assert_code(1);
    assert_eq!(server.containers().await.len(), 2);
    first.close().await;
    second.close().await;
    server.stop().await;
}

/// L3
#[tokio::test]
async fn the_container_is_labelled_with_who_and_where_from() {
    let server = TestServer::start().await;
    let mut client = server.ssh(&["echo started; cat"]).spawn();
    client.wait_for("started").await;

    let container = server.the_container().await;

    let labels = docker(&["inspect", "-f", "{{json .Config.Labels}}", &container]).await;
    let labels: serde_json::Value = serde_json::from_str(&labels).unwrap();
    let label = |name: &str| labels[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(label("coracle.username"), server.user, "{labels}");
    assert!(label("coracle.client").starts_with("127.0.0.1"), "{labels}");
    assert!(!label("coracle.connection").is_empty(), "{labels}");
    assert!(!label("coracle.instance").is_empty(), "{labels}");
    client.end().await.assert_success();
    server.stop().await;
}

/// L4
#[tokio::test]
async fn a_clean_exit_leaves_nothing_within_two_seconds() {
    let server = TestServer::builder().alone().start().await;

    server.ssh(&["true"]).output().await.assert_success();

    server.assert_all_gone_within(Duration::from_secs(2)).await;
    server.stop().await;
}

/// L5
#[tokio::test]
async fn a_killed_client_leaves_nothing_within_five_seconds() {
    let server = TestServer::builder().alone().start().await;
    let mut client = server.ssh(&["echo started; sleep 600"]).spawn();
    client.wait_for("started").await;

    client.kill();

    server.assert_all_gone_within(Duration::from_secs(5)).await;
    server.stop().await;
}

/// L5
#[tokio::test]
async fn a_tcp_reset_leaves_nothing_within_five_seconds() {
    let server = TestServer::builder().alone().start().await;
    let proxy = TcpProxy::to(server.address).await;
    let mut client = server.through(proxy.address).ssh(&["echo started; sleep 600"]).spawn();
    client.wait_for("started").await;

    proxy.reset();

    server.assert_all_gone_within(Duration::from_secs(5)).await;
    server.stop().await;
}

/// L5
#[tokio::test]
async fn a_silent_network_is_noticed_by_keepalive() {
    let server = TestServer::builder().ssh("keepAlive: {interval: 1s, maxMissed: 3}").alone().start().await;
    let proxy = TcpProxy::to(server.address).await;
    let mut client = server.through(proxy.address).ssh(&["echo started; sleep 600"]).spawn();
    client.wait_for("started").await;

    proxy.fall_silent();

    server.assert_all_gone_within(Duration::from_secs(3 + 5)).await;
    drop(client);
    server.stop().await;
}

/// L5: the other side of the same coin.
#[tokio::test]
async fn a_quiet_client_that_answers_keepalive_stays() {
    let server = TestServer::builder().ssh("keepAlive: {interval: 1s, maxMissed: 2}").start().await;

    let output = server.ssh(&["sleep 5; echo still here"]).output().await;

    output.assert_success().assert_stdout("still here\n");
    server.stop().await;
}

/// A container may still come of a creation that was under way when its client left; it goes, too.
async fn assert_nothing_comes_later(server: &TestServer) {
    server.assert_all_given_back().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.assert_all_given_back().await;
}

/// L6
#[tokio::test]
async fn a_client_that_leaves_at_any_moment_leaves_nothing() {
    let server = TestServer::start().await;

    for step in 0..scaled(20, 60) {
        let mut client = server.ssh(&["echo started; sleep 600"]).spawn();
        tokio::time::sleep(Duration::from_millis(scaled(35, 12) * step)).await;
        client.kill();
        // The next one comes while the server may still be busy with the last.
        if step % 4 == 3 {
            server.assert_all_given_back().await;
        }
    }

    assert_nothing_comes_later(&server).await;
    server.stop().await;
}

/// L6
#[tokio::test]
async fn a_client_that_leaves_during_a_pull_leaves_nothing() {
    let mut registry = Registry::start().await;
    let image = registry.push(TINY, "pulled:1").await;
    let server = TestServer::builder().image(&image).pull_policy("Always").start().await;

    for step in 0..10 {
        let mut client = server.ssh(&["sleep 600"]).spawn();
        tokio::time::sleep(Duration::from_millis(60 * step)).await;
        client.kill();
        drop(client);
        server.assert_all_given_back().await;
    }

    assert_nothing_comes_later(&server).await;
    server.stop().await;
}

/// L11
#[tokio::test]
async fn many_connections_at_once_and_in_a_row_all_succeed_and_leave_nothing() {
    let server = TestServer::start().await;
    server.ssh(&["true"]).output().await.assert_success();
    let before = resident_bytes(server.pid());

    let at_once = (0..scaled(20, 50)).map(|_| server.ssh(&["true"]).timeout(Duration::from_mins(2)).output());
    for output in futures::future::join_all(at_once).await {
        output.assert_success();
    }
    server.assert_all_gone_within(Duration::from_secs(30)).await;
    for _ in 0..scaled(30, 200) {
        server.ssh(&["true"]).output().await.assert_success();
    }

    server.assert_all_given_back().await;
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 24 * MIB, "the server grew by {grown} bytes");
    server.stop().await;
}

/// L1, L4: a program of a closed channel must not outlive its connection either.
#[tokio::test]
async fn a_program_that_ignores_its_hangup_goes_with_the_container() {
    let server = TestServer::builder().alone().start().await;
    let mut client = server.ssh(&["trap '' HUP TERM INT; echo started; while :; do sleep 1; done"]).spawn();
    client.wait_for("started").await;
    let container = server.the_container().await;

    client.kill();

    let start = Instant::now();
    poll_until("the container's end", Duration::from_secs(5), async || {
        (!server.containers().await.contains(&container)).then_some(())
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(5));
    server.stop().await;
}
