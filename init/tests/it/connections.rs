//! Comings and goings of a server that is reached by a socket.

use std::fs;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use coracle_init::{Exit, FromInit, ToInit, VERSION};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::peer::{DEADLINE, args, program, shell};
use crate::server::{Init, runs, until};

#[test]
fn a_welcome_comes_with_one_pipe_or_the_connection_ends() {
    let init = Init::start();
    let welcome = ToInit::Welcome { version: VERSION, orphan_timeout_ms: 0, token: [9; 32] };
    let (_reader, writer) = std::io::pipe().unwrap();

    for count in [0, 2] {
        let mut peer = init.accept();
        peer.say_with(&welcome, &vec![writer.as_fd(); count]);
        assert_eq!(peer.next(), None, "{count}");
    }

    let mut peer = init.serve();
    assert_eq!(peer.run(1, shell("exit 4")).0, Exit::Status(4));
}

#[test]
fn nothing_is_said_on_the_socket_after_the_welcome() {
    let init = Init::start();
    let mut peer = init.serve();

    assert_eq!(peer.run(1, shell("exit 4")).0, Exit::Status(4));
    let mut start = program(coracle_init::Program::LoginShell);
    start.user = b"no-such-user".to_vec();
    let _refused = peer.start(2, start);
    assert!(matches!(peer.next(), Some(FromInit::Refused { .. })));

    assert_eq!(recv(&peer.stream, &mut [0; 100][..], RecvFlags::DONTWAIT).map(|_| ()), Err(Errno::AGAIN));
}

#[test]
fn a_server_may_close_its_side_of_the_socket_to_what_comes() {
    let init = Init::start();
    let mut peer = init.accept();
    peer.stream.shutdown(Shutdown::Read).unwrap();

    peer.welcome(Duration::ZERO, [7; 32]);

    for process in 1..4 {
        assert_eq!(peer.run(process, shell("exit 4")).0, Exit::Status(4));
    }
}

#[test]
fn a_server_that_does_not_listen_any_more_has_gone() {
    let init = Init::start();
    let mut peer = init.serve();
    let _first = peer.start(1, args(&["sleep", "100"]));
    let pid = peer.expect_started(1);

    peer.pipe = None;
    // It can be told nothing: neither this start, nor anything else.
    let _second = peer.start(2, args(&["sleep", "100"]));

    let mut next = init.serve();
    assert_eq!(next.token, [7; 32]);
    until("the program is hung up", || !runs(pid));
    assert_eq!(next.run(1, shell("exit 4")).0, Exit::Status(4));
}

#[test]
fn a_server_that_is_away_is_looked_for_less_and_less_often() {
    let init = Init::start();
    for _ in 0..3 {
        drop(init.accept());
    }
    let (mut peer, mut pauses) = (init.serve(), Vec::new());
    for _ in 0..5 {
        let began = Instant::now();
        drop(peer);
        peer = init.accept();
        pauses.push(began.elapsed());
    }

    let least = [200, 400, 800, 1000, 1000].map(Duration::from_millis);
    assert!(pauses.iter().zip(least).all(|(pause, least)| *pause >= least), "{pauses:?}");
    // What came before a welcome counts no more: it would have been a second. The fastest of three.
    let mut welcomed = vec![pauses[0]];
    for _ in 0..2 {
        peer.welcome(DEADLINE, [7; 32]);
        let began = Instant::now();
        drop(peer);
        peer = init.accept();
        welcomed.push(began.elapsed());
    }
    assert!(welcomed.iter().any(|pause| *pause < Duration::from_secs(1)), "{welcomed:?}");
}

#[test]
fn what_has_a_session_of_its_own_is_there_when_the_server_comes_back() {
    let init = Init::start();
    let mut peer = init.serve();
    let fifo = init.folder.path().join("fifo").to_str().unwrap().to_owned();
    // It ends by itself once it has heard something.
    let daemon = format!("echo ready; exec timeout 30 cat {fifo} >{fifo}.heard");
    let mut running = peer.start(1, shell(&format!("mkfifo {fifo}; setsid sh -c '{daemon}' & sleep 100")));
    let pid = peer.expect_started(1);
    running.expect("ready\n");
    drop((peer, running));

    // It is away for a while.
    for _ in 0..2 {
        drop(init.accept());
    }
    let mut peer = init.serve();

    until("what has no session of its own is gone", || !runs(pid));
    assert_eq!(peer.run(1, shell(&format!("echo hello >{fifo}"))).0, Exit::Status(0));
    until("the daemon hears it", || {
        fs::read_to_string(format!("{fifo}.heard")).is_ok_and(|heard| heard == "hello\n")
    });
}
