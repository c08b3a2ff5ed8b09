//! How much the engine is asked for one command (I10).

use std::time::Duration;

use crate::harness::{EngineProxy, TestServer, poll_until};

/// For what a command leaves to be done.
const SOON: Duration = Duration::from_mins(1);

/// I10
#[tokio::test]
async fn one_command_costs_six_requests_and_four_before_its_first_byte() {
    let folder = tempfile::TempDir::new().unwrap();
    let engine = EngineProxy::listen(folder.path());
    let server =
        TestServer::builder().docker_config("launcher: exec").docker_host(&engine.url()).start().await;
    // What the server asks before anyone has come is its own business.
    let start = engine.take();

    server.ssh(&["true"]).output().await.assert_success();
    server.assert_all_gone_within(SOON).await;

    let mut requests = engine.take();
    // One stream for the life of the process, whatever comes.
    requests.retain(|request| request != "GET /events");
    let is_exec_start = |request: &String| request.starts_with("POST /exec/") && request.ends_with("/start");
    let first_byte = requests.iter().position(is_exec_start).map(|place| place + 1);
    assert!(first_byte.is_some_and(|count| count <= 4), "{requests:?} after {start:?}");
    assert!(requests.len() <= 6, "{requests:?} after {start:?}");
    server.stop().await;
}

/// I10: the second command on an image costs what the engine has to be asked for, and no more.
#[tokio::test]
async fn one_command_with_an_init_costs_three_requests_and_two_before_its_first_byte() {
    let folder = tempfile::TempDir::new().unwrap();
    let engine = EngineProxy::listen(folder.path());
    let server =
        TestServer::builder().docker_config("launcher: init").docker_host(&engine.url()).start().await;
    // The first one looks at the image, too.
    server.ssh(&["true"]).output().await.assert_success();
    server.assert_all_gone_within(SOON).await;
    engine.take();

    server.ssh(&["true"]).output().await.assert_success();
    server.assert_all_gone_within(SOON).await;

    let mut requests = engine.take();
    requests.retain(|request| request != "GET /events");
    let starts = |request: &String| request.starts_with("POST /containers/");
    assert!(requests.len() == 3 && requests.iter().take(2).all(starts), "{requests:?}");
    server.stop().await;
}

/// I10
#[tokio::test]
async fn a_container_that_waited_costs_two_requests_before_the_first_byte() {
    let folder = tempfile::TempDir::new().unwrap();
    let engine = EngineProxy::listen(folder.path());
    // With a limit of one the next one is started when this one is gone.
    let mut server = TestServer::builder()
        .docker_config("launcher: exec")
        .docker_host(&engine.url())
        .section("pool: {warm: 1, max: 1}")
        .start()
        .await;
    let is_exec_start = |request: &String| request.starts_with("POST /exec/") && request.ends_with("/start");
    let mut seen = Vec::new();
    // Its name comes a quarter of a second after it was taken, which on a busy machine may be first.
    while seen.len() < 3 && seen.iter().all(|(ahead, _)| *ahead != Some(1)) {
        let waited = || server.log.text().matches("a container waits").count();
        poll_until("a waiting container", SOON, async || (waited() > seen.len()).then_some(())).await;
        engine.take();
        server.ssh(&["true"]).output().await.assert_success();
        let mut requests = engine.take();
        requests.retain(|request| request != "GET /events" && !request.starts_with("GET /images/"));
        seen.push((requests.iter().position(is_exec_start), requests));
    }

    assert!(seen.iter().any(|(ahead, _)| *ahead == Some(1)), "{seen:?}");
    server.terminate();
    server.assert_ends_within(Duration::from_secs(20)).await;
}
