//! How a connection ends while everything is forwarded and busy: nothing is left, and the client ends (F10).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{
    Agent, Client, Display, MIB, Running, TcpProxy, TestServer, docker, free_port, inside, poll_until,
    try_docker, x_client,
};

/// For the client to end and for what it had to go.
const SOON: Duration = Duration::from_secs(15);
/// Flows each way before anything ends.
const ENOUGH: usize = 4 * MIB;
/// Inside, where the container's network is nobody else's.
const FLOOD_PORT: u16 = 7001;
const BACK_PORT: u16 = 7002;

/// A client with everything forwarded and used: data without end by `-L` and by `-R`, with ports and sockets of
/// the file system, an X client that stays, and an agent that has been asked.
struct Busy {
    client: Running,
    agent: Agent,
    display: Display,
}

/// Adds up what comes.
async fn count(listener: TcpListener, counted: Arc<AtomicUsize>) {
    while let Ok((mut caller, _)) = listener.accept().await {
        let counted = Arc::clone(&counted);
        tokio::spawn(async move { hear(&mut caller, &counted).await });
    }
}

async fn hear(peer: &mut TcpStream, counted: &AtomicUsize) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = peer.read(&mut buffer).await {
        counted.fetch_add(read, Ordering::Relaxed);
    }
}

/// What runs inside; it ends, with all that it started, with its input.
fn script() -> String {
    let flood = inside(&["listen", &format!("127.0.0.1:{FLOOD_PORT}"), "flood"]);
    let flood_by_path = inside(&["listen", "/tmp/flood.sock", "flood"]);
    let [back, back_by_path] = [format!("127.0.0.1:{BACK_PORT}"), "/tmp/back.sock".to_owned()]
        .map(|to| format!("(cat /dev/zero | ({}))", inside(&["dial", &to])));
    let x_client = x_client("right");
    format!(
        "rm -f /tmp/flood.sock; ({flood}) & ({flood_by_path}) & {back} > /dev/null & {back_by_path} > /dev/null & \
         tail -f /dev/null | {x_client} & ssh-add -l; echo started $SSH_AUTH_SOCK; cat; kill $(jobs -p); pkill perl; pkill tail; \
         pkill cat; wait"
    )
}

impl Busy {
    /// `ssh` is the client without its command.
    async fn start(server: &TestServer, name: &str, ssh: Client) -> Self {
        let agent = Agent::start(server, name).await;
        let display = Display::start(server, name).await;
        let (heard, back) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap().port();
        tokio::spawn(count(listener, Arc::clone(&back)));
        let (here, here_by_path) = (free_port(), free_port());
        let ssh = ssh
            .args(["-Y", "-L", &format!("{here}:127.0.0.1:{FLOOD_PORT}")])
            .args(["-L", &format!("{here_by_path}:/tmp/flood.sock")])
            .args(["-R", &format!("{BACK_PORT}:127.0.0.1:{there}")])
            .args(["-R", &format!("/tmp/back.sock:127.0.0.1:{there}")])
            .option("ExitOnForwardFailure=yes");
        let mut client = display.before(agent.with(ssh)).then([script()]).spawn();
        let said = client.wait_for("started").await;
        assert!(said.contains(&agent.fingerprint(server).await), "{said}");
        for words in ["connected to ", "listening 0\n", &format!("listening {FLOOD_PORT}\n")] {
            client.wait_for(words).await;
        }
        for port in [here, here_by_path] {
            let heard = Arc::clone(&heard);
            tokio::spawn(async move {
                let mut peer = TcpStream::connect(("127.0.0.1", port)).await.expect("the client listens");
                hear(&mut peer, &heard).await;
            });
        }
        poll_until("data both ways", SOON, async || {
            let counts = [&heard, &back].map(|counted| counted.load(Ordering::Relaxed));
            counts.iter().all(|count| *count > ENOUGH).then_some(())
        })
        .await;
        Self { client, agent, display }
    }

    async fn assert_ends(mut self) -> crate::harness::Output {
        poll_until("the client's end", SOON, async || self.client.has_ended().then_some(())).await;
        drop((self.agent, self.display));
        self.client.end().await
    }
}

/// L4
#[tokio::test]
async fn a_clean_exit_leaves_nothing() {
    let server = TestServer::builder().forwarding().start().await;
    let mut busy = Busy::start(&server, "one", server.ssh(&[])).await;

    busy.client.close_stdin();

    busy.assert_ends().await;
    server.assert_all_gone_within(SOON).await;
    server.stop().await;
}

/// L5
#[tokio::test]
async fn a_killed_client_and_a_reset_connection_leave_nothing() {
    let server = TestServer::builder().forwarding().start().await;
    let proxy = TcpProxy::to(server.address).await;
    let through = server.through(proxy.address);
    let (mut killed, reset) = tokio::join!(
        Busy::start(&server, "one", server.ssh(&[])),
        Busy::start(&server, "two", through.ssh(&[]))
    );

    killed.client.kill();
    proxy.reset();

    server.assert_all_gone_within(SOON).await;
    killed.assert_ends().await;
    reset.assert_ends().await.assert_code(255);
    server.stop().await;
}

/// L7
#[tokio::test]
async fn a_server_that_ends_leaves_nothing() {
    let mut server = TestServer::builder().forwarding().section("shutdown: {grace: 1s}").start().await;
    let busy = Busy::start(&server, "one", server.ssh(&[])).await;

    server.terminate();

    let output = busy.assert_ends().await;
    output.assert_code(255);
    assert!(output.stderr().contains("the server is shutting down"), "{}", output.report());
    server.assert_ends_within(SOON).await;
}

/// L8
#[tokio::test]
async fn a_server_that_is_killed_and_starts_again_leaves_nothing() {
    let mut server = TestServer::builder().forwarding().start().await;
    let busy = Busy::start(&server, "one", server.ssh(&[])).await;

    server.kill_and_start_again().await;

    busy.assert_ends().await.assert_code(255);
    server.assert_all_gone_within(SOON).await;
    server.stop().await;
}

/// L9
#[tokio::test]
async fn a_container_that_is_killed_ends_its_connection_and_leaves_nothing() {
    let server = TestServer::builder().forwarding().start().await;
    let busy = Busy::start(&server, "one", server.ssh(&[])).await;

    docker(&["kill", &server.the_container().await]).await;

    let output = busy.assert_ends().await;
    output.assert_code(255);
    assert!(output.stderr().contains("the container is gone"), "{}", output.report());
    server.assert_all_gone_within(SOON).await;
    server.ssh(&["true"]).output().await.assert_success();
    server.stop().await;
}

/// Which of the script's programs there are in a container that stays, which sockets and cookies in its file system, and
/// which local ports, in hexadecimal, are listened on or connected.
async fn left(container: &str) -> String {
    let look = "for p in /proc/[0-9]*; do read name < $p/comm && echo $name; done 2>/dev/null | grep -xE 'perl|tail|ssh-add'; \
                find /tmp /run /root /dev/shm /.coracle -type s ! -name flood.sock -print -o -name '*uthority*' -print -o -name '*cookie*' -print; \
                cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == \"0A\" || $4 == \"01\" { print $2 }'";
    // The end of the script ends every `cat`, also one of these.
    try_docker(&["exec", container, "sh", "-c", look])
        .await
        .unwrap_or_else(|error| format!("failed: {error}"))
}

/// L5, L8 in a container that stays: neither processes nor sockets nor files, whoever has gone.
#[tokio::test]
async fn a_container_that_stays_is_left_as_it_was() {
    let server = TestServer::builder().forwarding().docker_config("mode: persistent");
    let mut server = server.docker_config("persistent: {idleTimeout: 1h}").start().await;
    server.ssh(&["true"]).output().await.assert_success();
    let container = server.the_container().await;
    let before = (left(&container).await, processes(&container).await);

    let mut busy = Busy::start(&server, "one", server.ssh(&[])).await;
    let meanwhile = left(&container).await;
    for sign in ["back.sock", "/ssh-", "uthority", ":1B5A"] {
        assert!(meanwhile.contains(sign), "no `{sign}` in {meanwhile}");
    }
    busy.client.kill();
    assert_left_as(&container, &before).await;

    let busy = Busy::start(&server, "two", server.ssh(&[])).await;
    server.kill_and_start_again().await;
    busy.assert_ends().await.assert_code(255);
    // Programs of a killed server's clients run on; what was forwarded for them does not.
    poll_until("no sockets and no cookies", SOON, async || {
        let left = left(&container).await;
        let ours = ["back.sock", "agent", "uthority", "cookie"];
        (!ours.iter().any(|name| left.contains(name))).then_some(())
    })
    .await;
    server
        .ssh(&["pkill perl; pkill cat; pkill tail; rm -f /tmp/flood.sock; true"])
        .output()
        .await
        .assert_success();
    let again = Busy::start(&server, "three", server.ssh(&[])).await;
    drop(again);
    server.ssh(&["pkill perl; pkill cat; pkill tail; true"]).output().await.assert_success();
    for container in server.containers().await {
        docker(&["rm", "-fv", &container]).await;
    }
    server.stop().await;
}

/// How many.
async fn processes(container: &str) -> usize {
    docker(&["top", container]).await.lines().count()
}

async fn assert_left_as(container: &str, (before, count): &(String, usize)) {
    let begun = Instant::now();
    loop {
        let now = (left(container).await, processes(container).await);
        // What the server has in there for all that is forwarded may stay, by itself.
        if now.0 == *before && now.1 <= count + 1 {
            return;
        }
        assert!(
            begun.elapsed() < SOON,
            "{} processes and\n{}\ninstead of {count} and\n{before}",
            now.1,
            now.0
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
