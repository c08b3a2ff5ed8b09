//! How the server says that it does: `/livez` and `/readyz`.

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::harness::{FaultProxy, TestServer, poll_until};
use crate::metrics::{LISTEN, PATIENCE, endpoint, get, samples, wait_for};

/// I9
#[tokio::test]
async fn a_server_without_its_engine_lives_and_is_not_ready() {
    let folder = TempDir::with_prefix("coracle-it-engine-").unwrap();
    let engine = FaultProxy::listen(folder.path());
    let server = TestServer::builder().docker_host(&engine.url()).section(LISTEN).start().await;
    let address = endpoint(&server);
    assert_eq!(get(address, "/readyz").await, (200, "ready\n".to_owned()));

    engine.go_away();
    let complaint = poll_until("it is not ready", PATIENCE, async || {
        let (status, body) = get(address, "/readyz").await;
        (status == 503).then_some(body)
    })
    .await;
    let alive = get(address, "/livez").await;
    engine.come_back();

    assert!(complaint.starts_with("engine: ") && complaint.contains("cannot be reached"), "{complaint}");
    assert_eq!(alive, (200, "alive\n".to_owned()));
    poll_until("it is ready", PATIENCE, async || (get(address, "/readyz").await.0 == 200).then_some(()))
        .await;
    let samples = samples(&server).await;
    let away = r#"coracle_engine_requests_total{operation="image-inspect",result="unreachable"}"#;
    assert!(samples.contains_key(away), "{samples:#?}");
    server.stop().await;
}

/// I1
#[tokio::test]
async fn a_server_whose_image_is_missing_and_must_not_be_pulled_is_not_ready() {
    for (policy, status) in [("Never", 503), ("IfNotPresent", 200)] {
        let server = TestServer::builder().image("coracle/no-such:1").pull_policy(policy);
        let server = server.section(LISTEN).start().await;

        let (found, body) = get(endpoint(&server), "/readyz").await;

        assert_eq!(found, status, "{policy}: {body}");
        assert_eq!(body.starts_with("image: "), status == 503, "{body}");
        server.stop().await;
    }
}

/// L7
#[tokio::test]
async fn a_server_that_ends_is_not_ready_and_can_be_watched_to_its_end() {
    let mut server = TestServer::builder().section(LISTEN).section("shutdown: {grace: 10m}").start().await;
    let address = endpoint(&server);
    let mut running = server.ssh(&["echo here; cat"]).spawn();
    running.wait_for("here").await;
    assert_eq!(get(address, "/readyz").await.0, 200);

    server.terminate();
    wait_for(&server, "coracle_draining", "1").await;

    let (status, body) = get(address, "/readyz").await;
    assert!(status == 503 && body.starts_with("draining: "), "{status} {body}");
    assert_eq!(get(address, "/livez").await.0, 200);
    assert_eq!(samples(&server).await.get("coracle_connections").map(String::as_str), Some("1"));
    running.close_stdin();
    server.assert_ends_within(PATIENCE).await;
    assert!(TcpStream::connect(address).await.is_err());
}
