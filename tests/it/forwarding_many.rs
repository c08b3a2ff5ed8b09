//! Many forwards over one connection, long ones, and those that get stuck: nobody else notices (F5).

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};

use crate::flow::{GROWTH_MAX, PATIENCE, keystrokes};
use crate::harness::{
    MIB, Sshd, Target, TestServer, exchange_by, free_port, noise, percentile, resident_bytes, scaled, sha256,
    sha256_of_file,
};

/// Over one connection at a time.
const MANY: usize = 200;
/// What each of them says.
const WORDS: usize = 20_000;
/// A key's way there and back may take so much longer than before, and so many times as long: a machine shared with
/// other tests is slow, and one that is held up is much slower.
const SLOWER: (u32, Duration) = (10, Duration::from_secs(2));

/// F5 for either server; gives the most that `memory` showed meanwhile.
async fn many_forwards_beside_a_typist(target: &Target, memory: impl Fn() -> usize) -> usize {
    let master = target.master(&[]).await;
    let (echo, inside) = master.listen_inside("127.0.0.1:0", "echo").await;
    let (deaf, deaf_port) = master.listen_inside("127.0.0.1:0", "deaf").await;
    let (hole, hole_port) = master.hole_inside().await;
    let sockets = ["echo", "deaf", "hole"].map(|name| target.path(name));
    for (socket, port) in sockets.iter().zip([inside, deaf_port, hole_port]) {
        master.forward("-L", &format!("{}:127.0.0.1:{port}", socket.display())).await.assert_success();
    }
    let mut typist = master.ssh(&["echo ready; cat"]).arg("-tt").args(["-e", "none"]).spawn();
    typist.wait_for("ready").await;
    let before = keystrokes(&mut typist, 20).await;

    // One that is never answered, and one whose words are never read.
    let mut stuck = Vec::new();
    for socket in &sockets[1..] {
        let mut peer = UnixStream::connect(socket).await.unwrap();
        let words = noise(4 * MIB);
        stuck.push(tokio::spawn(async move {
            drop(peer.write_all(&words).await);
            peer
        }));
    }
    let words = noise(WORDS);
    let many = (0..MANY).map(|_| exchange_by(&sockets[0], &words));
    let (answers, during) = tokio::join!(futures::future::join_all(many), keystrokes(&mut typist, 40));
    let most = memory();

    let right = answers.iter().filter(|answer| **answer == words).count();
    assert_eq!(right, MANY, "so many came back whole");
    let (before, during) = (percentile(&before, 50), percentile(&during, 50));
    assert!(during < before * SLOWER.0 + SLOWER.1, "a key took {during:?}, and {before:?} before");
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
    drop((echo, deaf, hole, typist));
    master.close().await;
    most
}

/// F5
#[tokio::test]
async fn many_forwards_and_two_that_are_stuck_hold_nobody_up() {
    let server = TestServer::builder().forwarding().start().await;
    let before = resident_bytes(server.pid());

    let most = many_forwards_beside_a_typist(&server, || resident_bytes(server.pid())).await;

    assert!(most.saturating_sub(before) < GROWTH_MAX, "from {before} to {most} bytes");
    server.stop().await;
}

/// F5
#[tokio::test]
async fn many_forwards_and_two_that_are_stuck_hold_nobody_up_at_the_oracle() {
    let sshd = Sshd::start_forwarding().await;
    many_forwards_beside_a_typist(&sshd, || 0).await;
    sshd.stop().await;
}

on_both!(forwarding
    /// F5
    either_side_may_end_first_and_still_hears_the_other,
    |target| {
        let master = target.master(&[]).await;
        let (mut server, inside) = master.listen_inside("127.0.0.1:0", "last").await;
        let socket = target.path("socket");
        master.forward("-L", &format!("{}:127.0.0.1:{inside}", socket.display())).await.assert_success();

        // Inside ends first: it hears all that is said to it afterwards.
        let mut peer = UnixStream::connect(&socket).await.unwrap();
        let mut heard = Vec::new();
        let hear = peer.read_to_end(&mut heard);
        tokio::time::timeout(PATIENCE, hear).await.expect("an end of what is said").unwrap();
        assert_eq!(heard, b"first words\n");
        peer.write_all(&noise(500_000)).await.unwrap();
        peer.shutdown().await.unwrap();
        server.wait_for("got 500000 bytes\n").await;

        // The client's side ends first: what is said inside afterwards arrives. And the other way round, by `-R`.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap().port();
        let told = master.forward("-R", &format!("0:127.0.0.1:{there}")).await;
        let port = told.assert_success().stdout().trim().to_owned();
        let mut caller = master.dial_inside(&format!("127.0.0.1:{port}")).spawn();
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.write_all(b"first words\n").await.unwrap();
        caller.wait_for("first words\n").await;
        caller.write(b"and an end").await;
        caller.close_stdin();
        let mut heard = String::new();
        let hear = peer.read_to_string(&mut heard);
        tokio::time::timeout(PATIENCE, hear).await.expect("the caller's end").unwrap();
        assert_eq!(heard, "and an end");
        peer.write_all(b"last words\n").await.unwrap();
        drop(peer);
        caller.wait_for("last words\n").await;
        caller.end().await.assert_success();
        drop(server);
        master.close().await;
    }
);

on_both!(forwarding
    /// F5
    a_long_transfer_arrives_whole_both_ways,
    |target| {
        let length = scaled(64, 1024) * MIB;
        let master = target.master(&[]).await;
        let (there, back) = (target.path("there"), target.path("back"));
        std::fs::write(&there, noise(length)).unwrap();
        let hash = sha256_of_file(&there);

        let (server, inside) = master.listen_inside("127.0.0.1:0", "echo").await;
        let through = master.ssh(&[]).arg("-W").arg(format!("127.0.0.1:{inside}")).stdin_file(&there).stdout_file(&back);
        through.timeout(PATIENCE).output().await.assert_success();
        assert_eq!(sha256_of_file(&back), hash, "by -W");

        let port = crate::harness::echo().await;
        let told = master.forward("-R", &format!("0:127.0.0.1:{port}")).await;
        let inside = format!("127.0.0.1:{}", told.assert_success().stdout().trim());
        let through = master.dial_inside(&inside).stdin_file(&there).stdout_file(&back);
        through.timeout(PATIENCE).output().await.assert_success();
        assert_eq!(sha256_of_file(&back), hash, "by -R");
        drop(server);
        master.close().await;
    }
);

/// F5: who has said that there is no more, and goes away, leaves nothing that is held for them.
#[tokio::test]
async fn what_a_reader_that_never_reads_is_sent_does_not_fill_the_servers_memory() {
    let server = TestServer::builder().forwarding().start().await;
    let master = server.master(&[]).await;
    let (flood, inside) = master.listen_inside("127.0.0.1:0", "flood").await;
    let here = free_port();
    master.forward("-L", &format!("{here}:127.0.0.1:{inside}")).await.assert_success();
    let before = resident_bytes(server.pid());

    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut peer = tokio::net::TcpStream::connect(("127.0.0.1", here)).await.unwrap();
        // It flows; from here on nobody reads.
        peer.read_exact(&mut [0; 1000]).await.unwrap();
        deaf.push(peer);
    }
    let other = master.ssh(&["head -c 16000000 /dev/zero | sha256sum"]).output().await;

    assert!(other.assert_success().stdout().starts_with(&sha256(&vec![0; 16_000_000])));
    let most = resident_bytes(server.pid());
    assert!(most.saturating_sub(before) < GROWTH_MAX, "from {before} to {most} bytes");
    drop((deaf, flood));
    master.close().await;
    server.stop().await;
}
