//! Who shares a container, and how long it lives: `docker.config.mode`.

use std::time::Duration;

use crate::harness::{TestServer, docker, poll_until, python};

/// How long a container may be on its way out.
const REMOVAL: Duration = Duration::from_secs(20);

async fn serve(mode: &str, idle_timeout: &str) -> TestServer {
    TestServer::builder()
        .docker_config(&format!("mode: {mode}"))
        .docker_config(&format!("persistent: {{idleTimeout: {idle_timeout}}}"))
        .start()
        .await
}

/// For a persistent container that is not to expire in its test.
async fn remove_all(server: &TestServer) {
    for container in server.containers().await {
        docker(&["rm", "-fv", &container]).await;
    }
}

/// L4
#[tokio::test]
async fn each_session_has_a_container_that_goes_with_it() {
    let server = serve("session", "1h").await;
    let master = server.master(&[]).await;
    assert!(server.containers().await.is_empty(), "a login alone takes none");
    let mut first = master.ssh(&["touch /tmp/mine; echo started; cat"]).spawn();
    first.wait_for("started").await;
    let its = server.the_container().await;

    master.ssh(&["test -e /tmp/mine"]).output().await.assert_code(1);

    poll_until("the second one's removal", REMOVAL, async || {
        (server.containers().await == [its.as_str()]).then_some(())
    })
    .await;
    first.end().await.assert_success();
    server.assert_all_gone_within(REMOVAL).await;
    master.ssh(&["true"]).output().await.assert_success();
    master.close().await;
    server.stop().await;
}

/// L5
#[tokio::test]
async fn a_session_whose_client_is_killed_takes_its_container_along() {
    let server = serve("session", "1h").await;
    let mut client = server.ssh(&["trap '' HUP; echo started; while :; do sleep 1; done"]).spawn();
    client.wait_for("started").await;
    assert_eq!(server.containers().await.len(), 1);

    client.kill();

    server.assert_all_gone_within(REMOVAL).await;
    server.stop().await;
}

/// L12
#[tokio::test]
async fn a_channel_that_is_closed_takes_its_container_along() {
    let server = serve("session", "1h").await;
    let mut client = python(&server, "closed_channel.py", &[]).spawn();
    client.wait_for("closed").await;
    assert_eq!(server.containers().await.len(), 1);

    // The program ignores its hang-up, so there is a grace time to wait for.
    server.assert_all_gone_within(REMOVAL * 3).await;

    client.end().await.assert_success();
    server.stop().await;
}

/// L9
#[tokio::test]
async fn a_session_whose_container_is_removed_ends_and_the_next_gets_another() {
    let server = serve("session", "1h").await;
    let master = server.master(&[]).await;
    let mut session = master.ssh(&["echo started; sleep 1000"]).spawn();
    session.wait_for("started").await;

    docker(&["rm", "-f", &server.the_container().await]).await;

    let code = session.end().await.code();
    assert!([137, 255].contains(&code), "{code}");
    master.ssh(&["echo again"]).output().await.assert_success().assert_stdout("again\n");
    master.close().await;
    server.stop().await;
}

#[tokio::test]
async fn files_survive_a_disconnect_until_nobody_has_come_for_a_while() {
    let server = serve("persistent", "10s").await;

    server.ssh(&["echo kept > /tmp/file"]).output().await.assert_success();
    server.ssh(&["cat /tmp/file"]).output().await.assert_success().assert_stdout("kept\n");
    let container = server.the_container().await;
    let labels = docker(&["inspect", "-f", "{{json .Config.Labels}}", &container]).await;

    assert!(labels.contains(r#""coracle.mode":"persistent""#), "{labels}");
    server.assert_all_gone_within(Duration::from_secs(40)).await;
    server.ssh(&["test -e /tmp/file"]).output().await.assert_code(1);
    server.assert_all_gone_within(Duration::from_secs(40)).await;
    server.stop().await;
}

#[tokio::test]
async fn parallel_first_logins_of_a_user_share_one_container() {
    let server = serve("persistent", "1h").await;

    let (first, second, third) = tokio::join!(
        server.ssh(&["hostname"]).output(),
        server.ssh(&["hostname"]).output(),
        server.ssh(&["hostname"]).output(),
    );

    assert_eq!(first.assert_success().stdout(), second.assert_success().stdout());
    assert_eq!(first.stdout(), third.assert_success().stdout());
    assert_eq!(server.containers().await.len(), 1);
    remove_all(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn users_do_not_share() {
    let server = serve("persistent", "1h").await;
    let key = server.keys.client();
    server.ssh(&["touch /tmp/mine"]).output().await.assert_success();

    // `true`, as another user.
    server.ssh_as("somebody", &key).output().await.assert_success();

    assert_eq!(server.containers().await.len(), 2);
    remove_all(&server).await;
    server.stop().await;
}

/// L8
#[tokio::test]
async fn a_persistent_container_is_found_again_after_a_crash_and_after_a_shutdown() {
    let mut server = serve("persistent", "1h").await;
    server.ssh(&["echo kept > /tmp/file"]).output().await.assert_success();
    let container = server.the_container().await;

    server.kill_and_start_again().await;
    server.ssh(&["cat /tmp/file"]).output().await.assert_success().assert_stdout("kept\n");
    server.end_and_start_again().await;
    server.ssh(&["cat /tmp/file"]).output().await.assert_success().assert_stdout("kept\n");

    assert_eq!(server.containers().await, [container]);
    remove_all(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn one_that_was_found_goes_when_nobody_comes() {
    let mut server = serve("persistent", "5s").await;
    server.ssh(&["true"]).output().await.assert_success();

    server.kill_and_start_again().await;

    assert_eq!(server.containers().await.len(), 1);
    server.assert_all_gone_within(Duration::from_mins(1)).await;
    server.stop().await;
}

/// L9
#[tokio::test]
async fn the_loss_of_a_persistent_container_ends_all_its_connections() {
    let server = serve("persistent", "1h").await;
    let (mut first, mut second) = (server.master(&[]).await, server.master(&[]).await);
    first.ssh(&["touch /tmp/mine"]).output().await.assert_success();
    let container = server.the_container().await;

    docker(&["stop", "-t", "0", &container]).await;

    for master in [&mut first, &mut second] {
        poll_until("the connection's end", REMOVAL, async || master.has_ended().then_some(())).await;
    }
    server.ssh(&["test -e /tmp/mine"]).output().await.assert_code(1);
    assert_ne!(server.the_container().await, container);
    remove_all(&server).await;
    server.stop().await;
}

/// L12
#[tokio::test]
async fn a_program_whose_client_leaves_does_not_stay_in_a_persistent_container() {
    let server = serve("persistent", "1h").await;
    let mut client = server.ssh(&["echo started; exec sleep 4321"]).spawn();
    client.wait_for("started").await;
    let container = server.the_container().await;
    assert!(docker(&["top", &container]).await.contains("sleep 4321"));

    client.kill();

    poll_until("the program's end", Duration::from_secs(12), async || {
        (!docker(&["top", &container]).await.contains("sleep 4321")).then_some(())
    })
    .await;
    remove_all(&server).await;
    server.stop().await;
}
