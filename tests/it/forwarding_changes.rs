//! What the server's side does to forwards: a reload, a drain, and a connection that has no container of its own.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::harness::{Agent, Master, Talker, TestServer, echo, exchange_by, inside, poll_until};

const SOON: Duration = Duration::from_secs(10);

/// A connection through `-L` to somebody inside who says back what is said.
async fn open_forward(server: &TestServer, master: &Master<'_>, port: u16) -> UnixStream {
    let socket = server.path("forward");
    master.forward("-L", &format!("{}:127.0.0.1:{port}", socket.display())).await.assert_success();
    let mut peer = UnixStream::connect(&socket).await.unwrap();
    says_back(&mut peer).await;
    peer
}

async fn says_back(peer: &mut UnixStream) {
    peer.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    timeout(SOON, peer.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(&answer, b"ping");
}

/// F8
#[tokio::test]
async fn a_reload_that_takes_forwarding_away_ends_what_lives_by_it_and_no_programs() {
    let server = TestServer::builder().forwarding().start().await;
    let agent = Agent::start(&server, "of-the-agent").await;
    let master = server.master_by(agent.with(server.ssh(&[]))).await;
    let (_inside, port) = master.listen_inside("127.0.0.1:0", "echo").await;
    let mut program = agent.with(master.ssh(&[])).then(["echo started $SSH_AUTH_SOCK; cat"]).spawn();
    let said = program.wait_for("\n").await;
    let socket = said.trim().rsplit(' ').next().unwrap().to_owned();
    let mut peer = open_forward(&server, &master, port).await;
    let told = master.forward("-R", &format!("0:127.0.0.1:{}", echo().await)).await;
    let listened = format!("127.0.0.1:{}", told.assert_success().stdout().trim());
    let mut caller = master.dial_inside(&listened).spawn();
    caller.write(b"words").await;
    caller.wait_for("words").await;

    let file = server.path("config.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace(": enable", ": disable")).unwrap();
    server.reload("configuration read again").await;

    assert_eq!(timeout(SOON, peer.read(&mut [0; 8])).await.expect("an end").unwrap(), 0);
    poll_until("the caller's end", SOON, async || caller.has_ended().then_some(())).await;
    let test = format!("test -e {socket}");
    poll_until("the end of the agent's socket", SOON, async || {
        (master.ssh(&[&test]).output().await.code() == 1).then_some(())
    })
    .await;
    assert_ne!(master.dial_inside(&listened).output().await.stdout(), "words");
    assert_eq!(exchange_by(&server.path("forward"), b"words").await, b"");
    program.write(b"still here\n").await;
    program.wait_for("still here").await;
    drop((program, caller));
    master.close().await;
    server.stop().await;
}

/// L7
#[tokio::test]
async fn a_server_that_drains_lets_forwards_end_by_themselves_and_begins_none() {
    let mut server = TestServer::builder().forwarding().section("shutdown: {grace: 1m}").start().await;
    let mut idle = server.ssh(&[]).args(["-v", "-N", "-R", "0:127.0.0.1:1"]).spawn();
    idle.wait_for_error("remote forward success").await;
    let master = server.master(&[]).await;
    // It outlives its session, so that none is left.
    let serve = inside(&["listen", "127.0.0.1:7003", "echo"]);
    let serve =
        format!("({serve}) </dev/null >/tmp/said 2>&1 & until grep -q . /tmp/said; do sleep 0.05; done");
    master.ssh(&[&serve]).output().await.assert_success();
    let mut peer = open_forward(&server, &master, 7003).await;

    server.terminate();

    poll_until("the end of a connection without anything", SOON, async || idle.has_ended().then_some(()))
        .await;
    says_back(&mut peer).await;
    assert_eq!(exchange_by(&server.path("forward"), b"words").await, b"");
    says_back(&mut peer).await;
    drop(peer);
    drop(master);
    server.assert_ends_within(SOON).await;
}

/// F8
#[tokio::test]
async fn where_each_session_has_a_container_nothing_is_forwarded() {
    let server = TestServer::builder().forwarding().docker_config("mode: session").start().await;
    let agent = Agent::start(&server, "of-the-agent").await;
    let talker = Talker::start(agent.with(server.ssh(&[]))).await;

    assert!(talker.dial("127.0.0.1:9").await.starts_with("administratively prohibited"));
    assert!(!talker.listens("0:127.0.0.1:1").await);
    assert!(!talker.listens("/tmp/x.sock:127.0.0.1:1").await);
    let session = talker.ssh(&["echo ${SSH_AUTH_SOCK-none}"]).output().await;

    session.assert_success().assert_stdout("none\n");
    talker.end().await;
    server.stop().await;
}

/// F1: somebody inside who closes at once, many times: nothing piles up, and nobody is refused for it.
#[tokio::test]
async fn a_thousand_short_forwards_one_after_the_other_all_work() {
    let server = TestServer::builder().forwarding().start().await;
    let master = server.master(&[]).await;
    let (_inside, port) = master.listen_inside("127.0.0.1:0", "echo").await;
    let here = crate::harness::free_port();
    master.forward("-L", &format!("{here}:127.0.0.1:{port}")).await.assert_success();

    for round in 0..1000 {
        let mut peer = TcpStream::connect(("127.0.0.1", here)).await.unwrap();
        peer.write_all(b"ping").await.unwrap();
        peer.shutdown().await.unwrap();
        let mut answer = Vec::new();
        timeout(SOON, peer.read_to_end(&mut answer)).await.expect("an answer").unwrap();
        assert_eq!(answer, b"ping", "round {round}");
    }

    master.close().await;
    server.stop().await;
}
