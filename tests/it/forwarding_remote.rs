//! What programs in the container reach at the client's: `-R`, with ports and with sockets of the file system (F2, F3).

use std::time::Duration;

use crate::harness::{
    Client, Master, Sshd, Target, TestServer, Turn, docker, echo, echo_by, free_port, noise, poll_until,
};

const LENGTH: usize = 3_000_000;
const SOON: Duration = Duration::from_mins(1);

/// Whatever is said to it inside comes back from the client's side.
async fn assert_leads_back(master: &Master<'_>, to: &str) {
    let words = noise(LENGTH);
    let output = master.dial_inside(to).stdin(words.clone()).output().await;
    assert!(output.assert_success().stdout == words, "{to}: other bytes came back");
}

/// Nobody listens there any more.
async fn assert_leads_nowhere(master: &Master<'_>, to: &str) {
    poll_until(&format!("nobody listens at {to}"), SOON, async || {
        let output = master.dial_inside(to).output().await;
        (output.code() == 1 && output.stderr().contains("dial ")).then_some(())
    })
    .await;
}

on_both!(forwarding
    /// F2
    a_port_that_the_server_chooses_is_told_and_leads_to_the_client_until_it_is_cancelled,
    |target| {
        let there = echo().await;
        let master = target.master(&[]).await;

        let told = master.forward("-R", &format!("0:127.0.0.1:{there}")).await;
        let port: u16 = told.assert_success().stdout().trim().parse().unwrap();
        let mut alone = target.talkative_ssh(&["echo started; cat"]).arg("-R").arg(format!("0:127.0.0.1:{there}")).spawn();

        let inside = format!("127.0.0.1:{port}");
        assert_leads_back(&master, &inside).await;
        assert_leads_back(&master, &inside).await;
        let said = alone.wait_for_error("Allocated port ").await;
        assert!(!said.contains("Allocated port 0 "), "{said}");
        master.cancel("-R", &format!("0:127.0.0.1:{there}")).await.assert_success();
        assert_leads_nowhere(&master, &inside).await;
        target.seen("OpenSSH", "-R");
        alone.end().await.assert_success();
        master.close().await;
    }
);

on_both!(forwarding
    /// F2
    a_port_that_the_client_chooses_is_free_again_when_it_is_cancelled,
    |target| {
        let there = echo().await;
        let master = target.master(&[]).await;
        let port = free_port();
        let (what, inside) = (format!("{port}:127.0.0.1:{there}"), format!("127.0.0.1:{port}"));

        for _ in 0..2 {
            master.forward("-R", &what).await.assert_success();
            assert_leads_back(&master, &inside).await;
            master.cancel("-R", &what).await.assert_success();
            assert_leads_nowhere(&master, &inside).await;
        }
        master.close().await;
    }
);

on_both!(forwarding
    /// F2, F3
    a_socket_inside_leads_to_a_port_or_a_socket_of_the_clients,
    |target| {
        let there = echo().await;
        let socket = target.path("there.sock");
        echo_by(&socket);
        let master = target.master(&[]).await;
        let to_port = format!("/tmp/it-port.sock:127.0.0.1:{there}");

        master.forward("-R", &to_port).await.assert_success();
        master.forward("-R", &format!("/tmp/it-socket.sock:{}", socket.display())).await.assert_success();
        let told = master.forward("-R", &format!("0:{}", socket.display())).await;

        assert_leads_back(&master, "/tmp/it-port.sock").await;
        assert_leads_back(&master, "/tmp/it-socket.sock").await;
        assert_leads_back(&master, &format!("127.0.0.1:{}", told.assert_success().stdout().trim())).await;
        let modes = master.ssh(&["stat -c '%a %F' /tmp/it-port.sock"]).output().await;
        modes.assert_success().assert_stdout("600 socket\n");
        master.cancel("-R", &to_port).await.assert_success();
        assert_leads_nowhere(&master, "/tmp/it-port.sock").await;
        master.close().await;
    }
);

on_both!(forwarding
    /// F2
    a_client_that_does_not_want_the_caller_closes_that_connection_alone,
    |target| {
        let nobody = free_port();
        let master = target.master(&[]).await;
        let told = master.forward("-R", &format!("0:127.0.0.1:{nobody}")).await;
        let inside = format!("127.0.0.1:{}", told.assert_success().stdout().trim());

        for _ in 0..2 {
            let output = master.dial_inside(&inside).stdin("words").output().await;
            output.assert_success().assert_stdout("");
        }
        master.close().await;
    }
);

/// `-R` as the first thing that a client does; it ends when that does not work.
fn insisting(target: &Target, what: &str, command: &str) -> Client {
    target.ssh(&[command]).arg("-R").arg(what).option("ExitOnForwardFailure=yes")
}

async fn the_second_for_a_port_is_refused(target: &Target) {
    let there = echo().await;
    let port = free_port();
    let what = format!("{port}:127.0.0.1:{there}");
    let mut first = insisting(target, &what, "echo started; cat").spawn();
    first.wait_for("started").await;

    let second = insisting(target, &what, "echo started").output().await;
    let modest = target.ssh(&["echo started"]).arg("-R").arg(&what).output().await;

    second.assert_code(255).assert_stdout("");
    let warning = format!("remote port forwarding failed for listen port {port}");
    assert!(second.stderr().contains(&warning), "{}", second.report());
    modest.assert_success().assert_stdout("started\n");
    first.end().await.assert_success();
    // With the first client the port has gone.
    poll_until("the port is free", SOON, async || {
        (insisting(target, &what, "true").output().await.code() == 0).then_some(())
    })
    .await;
}

/// Connections of one user share a container, and so its ports.
async fn persistent() -> TestServer {
    let server = TestServer::builder().forwarding().docker_config("mode: persistent");
    server.docker_config("persistent: {idleTimeout: 1h}").start().await
}

async fn remove_all(server: TestServer) {
    for container in server.containers().await {
        docker(&["rm", "-fv", &container]).await;
    }
    server.stop().await;
}

/// F2
#[tokio::test]
async fn of_two_clients_for_one_port_the_second_is_refused() {
    let server = persistent().await;
    the_second_for_a_port_is_refused(&server).await;
    remove_all(server).await;
}

/// F2
#[tokio::test]
async fn of_two_clients_for_one_port_the_second_is_refused_at_the_oracle() {
    let sshd = Sshd::start_with(&[], Turn::shared().await).await;
    the_second_for_a_port_is_refused(&sshd).await;
    sshd.stop().await;
}

/// F2: a client that is killed takes along what listened for it, also where the container stays.
#[tokio::test]
async fn nothing_listens_any_more_when_the_client_has_gone() {
    let server = persistent().await;
    let there = echo().await;
    let port = free_port();
    let mut client = server.ssh(&["echo started; cat"]);
    for what in [format!("{port}:127.0.0.1:{there}"), format!("/tmp/it.sock:127.0.0.1:{there}")] {
        client = client.arg("-R").arg(what);
    }
    let mut client = client.option("ExitOnForwardFailure=yes").spawn();
    client.wait_for("started").await;
    let master = server.master(&[]).await;
    assert_leads_back(&master, &format!("127.0.0.1:{port}")).await;
    assert_leads_back(&master, "/tmp/it.sock").await;

    client.kill();

    assert_leads_nowhere(&master, &format!("127.0.0.1:{port}")).await;
    poll_until("the socket's end", SOON, async || {
        (master.ssh(&["test -e /tmp/it.sock"]).output().await.code() == 1).then_some(())
    })
    .await;
    master.close().await;
    remove_all(server).await;
}
