//! What a connection, a user and the server may have at most (L12, L13, T9).

use std::time::{Duration, Instant};

use crate::harness::{TINY, TestServer, poll_until};

async fn server_with(limits: &str) -> TestServer {
    TestServer::builder().image(TINY).section(&format!("limits: {{{limits}}}")).start().await
}

/// L12
#[tokio::test]
async fn a_program_whose_channel_closes_is_hung_up_and_then_killed() {
    let server = TestServer::builder().image(TINY).start().await;
    let master = server.master(&[]).await;
    let stubborn = "trap 'echo hup >> /tmp/log' HUP; echo started; while :; do sleep 0.1; done";
    let mut client = master.ssh(&[&format!("echo $$ > /tmp/pid; {stubborn}")]).spawn();
    client.wait_for("started").await;

    client.kill();

    let gone = "cat /tmp/log; kill -0 $(cat /tmp/pid) 2>/dev/null || echo gone";
    let seen = poll_until("its end", Duration::from_secs(15), async || {
        let output = master.ssh(&[gone]).output().await.stdout();
        output.contains("gone").then_some(output)
    })
    .await;
    assert!(seen.contains("hup"), "{seen}");
    master.close().await;
    server.stop().await;
}

/// L13
#[tokio::test]
async fn a_connection_ends_at_its_lifetime_with_a_warning_before() {
    let server = server_with("maxLifetime: 4s").await;
    let begun = Instant::now();
    let mut client = server.ssh(&["while sleep 0.2; do echo tick; done"]).arg("-tt").spawn();

    client.wait_for_error("ends in 2s").await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    client.wait_for_error("may last 4s").await;

    let ended = begun.elapsed();
    assert!((4000..20_000).contains(&ended.as_millis()), "{ended:?}");
    client.end().await.assert_code(255);
    server.assert_all_gone_within(Duration::from_secs(20)).await;
    server.stop().await;
}

/// L13: with a terminal, so that the warning itself must not count as something that happened.
#[tokio::test]
async fn an_idle_connection_is_warned_and_then_ended() {
    let server = server_with("idleTimeout: 12s").await;
    let mut client = server.ssh(&["echo started; sleep 600"]).arg("-tt").spawn();
    client.wait_for("started").await;
    let begun = Instant::now();

    client.wait_for_error("nothing has happened for long").await;
    client.wait_for_error("nothing happened for 12s").await;

    let ended = begun.elapsed();
    assert!((9000..17_000).contains(&ended.as_millis()), "{ended:?}");
    client.end().await.assert_code(255);
    server.assert_all_gone_within(Duration::from_secs(20)).await;
    server.stop().await;
}

/// L13
#[tokio::test]
async fn a_script_that_is_idle_reads_one_line() {
    let server = server_with("idleTimeout: 2s").await;

    let output = server.ssh(&["sleep 600"]).output().await;

    output.assert_told("nothing happened for 2s");
    server.stop().await;
}

/// L13: the other side of the same coin.
#[tokio::test]
async fn a_connection_with_output_or_input_now_and_then_is_not_idle() {
    let server = server_with("idleTimeout: 10s").await;

    let talks = server.ssh(&["for i in 1 2 3 4 5 6; do sleep 2; echo $i; done"]).output();
    let listens =
        server.ssh(&["cat > /dev/null; echo end"]).piped("for i in 1 2 3 4 5 6; do sleep 2; echo; done | {}");
    let (talks, listens) = tokio::join!(talks, listens.output());

    talks.assert_success().assert_stdout("1\n2\n3\n4\n5\n6\n");
    listens.assert_success().assert_stdout("end\n");
    server.stop().await;
}

#[tokio::test]
async fn a_container_too_many_is_refused_until_one_is_gone() {
    let server = server_with("maxContainers: 2").await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = server.ssh(&["echo started; cat"]).spawn();
        client.wait_for("started").await;
        clients.push(client);
    }

    server.ssh(&["true"]).output().await.assert_told("as many containers as this server allows");

    clients.pop().unwrap().end().await.assert_success();
    poll_until("room for one", Duration::from_secs(20), async || {
        (server.containers().await.len() == 1).then_some(())
    })
    .await;
    poll_until("a place", Duration::from_secs(20), async || {
        (server.ssh(&["true"]).output().await.code() == 0).then_some(())
    })
    .await;
    clients.pop().unwrap().end().await.assert_success();
    server.stop().await;
}

#[tokio::test]
async fn a_container_too_many_of_one_user_is_refused_and_another_user_is_not() {
    let server = server_with("maxContainersPerUser: 1").await;
    let mut client = server.ssh(&["echo started; cat"]).spawn();
    client.wait_for("started").await;

    server.ssh(&["true"]).output().await.assert_told("you have 1 container");
    server.ssh_as("somebody", &server.keys.client()).output().await.assert_success();

    client.end().await.assert_success();
    server.stop().await;
}

/// T9
#[tokio::test]
async fn a_server_out_of_descriptors_refuses_and_then_recovers() {
    let server = TestServer::builder().image(TINY).descriptors_max(128).start().await;
    server.ssh(&["true"]).output().await.assert_success();

    let connects = (0..300).map(|_| tokio::net::TcpStream::connect(server.address));
    let held = futures::future::join_all(connects).await;
    // It refuses before it runs out, so that those who are in can go on.
    poll_until("the server refuses", Duration::from_secs(10), async || {
        server.log.text().contains("connection refused: too many").then_some(())
    })
    .await;
    assert!(!server.log.text().contains("cannot accept"), "it ran out of descriptors");
    drop(held);

    poll_until("a login", Duration::from_secs(20), async || {
        (server.ssh(&["true"]).output().await.code() == 0).then_some(())
    })
    .await;
    server.assert_all_given_back().await;
    server.stop().await;
}
