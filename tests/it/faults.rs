//! What an engine can do wrong, call by call (I8, I9): one line for the user, no hang, and the next connection works.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{Fault, FaultProxy, TINY, TestServer, call, launcher, poll_until};

/// The engine's calls for one command, in their order, without the removal.
const CALLS: [&str; 5] = [call::CREATE, call::START, call::EXEC_CREATE, call::EXEC_START, call::INSPECT];

/// The same with an init.
const CALLS_WITH_INIT: [&str; 3] = [call::IMAGE, call::CREATE, call::START];

/// A server whose engine can be spoiled.
struct House {
    server: TestServer,
    engine: FaultProxy,
    _folder: TempDir,
}

impl House {
    async fn start() -> Self {
        Self::with_launcher(&launcher()).await
    }

    /// For what only the engine's exec, or only an init, can do wrong. Long enough for a container on a busy machine.
    async fn with_launcher(launcher: &str) -> Self {
        Self::with(launcher, "20s").await
    }

    /// For calls that are given up, some of them many times.
    async fn impatient() -> Self {
        Self::with(&launcher(), "5s").await
    }

    /// With `docker.config.timeout`.
    async fn with(launcher: &str, time_out: &str) -> Self {
        let folder = TempDir::with_prefix("coracle-it-engine-").unwrap();
        let engine = FaultProxy::listen(folder.path());
        Self::before(engine, folder, launcher, time_out).await
    }

    async fn before(engine: FaultProxy, folder: TempDir, launcher: &str, time_out: &str) -> Self {
        let server = TestServer::builder().image(TINY).docker_host(&engine.url());
        let server = server.docker_config(&format!("launcher: {launcher}"));
        let server = server.docker_config(&format!("timeout: {time_out}")).start().await;
        Self { server, engine, _folder: folder }
    }

    /// The fault is over, and nothing of it stays.
    async fn assert_recovers(&self) {
        self.engine.mend();
        // Two seconds for a container can be short on a busy machine.
        poll_until("a login that works", PATIENCE, async || {
            (self.server.ssh(&["echo fine"]).output().await.stdout() == "fine\n").then_some(())
        })
        .await;
        self.server.assert_all_gone_within(PATIENCE).await;
    }
}

/// For what is late on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// I9
#[tokio::test]
async fn a_failing_engine_is_quoted_and_forgiven() {
    let house = House::start().await;
    let calls = if launcher() == "init" { CALLS_WITH_INIT.as_slice() } else { CALLS.as_slice() };

    for &call in calls {
        house.engine.spoil(call, Fault::Fail(500, "the disk is full"));
        let output = house.server.ssh(&["true"]).output().await;

        output.assert_told("the disk is full");
        assert!(output.wall < Duration::from_secs(25), "{call}: {}", output.report());
        house.assert_recovers().await;
    }
    house.server.stop().await;
}

/// I9
#[tokio::test]
async fn an_engine_that_hangs_up_or_talks_nonsense_is_told_and_forgiven() {
    let house = House::impatient().await;

    for call in CALLS {
        for fault in [Fault::Close, Fault::Garbage, Fault::Cut(0), Fault::Cut(9), Fault::Cut(70)] {
            house.engine.spoil(call, fault);
            let output = house.server.ssh(&["true"]).output().await;

            // What breaks half-way may have been done; then it is used.
            if output.code() != 0 {
                output.assert_told("");
            }
            assert!(output.wall < Duration::from_secs(25), "{call}, {fault:?}: {}", output.report());
            house.engine.mend();
        }
        house.assert_recovers().await;
    }
    house.server.stop().await;
}

/// I9
#[tokio::test]
async fn a_stream_that_is_cut_is_no_clean_end() {
    let house = House::with_launcher("exec").await;

    // The head of the answer has about 100 bytes; the rest is the program's output.
    for bytes in [120, 1000, 200_000] {
        house.engine.spoil(call::EXEC_START, Fault::Cut(bytes));
        let started = Instant::now();
        let output = house.server.ssh(&["yes | head -c 1000000; sleep 30"]).output().await;

        output.assert_told("");
        assert!(started.elapsed() < Duration::from_secs(15), "{bytes}: {}", output.report());
        house.engine.mend();
    }
    house.assert_recovers().await;
    house.server.stop().await;
}

/// I8
#[tokio::test]
async fn an_engine_slower_than_the_time_out_fails_in_time_and_its_late_container_goes() {
    let house = House::impatient().await;

    for call in [call::CREATE, call::START] {
        house.engine.take();
        house.engine.spoil(call, Fault::Late(Duration::from_secs(10)));
        let started = Instant::now();
        let mut client = house.server.ssh(&["true"]).spawn();
        // The clock of the time-out starts at the login, a little before the first request.
        house.engine.wait_for(call::CREATE).await;
        let logged_in = started.elapsed();
        poll_until("the client's end", Duration::from_secs(15), async || client.has_ended().then_some(()))
            .await;
        let took = started.elapsed().saturating_sub(logged_in);

        client.end().await.assert_told("5s");
        assert!((2500..9500).contains(&took.as_millis()), "{call}: {took:?}");
        house.assert_recovers().await;
    }
    house.server.stop().await;
}

/// I9
#[tokio::test]
async fn an_engine_that_never_answers_a_launch_holds_nobody_up() {
    let house = House::impatient().await;

    for call in [call::CREATE, call::START] {
        house.engine.spoil(call, Fault::Hold);
        let output = house.server.ssh(&["true"]).output().await;

        output.assert_told("5s");
        assert!(output.wall < Duration::from_secs(25), "{call}: {}", output.report());
        house.engine.mend();
        // One that is held stays held; others must not wait for it. Five seconds for a container can be short, too.
        poll_until("a login that works", PATIENCE, async || {
            (house.server.ssh(&["true"]).output().await.code() == 0).then_some(())
        })
        .await;
    }
    house.engine.go_away();
    house.engine.come_back();
    house.assert_recovers().await;
    house.server.stop().await;
}

/// I9
#[tokio::test]
async fn an_engine_that_never_answers_about_a_program_is_given_up() {
    let house = House::with_launcher("exec").await;
    house.server.ssh(&["true"]).output().await.assert_success();
    house.engine.spoil(call::EXEC_START, Fault::Hold);
    house.engine.spoil_nth(1, call::EXEC_CREATE, Fault::Hold);

    let command = || house.server.ssh(&["true"]).timeout(Duration::from_mins(1)).output();
    let (first, second) = tokio::join!(command(), command());

    first.assert_told("took longer");
    second.assert_told("took longer");
    house.assert_recovers().await;
    house.server.stop().await;
}

/// I9
#[tokio::test]
async fn an_engine_that_was_away_at_the_start_is_found_when_it_comes() {
    let folder = TempDir::with_prefix("coracle-it-engine-").unwrap();
    let engine = FaultProxy::listen(folder.path());
    engine.go_away();
    let house = House::before(engine, folder, &launcher(), "5s").await;

    house.server.ssh(&["true"]).output().await.assert_told("cannot be reached");
    house.engine.come_back();

    house.assert_recovers().await;
    house.server.stop().await;
}

/// I9
#[tokio::test]
async fn an_engine_that_was_silent_at_the_start_is_found_when_it_speaks() {
    let folder = TempDir::with_prefix("coracle-it-engine-").unwrap();
    let engine = FaultProxy::listen(folder.path());
    engine.spoil(call::ANY, Fault::Hold);
    let server = TestServer::builder().image(TINY).docker_host(&engine.url()).docker_config("timeout: 5s");
    let house = House { server: server.start().await, engine, _folder: folder };

    house.server.ssh(&["true"]).output().await.assert_told("5s");

    house.assert_recovers().await;
    house.server.stop().await;
}

/// I9, L8: what an earlier run left is not forgotten because the engine came late.
#[tokio::test]
async fn leftovers_go_even_when_the_engine_comes_after_the_server() {
    let mut house = House::start().await;
    let mut client = house.server.ssh(&["echo started; cat"]).spawn();
    client.wait_for("started").await;
    house.server.kill();
    house.engine.go_away();
    house.server.start_again().await;
    assert_eq!(house.server.containers().await.len(), 1);

    house.engine.come_back();

    house.server.assert_all_gone_within(PATIENCE).await;
    house.assert_recovers().await;
    house.server.stop().await;
}

/// I9: a daemon that is stopped takes its sessions along; one that comes back is used again.
#[tokio::test]
async fn an_engine_that_stops_ends_its_sessions_with_a_line_and_is_used_again_later() {
    let house = House::with_launcher("exec").await;
    let mut client = house.server.ssh(&["echo started; cat"]).spawn();
    client.wait_for("started").await;

    house.engine.go_away();
    let started = Instant::now();
    poll_until("the session's end", Duration::from_secs(25), async || client.has_ended().then_some(())).await;
    client.end().await.assert_told("");
    house.server.ssh(&["true"]).output().await.assert_told("cannot be reached");
    assert!(started.elapsed() < Duration::from_secs(40));
    house.engine.come_back();

    house.assert_recovers().await;
    house.server.stop().await;
}

/// I9, L4: what the engine does not remove at once is removed later.
#[tokio::test]
async fn a_container_that_the_engine_does_not_remove_is_removed_later() {
    let house = House::start().await;

    for fault in [Fault::Fail(500, "the disk is full"), Fault::Close, Fault::Garbage, Fault::Cut(9)] {
        house.engine.take();
        house.engine.spoil(call::REMOVE, fault);
        house.server.ssh(&["true"]).output().await.assert_success();
        house.engine.wait_for_count(call::REMOVE, 2).await;

        house.assert_recovers().await;
    }
    house.server.stop().await;
}

/// I9: an answer that goes wrong once is asked for again.
#[tokio::test]
async fn one_bad_answer_among_many_costs_nobody_a_session() {
    // They wait for each other, too.
    let house = House::with(&launcher(), "1m").await;
    house.engine.spoil_nth(3, call::CREATE, Fault::Close);

    let clients = (0..6).map(|_| house.server.ssh(&["true"]).output());
    let outputs = futures::future::join_all(clients).await;

    for output in &outputs {
        output.assert_success();
    }
    house.assert_recovers().await;
    house.server.stop().await;
}

/// I9: with an init the engine is needed for containers alone.
#[tokio::test]
async fn an_engine_that_stops_leaves_sessions_with_an_init_alone() {
    let house = House::with_launcher("init").await;
    let master = house.server.master(&[]).await;
    let mut client = master.ssh(&["echo started; cat; exit 7"]).spawn();
    client.wait_for("started").await;

    house.engine.go_away();
    client.write(b"still here\n").await;
    client.wait_for("still here").await;
    master.ssh(&["echo another"]).output().await.assert_success().assert_stdout("another\n");
    house.server.ssh(&["true"]).output().await.assert_told("cannot be reached");
    client.close_stdin();
    client.end().await.assert_code(7);
    master.close().await;
    house.engine.come_back();

    house.server.assert_all_gone_within(PATIENCE).await;
    house.server.stop().await;
}
