//! A container that ends under a live session (L9).

use std::time::{Duration, Instant};

use crate::harness::{Running, TINY, TestServer, docker, poll_until};

async fn with_a_session(server: &TestServer, command: &str) -> (Running, String) {
    let mut client = server.ssh(&[command]).spawn();
    client.wait_for("started").await;
    (client, server.the_container().await)
}

/// Within two seconds of the container's end, with a line that says it.
async fn assert_ends_in_time(mut client: Running, since: Instant, words: &str) {
    let what = "the session's end";
    poll_until(what, Duration::from_secs(10), async || client.has_ended().then_some(())).await;
    let took = since.elapsed();
    let output = client.end().await;
    output.assert_told(words);
    assert!(took < Duration::from_secs(2), "took {took:?}\n{}", output.report());
}

/// L9
#[tokio::test]
async fn a_container_that_is_removed_ends_its_session_with_a_reason() {
    let server = TestServer::builder().image(TINY).alone().start().await;
    let (client, container) = with_a_session(&server, "echo started; sleep 600").await;

    docker(&["rm", "-f", &container]).await;

    assert_ends_in_time(client, Instant::now(), "the container is gone").await;
    server.ssh(&["true"]).output().await.assert_success();
    server.stop().await;
}

/// L9
#[tokio::test]
async fn a_container_that_is_killed_ends_its_session_with_a_reason() {
    let server = TestServer::builder().image(TINY).alone().start().await;
    let (client, container) = with_a_session(&server, "echo started; sleep 600").await;

    docker(&["kill", &container]).await;

    assert_ends_in_time(client, Instant::now(), "the container is gone").await;
    server.ssh(&["true"]).output().await.assert_success();
    server.stop().await;
}

/// L9
#[tokio::test]
async fn every_channel_of_the_connection_is_told() {
    let server = TestServer::builder().image(TINY).alone().start().await;
    let master = server.master(&[]).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = master.ssh(&["echo started; sleep 600"]).spawn();
        client.wait_for("started").await;
        clients.push(client);
    }

    docker(&["rm", "-f", &server.the_container().await]).await;

    let killed = Instant::now();
    for client in clients {
        assert_ends_in_time(client, killed, "the container is gone").await;
    }
    server.stop().await;
}

/// L9
#[tokio::test]
async fn a_program_that_runs_out_of_memory_is_told_so() {
    let memory = "host: {memory: 16777216, memorySwap: 16777216}";
    let server = TestServer::builder().image(TINY).docker_config(memory).alone().start().await;

    let output = server.ssh(&["exec tail /dev/zero"]).output().await;

    output.assert_told("out of memory");
    assert!(output.wall < Duration::from_secs(25), "{}", output.report());
    server.ssh(&["true"]).output().await.assert_success();
    server.stop().await;
}

/// L9: a paused container answers nothing, and must hold nobody up when its client leaves.
#[tokio::test]
async fn a_paused_container_does_not_hang_the_end() {
    let server = TestServer::builder().image(TINY).alone().start().await;
    let (mut client, container) = with_a_session(&server, "echo started; sleep 600").await;
    docker(&["pause", &container]).await;

    client.kill();

    server.assert_all_gone_within(Duration::from_secs(5)).await;
    server.stop().await;
}

/// L9: the same for a new session in it, and for the end of the server.
#[tokio::test]
async fn a_paused_container_does_not_hang_the_servers_end() {
    let mut server = TestServer::builder().image(TINY).section("shutdown: {grace: 1s}").start().await;
    let target = server.through(server.address);
    let master = target.master(&[]).await;
    let mut client = master.ssh(&["echo started; sleep 600"]).spawn();
    client.wait_for("started").await;
    docker(&["pause", &server.the_container().await]).await;
    let refused = master.ssh(&["true"]).spawn();

    server.terminate();

    drop((refused, client));
    drop(master);
    server.assert_ends_within(Duration::from_secs(25)).await;
}
