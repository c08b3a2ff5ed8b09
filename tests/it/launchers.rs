//! Programs that are started by a container's own first process: `docker.config.launcher`.

use std::time::{Duration, Instant};

#[path = "../conformance/remote.rs"]
mod remote;

use crate::harness::{TINY, Target, Terminal, TestServer, docker, poll_until, python, scaled};
use remote::Wire;

const SENT: &str = "containers' programs are started this way from now on";

async fn serve(launcher: &str) -> TestServer {
    TestServer::builder().docker_config(&format!("launcher: {launcher}")).start().await
}

/// A server whose engine is elsewhere, as far as it can tell.
async fn serve_from_afar(launcher: &str, more: &str) -> (TestServer, Wire) {
    let wire = Wire::to("/var/run/docker.sock".into());
    let server = TestServer::builder()
        .docker_host(&wire.endpoint.to_string())
        .docker_config(&format!("launcher: {launcher}"))
        .docker_config(more)
        .start()
        .await;
    (server, wire)
}

fn assert_chosen(target: &Target, launcher: &str, by: &str) {
    let log = target.log.text();
    let line = log.lines().find(|line| line.contains(SENT)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains(&format!(r#""launcher":"{launcher}","by":"{by}""#)), "{line}");
}

/// Output, status, terminal, copies: the whole of a day's work.
async fn assert_works(server: &TestServer) {
    let output = server.ssh(&["cat; echo o; echo e >&2; exit 3"]).stdin("in\n").output().await;
    output.assert_code(3).assert_stdout("in\no\n");
    assert_eq!(output.stderr(), "e\n");
    let data = vec![b'x'; 3_000_000];
    let count = server.ssh(&["cat | cat"]).stdin(data.clone()).output().await;
    assert!(count.assert_success().stdout() == String::from_utf8(data).unwrap());
    let terminal = Terminal::open(&server.ssh(&[]).arg("-tt")).await;
    terminal.enter("stty size; tty").await;
    terminal.wait_for("40 100").await;
    terminal.wait_for("/dev/pts/").await;
    terminal.enter("exit").await;
}

#[tokio::test]
async fn auto_takes_the_init_on_an_engine_of_this_machine() {
    let server = serve("auto").await;

    assert_works(&server).await;

    assert_chosen(&server, "init", "Socket");
    server.stop().await;
}

#[tokio::test]
async fn auto_takes_the_init_on_an_engine_elsewhere() {
    let (server, _wire) = serve_from_afar("auto", "timeout: 60s").await;

    assert_works(&server).await;

    assert_chosen(&server, "init", "Attach");
    server.stop().await;
}

#[tokio::test]
async fn auto_takes_the_init_with_a_root_that_cannot_be_written() {
    // One after the other: whoever waits for its turn to be alone comes between two.
    for is_far in [false, true] {
        let (server, _wire) = if is_far {
            let (server, wire) = serve_from_afar("auto", "host: {readonlyRootfs: true}").await;
            (server, Some(wire))
        } else {
            let server = TestServer::builder().docker_config("launcher: auto").section("sandbox: strict");
            (server.start().await, None)
        };
        let output = server.ssh(&["echo x > /here; echo y > /dev/stdout"]).output().await;

        assert!(output.stdout() == "y\n" && output.stderr().contains("ead-only"), "{}", output.report());
        assert!(server.log.text().contains(r#""launcher":"init""#), "{}", server.log.text());
        server.stop().await;
    }
}

/// A persistent container of an engine elsewhere cannot be talked to again after a restart of ours.
#[tokio::test]
async fn auto_takes_the_engines_exec_where_an_init_cannot_be_delivered() {
    let (server, _wire) = serve_from_afar("auto", "mode: persistent").await;

    assert_works(&server).await;

    assert_chosen(&server, "exec", "Exec");
    for container in server.containers().await {
        docker(&["rm", "-fv", &container]).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn init_alone_says_where_it_cannot_be_delivered() {
    let (server, _wire) = serve_from_afar("init", "mode: persistent").await;

    let output = server.ssh(&["true"]).output().await;

    output.assert_told("first process");
    server.stop().await;
}

/// P2: every time, before the program's first look.
#[tokio::test]
async fn the_terminals_first_size_is_exact() {
    for image in ["coracle/guest:latest", TINY] {
        let server = TestServer::builder().image(image).docker_config("launcher: init").start().await;
        let rounds = scaled(50, 50);

        let sizes = python(&server, "sizes.py", &["stty size", &rounds.to_string()]).output().await;

        sizes.assert_success().assert_stdout(&"40 100\n".repeat(rounds));
        server.stop().await;
    }
}

/// E10
#[tokio::test]
async fn the_signal_that_ended_a_program_is_told_by_its_name() {
    for image in ["coracle/guest:latest", TINY] {
        let server = TestServer::builder().image(image).docker_config("launcher: init").start().await;

        for name in ["KILL", "TERM", "USR1", "HUP", "SEGV"] {
            let ending = python(&server, "ending.py", &[&format!("kill -{name} $$")]).output().await;
            ending.assert_success().assert_stdout(&format!("signal {name}\n"));
        }
        server.stop().await;
    }
}

/// L12: HUP at once, KILL after five seconds, and its connection goes on.
#[tokio::test]
async fn a_closed_channel_hangs_its_program_up_and_then_kills_it() {
    let server = TestServer::builder().image(TINY).docker_config("launcher: init").start().await;
    let master = server.master(&[]).await;
    let mut client = master
        .ssh(&[
            "echo $$ > /tmp/pid; trap 'echo hup >> /tmp/log' HUP; echo started; while :; do sleep 0.1; done",
        ])
        .spawn();
    client.wait_for("started").await;

    client.kill();
    let begun = Instant::now();

    let look = "cat /tmp/log 2>/dev/null; kill -0 $(cat /tmp/pid) && echo alive";
    poll_until("the hang-up, before the end", Duration::from_secs(4), async || {
        (master.ssh(&[look]).output().await.stdout() == "hup\nalive\n").then_some(())
    })
    .await;
    poll_until("its end", Duration::from_secs(10), async || {
        (master.ssh(&["kill -0 $(cat /tmp/pid) 2>/dev/null"]).output().await.code() != 0).then_some(())
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    master.close().await;
    server.stop().await;
}

/// What nobody serves any more ends by itself, even when no server ever comes back.
#[tokio::test]
async fn a_container_ends_when_its_server_has_been_gone_for_long() {
    let server = TestServer::builder().docker_config("launcher: init");
    let mut server = server.docker_config("init: {orphanTimeout: 2s}").start().await;
    let mut client = server.ssh(&["trap '' HUP TERM; echo started; while :; do sleep 1; done"]).spawn();
    client.wait_for("started").await;
    let container = server.the_container().await;

    server.kill();
    let begun = Instant::now();

    poll_until("the container's end", Duration::from_secs(20), async || {
        let state = docker(&["inspect", "--format", "{{.State.Running}}", &container]).await;
        (state.trim() == "false").then_some(())
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(client.end().await);
    server.start_again().await;
    server.assert_all_gone_within(Duration::from_mins(1)).await;
    server.stop().await;
}

/// A program's standard streams can be opened by their names, whoever it runs as.
#[tokio::test]
async fn standard_streams_belong_to_the_programs_user() {
    for user in ["nobody", "1234:1234", "root"] {
        let server =
            TestServer::builder().container(&format!("user: {user:?}")).docker_config("launcher: init");
        let server = server.start().await;

        let pipes =
            server.ssh(&["cat /dev/stdin > /dev/stdout; echo e > /dev/stderr"]).stdin("in").output().await;
        pipes.assert_success().assert_stdout("in");
        assert_eq!(pipes.stderr(), "e\n");
        let terminal = server.ssh(&["echo by name > $(tty); stat -c %a $(tty)"]).arg("-tt").output().await;
        terminal.assert_success().assert_stdout("by name\r\n620\r\n");
        server.stop().await;
    }
}

/// The frames that an engine elsewhere passes on hold what people type: none of it is kept in its logs.
#[tokio::test]
async fn nothing_of_a_session_is_in_the_engines_logs() {
    let (server, _wire) = serve_from_afar("init", "timeout: 60s").await;
    let mut client = server.ssh(&["cat"]).spawn();
    client.write(b"a secret\n").await;
    client.wait_for("a secret").await;
    let container = server.the_container().await;

    let driver = docker(&["inspect", "--format", "{{.HostConfig.LogConfig.Type}}", &container]).await;

    assert_eq!(driver.trim(), "none");
    client.close_stdin();
    client.end().await.assert_success();
    server.stop().await;
}
