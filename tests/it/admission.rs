//! Who may come at all: limits before the login (T3), penalties (A10), proxies (T11), connections of a source or user.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{
    Client, Output, TINY, Target, TestServer, announcing_proxy, assert_once_within, connect_from, docker,
    poll_until, python,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// OpenSSH's client, from another address of this machine's own.
fn ssh_from(target: &Target, source: &str, command: &str) -> Client {
    target.ssh(&[command]).arg("-b").arg(source)
}

/// Whether the server has closed it.
fn is_closed(stream: &TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// All that the server says before it closes.
async fn last_words(stream: &mut TcpStream) -> String {
    let mut words = Vec::new();
    let reading = stream.read_to_end(&mut words);
    // A reset is a close, too.
    drop(tokio::time::timeout(PATIENCE, reading).await.expect("the server closes"));
    String::from_utf8_lossy(&words).into_owned()
}

/// T3
#[tokio::test]
async fn six_hundred_half_open_connections_from_one_address_keep_nobody_else_out() {
    let server = TestServer::builder().image(TINY).alone().start().await;
    let connects = (0..600).map(|_| connect_from("127.0.0.2", server.address));
    let held = futures::future::join_all(connects).await;
    let open = || held.iter().filter(|stream| !is_closed(stream)).count();
    poll_until("only so many are kept", PATIENCE, async || (open() <= 300).then_some(())).await;

    assert_once_within(Duration::from_secs(1), async || {
        let login = python(&server, "login_time.py", &["127.0.0.3"]).output().await;
        Duration::from_secs_f64(login.assert_success().stdout().trim().parse().unwrap())
    })
    .await;
    let kept = open();
    assert!((100..=300).contains(&kept), "{kept} are kept");
    let refusals = server.log.lines().iter().filter(|line| line.contains("refused: too many")).count();
    assert!((1..10).contains(&refusals), "{refusals} lines of refusals\n{}", server.log.text());
    drop(held);
    server.stop().await;
}

/// T3: not the newcomer, who is from elsewhere.
#[tokio::test]
async fn past_the_most_the_oldest_of_the_one_who_floods_is_cut() {
    let server =
        TestServer::builder().image(TINY).ssh("maxStartups: {start: 5, rate: 100, full: 5}").start().await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(connect_from("127.0.0.2", server.address).await);
    }
    let words = last_words(&mut connect_from("127.0.0.2", server.address).await).await;
    assert_eq!(words, "Exceeded MaxStartups\r\n");

    ssh_from(&server, "127.0.0.3", "true").output().await.assert_success();

    poll_until("the oldest is cut", PATIENCE, async || is_closed(&held[0]).then_some(())).await;
    assert!(held[1..].iter().all(|stream| !is_closed(stream)));
    server.stop().await;
}

#[tokio::test]
async fn one_source_and_one_user_have_their_own_limits() {
    let limits = "limits: {maxConnectionsPerSource: 3, maxConnectionsPerUser: 1}";
    let server = TestServer::builder().image(TINY).section(limits).start().await;
    let mut client = server.ssh(&["echo started; cat"]).spawn();
    client.wait_for("started").await;

    let same_user = ssh_from(&server, "127.0.0.3", "true").output().await;
    same_user.assert_code(255);
    assert!(same_user.stderr().contains("you have 1 connection, as many as"), "{}", same_user.report());
    server.ssh_as("somebody", &server.keys.client()).output().await.assert_success();

    let _second = connect_from("127.0.0.1", server.address).await;
    let _third = connect_from("127.0.0.1", server.address).await;
    let words = last_words(&mut connect_from("127.0.0.1", server.address).await).await;
    assert_eq!(words, "Too many connections\r\n");

    client.end().await.assert_success();
    poll_until("a place", PATIENCE, async || {
        (ssh_from(&server, "127.0.0.3", "true").output().await.code() == 0).then_some(())
    })
    .await;
    server.stop().await;
}

fn shows_refusal(output: &Output) -> bool {
    output.code() == 255 && output.stderr().contains("Not allowed at this time")
}

/// A10
#[tokio::test]
async fn who_guesses_is_banned_for_a_while_and_nobody_else() {
    let server = TestServer::builder()
        .image(TINY)
        .ssh("penalties: {authFailure: 6s, min: 10s, max: 12s, exempt: []}")
        .start()
        .await;

    let judged = python(&server, "guesses.py", &["127.0.0.2", "10"]).output().await;

    let judged: u32 = judged.assert_success().stdout().trim().parse().unwrap();
    assert!((2..10).contains(&judged), "{judged} guesses were judged");
    let refused = ssh_from(&server, "127.0.0.2", "true").arg("-v").output().await;
    assert!(shows_refusal(&refused), "{}", refused.report());
    ssh_from(&server, "127.0.0.3", "true").output().await.assert_success();
    poll_until("the end of the ban", PATIENCE, async || {
        (ssh_from(&server, "127.0.0.2", "true").output().await.code() == 0).then_some(())
    })
    .await;
    server.stop().await;
}

/// A10
#[tokio::test]
async fn who_only_knocks_or_never_comes_to_the_point_is_banned_too() {
    let penalties = "penalties: {noAuth: 3s, graceExceeded: 1m, min: 8s, exempt: [127.0.0.4]}";
    let server = TestServer::builder().image(TINY).ssh("loginGraceTime: 6s").ssh(penalties).start().await;
    let banned = async |source: &'static str| {
        shows_refusal(&ssh_from(&server, source, "true").arg("-v").output().await)
    };

    let mut late = connect_from("127.0.0.2", server.address).await;
    last_words(&mut late).await;
    for source in ["127.0.0.3", "127.0.0.4"] {
        for _ in 0..5 {
            let mut knock = connect_from(source, server.address).await;
            drop(knock.write_all(b"SSH-2.0-scan\r\n").await);
            drop(knock);
        }
    }

    poll_until("the ban of the late one", PATIENCE, async || banned("127.0.0.2").await.then_some(())).await;
    poll_until("the ban of the scanner", PATIENCE, async || banned("127.0.0.3").await.then_some(())).await;
    ssh_from(&server, "127.0.0.4", "true").output().await.assert_success();
    server.stop().await;
}

/// T11
#[tokio::test]
async fn behind_a_trusted_proxy_the_client_has_its_own_address_everywhere() {
    let server = TestServer::builder().image(TINY).ssh("proxyProtocol: {trusted: [127.0.0.2]}").start().await;
    let text = b"PROXY TCP4 192.0.2.7 198.51.100.1 51210 22\r\n".to_vec();
    let binary = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10"[..],
        &[192, 0, 2, 7, 198, 51, 100, 1, 200, 10, 0, 22],
        // A field more, of the type that means nothing.
        &[4, 0, 1, 0],
    ]
    .concat();

    for header in [text, binary] {
        let proxy = announcing_proxy("127.0.0.2", header, server.address).await;
        let behind = server.through(proxy);
        let mut client = behind.ssh(&["echo $SSH_CLIENT; echo $SSH_CONNECTION; cat"]).spawn();

        let seen = client.wait_for("192.0.2.7 51210 198.51.100.1 22\n").await;
        assert!(seen.contains("192.0.2.7 51210 22\n"), "{seen}");
        let container = server.the_container().await;
        let labels =
            docker(&["inspect", "-f", "{{index .Config.Labels \"coracle.client\"}}", &container]).await;
        assert!(labels.starts_with("192.0.2.7"), "{labels}");
        client.end().await.assert_success();
        server.assert_all_gone_within(PATIENCE).await;
    }
    let logged_in = server.log.lines().into_iter().filter(|line| line.contains(r#""message":"logged in""#));
    assert_eq!(logged_in.filter(|line| line.contains(r#""client":"192.0.2.7:51210""#)).count(), 2);
    server.stop().await;
}

/// T11
#[tokio::test]
async fn a_proxy_that_speaks_for_itself_keeps_its_address() {
    let server = TestServer::builder()
        .image(TINY)
        .ssh("proxyProtocol: {trusted: [127.0.0.2]}")
        .ssh("penalties: {noAuth: 1m, exempt: []}")
        .start()
        .await;
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();

    // Health checks that say nothing more do not get a proxy banned.
    for _ in 0..5 {
        let mut check = connect_from("127.0.0.2", server.address).await;
        check.write_all(&local).await.unwrap();
    }

    for header in [b"PROXY UNKNOWN\r\n".to_vec(), local] {
        let proxy = announcing_proxy("127.0.0.2", header, server.address).await;
        let output = server.through(proxy).ssh(&["echo $SSH_CLIENT"]).output().await;
        assert!(output.assert_success().stdout().starts_with("127.0.0.2 "), "{}", output.report());
    }
    server.stop().await;
}

/// T11, A10: a client is punished, not its proxy.
#[tokio::test]
async fn limits_and_penalties_count_the_client_behind_the_proxy() {
    let server = TestServer::builder()
        .image(TINY)
        .ssh("proxyProtocol: {trusted: [127.0.0.2]}")
        .ssh("penalties: {noAuth: 1m, min: 1s}")
        .section("limits: {maxConnectionsPerSource: 1}")
        .start()
        .await;
    let from = async |client: &str| {
        let mut stream = connect_from("127.0.0.2", server.address).await;
        let header = format!("PROXY TCP4 {client} 198.51.100.1 51210 22\r\n");
        stream.write_all(header.as_bytes()).await.unwrap();
        stream
    };
    let mut first = from("192.0.2.7").await;
    let mut version = [0; 8];
    first.read_exact(&mut version).await.unwrap();

    assert_eq!(last_words(&mut from("192.0.2.7").await).await, "Too many connections\r\n");
    drop(first);
    poll_until("the ban", PATIENCE, async || {
        (last_words(&mut from("192.0.2.7").await).await == "Not allowed at this time\r\n").then_some(())
    })
    .await;

    let header = b"PROXY TCP4 192.0.2.8 198.51.100.1 51210 22\r\n".to_vec();
    let proxy = announcing_proxy("127.0.0.2", header, server.address).await;
    server.through(proxy).ssh(&["true"]).output().await.assert_success();
    server.stop().await;
}

/// T11
#[tokio::test]
async fn a_header_from_elsewhere_is_no_ssh_and_a_proxy_without_one_no_proxy() {
    let server = TestServer::builder()
        .image(TINY)
        .ssh("proxyProtocol: {trusted: [127.0.0.2]}")
        .ssh("loginGraceTime: 10s")
        .start()
        .await;
    server.ssh(&["true"]).output().await.assert_success();

    let mut untrusted = connect_from("127.0.0.1", server.address).await;
    untrusted.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 51210 22\r\n").await.unwrap();
    let mut bare = connect_from("127.0.0.2", server.address).await;
    bare.write_all(b"SSH-2.0-test\r\n").await.unwrap();
    let mut silent = connect_from("127.0.0.2", server.address).await;
    let (untrusted, bare, silent) =
        tokio::join!(last_words(&mut untrusted), last_words(&mut bare), last_words(&mut silent));

    // Ours comes first, as ever; then there is nothing to say.
    assert!(untrusted.starts_with("SSH-2.0-Coracle") && untrusted.lines().count() == 1, "{untrusted:?}");
    assert_eq!((bare.as_str(), silent.as_str()), ("", ""));
    let log = server.log.text();
    assert!(log.contains("it does not begin with a PROXY protocol header"), "{log}");
    assert!(!log.contains("192.0.2.7"), "{log}");
    server.stop().await;
}
