//! How the server ends (L7), and what it finds after it was killed (L8).

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{
    Fault, FaultProxy, GUEST, Output, Running, TINY, TestServer, call, docker, poll_until, try_docker,
};

/// For an end on a busy machine; the server gives up long before.
const PATIENCE: Duration = Duration::from_mins(1);

async fn server_with(grace: &str) -> TestServer {
    TestServer::builder().image(TINY).section(&format!("shutdown: {{grace: {grace}}}")).start().await
}

/// So many clients with a container each, all running `command` after they said `started`.
async fn sessions(server: &TestServer, count: usize, command: &str) -> Vec<Running> {
    let command = format!("echo started; {command}");
    let mut clients: Vec<_> = (0..count).map(|_| server.ssh(&[&command]).spawn()).collect();
    for client in &mut clients {
        client.wait_for("started").await;
    }
    clients
}

/// All are told, by a line of ours: but for who gets no turn to read it within half a second, and is disconnected with the same
/// words.
fn assert_cut(outputs: &[Output]) {
    for output in outputs {
        output.assert_code(255);
        assert!(output.stderr().contains("the server is shutting down"), "{}", output.report());
    }
    let by_line = |output: &&Output| output.stderr().starts_with("coracle: the server is shutting down");
    assert!(outputs.iter().filter(by_line).count() * 2 > outputs.len(), "{}", outputs[0].report());
}

/// L7
#[tokio::test]
async fn ten_sessions_are_cut_with_a_line_when_the_grace_is_over() {
    let mut server = server_with("3s").await;
    let clients = sessions(&server, 10, "sleep 600").await;
    let asked = Instant::now();

    server.terminate();

    let mut outputs = Vec::new();
    for mut client in clients {
        poll_until("the session's end", PATIENCE, async || client.has_ended().then_some(())).await;
        assert!(asked.elapsed() >= Duration::from_secs(3), "cut after {:?}", asked.elapsed());
        outputs.push(client.end().await);
    }
    assert_cut(&outputs);
    server.assert_ends_within(PATIENCE).await;
}

/// L7: with status 0, or its manager would start it again; what is left is the next start's.
#[tokio::test]
async fn a_server_whose_engine_removes_nothing_ends_all_the_same_and_says_so() {
    let folder = TempDir::with_prefix("coracle-it-drain-").unwrap();
    let engine = FaultProxy::listen(folder.path());
    let server =
        TestServer::builder().image(TINY).section("shutdown: {grace: 1s}").docker_host(&engine.url());
    let mut server = server.start().await;
    server.expect_errors();
    let mut clients = sessions(&server, 1, "sleep 600").await;
    engine.spoil(call::REMOVE, Fault::Fail(500, "the disk is full"));

    server.terminate();

    assert_cut(&[clients.remove(0).end().await]);
    server.assert_process_ends_within(Duration::from_mins(1)).await;
    poll_until("the server's last words", PATIENCE, async || {
        server.log.text().contains("some containers may be left").then_some(())
    })
    .await;
    assert_eq!(server.containers().await.len(), 1);
    engine.mend();
    server.start_again().await;
    server.assert_all_gone_within(PATIENCE).await;
    server.stop().await;
}

/// L7
#[tokio::test]
async fn a_program_that_ends_within_the_grace_is_not_cut_and_nobody_waits_longer() {
    let mut server = server_with("60s").await;
    let clients = sessions(&server, 3, "cat; exit 7").await;

    server.terminate();
    poll_until("the drain", PATIENCE, async || server.log.text().contains("shutting down").then_some(()))
        .await;

    for client in clients {
        client.end().await.assert_code(7).assert_stdout("started\n");
    }
    server.assert_ends_within(PATIENCE).await;
}

/// L7
#[tokio::test]
async fn nobody_comes_in_during_a_drain() {
    let mut server = server_with("60s").await;
    let target = server.through(server.address);
    let master = target.master(&[]).await;
    let mut client = master.ssh(&["echo started; cat"]).spawn();
    client.wait_for("started").await;

    server.terminate();
    poll_until("new connections are refused", PATIENCE, async || {
        tokio::net::TcpStream::connect(server.address).await.is_err().then_some(())
    })
    .await;

    let channel = master.ssh(&["true"]).option("ControlMaster=no").output().await;
    assert_ne!(channel.code(), 0, "{}", channel.report());
    assert_eq!(server.containers().await.len(), 1);
    client.end().await.assert_success();
    server.assert_ends_within(PATIENCE).await;
}

/// L7
#[tokio::test]
async fn a_person_at_a_terminal_is_told_that_the_server_goes_down() {
    let mut server = server_with("60s").await;
    let mut client = server.ssh(&["echo started; cat"]).arg("-tt").spawn();
    client.wait_for("started").await;

    server.terminate();

    // With a terminal the notice comes on standard error, which a program on a terminal does not use.
    client.wait_for_error("the server is shutting down").await;
    client.write(b"\x04").await;
    client.end().await.assert_success();
    server.assert_ends_within(PATIENCE).await;
}

/// L7
#[tokio::test]
async fn a_second_signal_cuts_at_once() {
    let mut server = server_with("600s").await;
    let clients = sessions(&server, 3, "sleep 600").await;
    server.terminate();
    poll_until("the drain", PATIENCE, async || server.log.text().contains("shutting down").then_some(()))
        .await;

    server.terminate();

    let mut outputs = Vec::new();
    for mut client in clients {
        poll_until("the session's end", PATIENCE, async || client.has_ended().then_some(())).await;
        outputs.push(client.end().await);
    }
    assert_cut(&outputs);
    server.assert_ends_within(PATIENCE).await;
}

/// L7: who has not logged in yet does not hold the end up, and neither does who logged in and runs nothing.
#[tokio::test]
async fn an_idle_connection_does_not_hold_the_end_up() {
    let mut server = server_with("60s").await;
    let idle = server.through(server.address);
    let master = idle.master(&[]).await;
    let half_open = tokio::net::TcpStream::connect(server.address).await.unwrap();

    server.terminate();

    server.assert_ends_within(PATIENCE).await;
    drop((master, half_open));
}

/// L8
#[tokio::test]
async fn a_killed_server_reaps_its_own_leftovers_and_nobody_elses_when_it_starts_again() {
    let mut server = server_with("1s").await;
    let stranger = docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--label",
        "coracle.instance=somebody-else",
        TINY,
        "sleep",
        "600",
    ])
    .await;
    let clients = sessions(&server, 10, "sleep 600").await;
    server.kill();
    drop(clients);
    assert_eq!(server.containers().await.len(), 10);

    server.start_again().await;

    server.assert_all_gone_within(PATIENCE).await;
    let running = try_docker(&["inspect", "-f", "{{.State.Running}}", &stranger]).await;
    docker(&["rm", "-f", &stranger]).await;
    assert_eq!(running.as_deref(), Ok("true"));
    server.ssh(&["true"]).output().await.assert_success();
    server.stop().await;
}

/// SIGHUP: what new connections get follows the file; a file that is not right changes nothing and says so.
#[tokio::test]
async fn a_reload_changes_what_new_connections_get_and_a_bad_file_changes_nothing() {
    let server = TestServer::start().await;
    let file = server.path("config.yaml");
    let before = std::fs::read_to_string(&file).unwrap();
    let mut old = server.ssh(&["echo started; cat; echo end"]).spawn();
    old.wait_for("started").await;

    std::fs::write(&file, before.replace(GUEST, TINY)).unwrap();
    server.reload("configuration read again").await;
    server.ssh(&["test -e /etc/debian_version"]).output().await.assert_code(1);

    std::fs::write(&file, format!("{before}\nnonsense: 1\n")).unwrap();
    server.reload("the one before stays").await;
    server.ssh(&["test -e /etc/debian_version"]).output().await.assert_code(1);

    std::fs::write(&file, before).unwrap();
    drop(old);
    server.stop().await;
}
