//! docs/recipes/bastion.md, with a real sshd and a real Redis behind it.

use std::time::Duration;

use tokio::net::TcpStream;

use super::database::Network;
use super::{Recipe, TestServer, serve};
use crate::harness::{free_port, poll_until};

/// An sshd that knows the client's key, on the network by this name.
async fn machine(network: &Network, server: &TestServer, name: &str) {
    let key = std::fs::read_to_string(server.path("client.pub")).unwrap();
    let script = format!(
        "mkdir -p /run/sshd /root/.ssh; ssh-keygen -q -A; echo '{}' >/root/.ssh/authorized_keys; hostname {name} || :; \
         exec /usr/sbin/sshd -D -e -f /dev/null -o StrictModes=no -o UsePAM=no",
        key.trim()
    );
    network.run(name, &["sh", "-c", &script]).await;
}

fn recipe_on(network: &Network) -> Recipe {
    Recipe::read("bastion").with("networkMode: internal", format!("networkMode: {}", network.name()))
}

#[tokio::test]
async fn who_may_pass_passes_to_what_is_named_and_does_nothing_else() {
    let network = Network::with_a_database().await;
    let recipe = recipe_on(&network);
    let server = serve(&recipe).await;
    machine(&network, &server, "web").await;
    // What the reader's own machine has: a key, and nobody to ask about a host's.
    let at_home = format!(
        "Host web\n  IdentityFile {}\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n",
        server.path("client").display()
    );
    let desk = server.desk(&(recipe.block("ssh_config") + &at_home));

    let passed = poll_until("an sshd behind the bastion", Duration::from_secs(30), async || {
        let output = desk.run(&recipe.commands("jump")).output().await;
        (output.code() == 0).then_some(output)
    })
    .await;
    let elsewhere = desk.run("ssh -o LogLevel=INFO -W db:6379 alice@coracle </dev/null").output().await;
    let shell = desk.run("ssh -o LogLevel=INFO -T alice@coracle </dev/null").output().await;

    assert!(!passed.stdout().trim().is_empty(), "{}", passed.report());
    assert!(elsewhere.stderr().contains("administratively prohibited"), "{}", elsewhere.report());
    assert!(shell.stderr().contains("shell request failed"), "{}", shell.report());
    server.stop().await;
}

#[tokio::test]
async fn operators_have_tools_and_a_way_to_the_database() {
    let network = Network::with_a_database().await;
    let port = free_port();
    let recipe = recipe_on(&network)
        .with("-L 6379:db:6379", format!("-L {port}:db:6379"))
        .with("-p 6379", format!("-p {port}"));
    let server = serve(&recipe).await;
    let desk = server.desk("");

    let tools = desk.run(&recipe.commands("tools")).output().await;
    let tunnel = desk.run(&format!("exec {}", recipe.commands("tunnel"))).spawn();
    poll_until("the end of the tunnel on this machine", Duration::from_secs(30), async || {
        TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
    let client = desk.run(&recipe.commands("client")).output().await;

    tools.assert_success().assert_stdout("PONG\n");
    client.assert_success().assert_stdout("PONG\n");
    drop(tunnel);
    server.stop().await;
}
