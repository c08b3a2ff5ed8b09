//! docs/recipes/database.md, with a real Redis that only containers reach.

use std::time::Duration;

use tokio::net::TcpStream;

use super::{Recipe, TestServer, WORKBENCH};
use crate::harness::{MIB, Sshd, Target, docker, free_port, noise, poll_until, sha256, try_docker};

/// A network of the engine's with a database on it, by the name `db`.
pub(super) struct Network {
    name: String,
}

impl Network {
    pub(super) async fn with_a_database() -> Self {
        let name = format!("coracle-it-{:08x}", rand::random::<u32>());
        docker(&["network", "create", &name]).await;
        let network = Self { name };
        network
            .run("db", &["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""])
            .await;
        let db = format!("{}-db", network.name);
        poll_until("the database", Duration::from_secs(30), async || {
            try_docker(&["exec", &db, "redis-cli", "ping"]).await.ok().filter(|said| said.trim() == "PONG")
        })
        .await;
        network
    }

    pub(super) async fn run(&self, alias: &str, command: &[&str]) {
        let container = format!("{}-{alias}", self.name);
        let mut arguments = vec!["run", "-d", "--init", "--name", &container, "--network", &self.name];
        arguments.extend(["--network-alias", alias, WORKBENCH]);
        arguments.extend(command);
        docker(&arguments).await;
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn remove(&self) {
        // What a test that failed leaves of it may be less.
        let docker = |arguments: &[&str]| drop(std::process::Command::new("docker").args(arguments).output());
        let containers = ["db", "other", "web"].map(|alias| format!("{}-{alias}", self.name));
        docker(&[&["rm", "-fv"][..], &containers.each_ref().map(String::as_str)].concat());
        docker(&["network", "rm", &self.name]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

/// `database` is where it is as seen from the other end.
async fn a_client_here_talks_to_it(target: &Target, database: &str) {
    let port = free_port();
    let recipe = Recipe::read("database");
    let recipe =
        recipe.with("-L 6379:db:6379", format!("-L {port}:{database}")).with("-p 6379", format!("-p {port}"));
    let desk = target.desk("");
    desk.write("noise", noise(4 * MIB));

    let tunnel = desk.run(&recipe.commands("tunnel").replace("ssh", "exec ssh")).spawn();
    poll_until("the end of the tunnel on this machine", Duration::from_secs(15), async || {
        TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
    let talk = desk.run(&recipe.commands("client")).output().await;
    let big = format!(
        "redis-cli -p {port} -x set big <noise >answer; redis-cli -p {port} --raw get big | head -c -1 | sha256sum"
    );
    let big = desk.run(&big).output().await;
    let many = desk.run(&format!("redis-benchmark -p {port} -c 40 -n 4000 -P 8 -t set -q")).output().await;

    talk.assert_success().assert_stdout("OK\nhello\n");
    assert!(big.assert_success().stdout().starts_with(&sha256(&noise(4 * MIB))), "{}", big.report());
    assert!(many.assert_success().stdout().contains("requests per second"), "{}", many.report());
    drop(tunnel);
    target.seen("redis-cli", "through -L");
}

async fn assert_prohibited(target: &Target, what: &str) {
    let dial = format!("ssh -o LogLevel=INFO -W {what} coracle");
    let output = target.desk("").run(&dial).output().await;
    let told = output.stderr().contains("open failed: administratively prohibited");
    assert!(output.code() != 0 && told, "{}", output.report());
}

/// F9, F8
#[tokio::test]
async fn a_client_here_talks_to_a_database_that_containers_reach() {
    let network = Network::with_a_database().await;
    network.run("other", &["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"]).await;
    let recipe =
        Recipe::read("database").with("networkMode: databases", format!("networkMode: {}", network.name));
    let server = super::serve(&recipe).await;

    a_client_here_talks_to_it(&server, "db:6379").await;

    assert_prohibited(&server, "other:6379").await;
    server.stop().await;
}

/// F8
#[tokio::test]
async fn a_database_that_nobody_named_is_a_neighbour() {
    let network = Network::with_a_database().await;
    let server = TestServer::builder()
        .image(WORKBENCH)
        .section("policy: {forwarding: {local: enable}}")
        .docker_config(&format!("host: {{networkMode: {}}}", network.name))
        .start()
        .await;

    assert_prohibited(&server, "db:6379").await;

    server.stop().await;
}

/// F9
#[tokio::test]
async fn a_client_here_talks_to_a_database_at_the_oracle() {
    let sshd = Sshd::start_at_workbench(&["--add-host", "db:127.0.0.1"]).await;
    // The oracle is on the host's own network, where 6379 may be somebody else's.
    let port = free_port();
    let database = format!(
        "redis-server --bind 127.0.0.1 --port {port} --save '' --daemonize yes; until redis-cli -p {port} ping; do sleep 0.1; done"
    );
    sshd.ssh(&[&database]).output().await.assert_success();

    a_client_here_talks_to_it(&sshd, &format!("db:{port}")).await;

    sshd.stop().await;
}
