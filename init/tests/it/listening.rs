//! Sockets that are listened on inside, and those who call there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use coracle_init::{Exit, Failure, Listen, ToInit};
use rustix::process::{Signal, kill_process};

use crate::forwarding::{assert_connected, display, tcp, unix};
use crate::network;
use crate::pair::Pair;
use crate::peer::shell;
use crate::server::{Init, binary, end, pid, until};

/// At a time.
const LISTENERS_MAX: u32 = 64;

#[test]
fn callers_are_announced_once_and_taken_in() {
    network::of_its_own();
    let init = Init::start();
    let mut peer = init.serve();
    peer.listen(1, Listen::At(tcp("localhost", 0)));
    let (port, path) = peer.expect_listening(1);
    assert_eq!(path, "");
    let first = TcpStream::connect(("127.0.0.1", port)).unwrap();
    peer.expect_knock(1);
    let second = TcpStream::connect(("::1", port)).unwrap();
    // Nothing more is said of any of them.
    assert_eq!(peer.run(10, shell("sleep 0.3")).0, Exit::Status(0));

    let mut first_socket = peer.accept(2, 1);
    let from = first.local_addr().unwrap().port();
    assert_eq!(peer.expect_accepted(2), ("127.0.0.1".to_owned(), from));
    peer.expect_knock(1);
    let mut second_socket = peer.accept(3, 1);
    let from = second.local_addr().unwrap().port();
    assert_eq!(peer.expect_accepted(3), ("::1".to_owned(), from));

    assert_connected(&mut peer, (2, &mut first_socket), &first, || first.shutdown(Shutdown::Write).unwrap());
    // Those who were taken in stay when nobody listens any more.
    peer.unlisten(1);
    assert_connected(&mut peer, (3, &mut second_socket), &second, || {
        second.shutdown(Shutdown::Write).unwrap();
    });
    for host in ["127.0.0.1", "::1"] {
        until("nobody listens", || TcpStream::connect((host, port)).is_err());
    }
}

#[test]
fn any_address_can_be_listened_on() {
    network::of_its_own();
    let init = Init::start();
    let mut peer = init.serve();
    let cases: [(&str, &[&str]); 4] = [
        ("", &["127.0.0.1", "::1"]),
        ("127.0.0.1", &["127.0.0.1"]),
        ("::1", &["::1"]),
        ("0.0.0.0", &["127.0.0.1"]),
    ];

    for (listener, (host, calls)) in (1..).zip(cases) {
        peer.listen(listener, Listen::At(tcp(host, 0)));
        let (port, _) = peer.expect_listening(listener);
        assert_ne!(port, 0);
        for call in calls {
            let caller = TcpStream::connect((*call, port)).unwrap();
            peer.expect_knock(listener);
            let mut socket = peer.accept(100, listener);
            assert_eq!(peer.expect_accepted(100).0, *call);
            let half_close = || caller.shutdown(Shutdown::Write).unwrap();
            assert_connected(&mut peer, (100, &mut socket), &caller, half_close);
        }
    }
}

#[test]
fn what_cannot_be_listened_on_says_why() {
    network::of_its_own();
    let init = Init::start();
    let mut peer = init.serve();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = init.folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let cases = [
        (tcp("127.0.0.1", port), Failure::InUse),
        (tcp("localhost", port), Failure::InUse),
        (tcp("example.org", 0), Failure::Unknown),
        (tcp("192.0.2.1", 0), Failure::Other),
        (unix(&file), Failure::InUse),
        (unix(&init.folder.path().join("nowhere/socket")), Failure::Other),
        (unix("socket".as_ref()), Failure::Other),
        (unix(&init.folder.path().join("x".repeat(200))), Failure::Other),
    ];

    for (listener, (address, expected)) in (1..).zip(cases) {
        let what = format!("{address:?}");
        peer.listen(listener, Listen::At(address));
        assert_eq!(peer.expect_failure(listener), expected, "{what}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
    // The number of what failed is free.
    peer.listen(1, Listen::At(tcp("localhost", 0)));
    peer.expect_listening(1);
}

#[test]
fn who_has_left_or_never_came_is_not_taken_in() {
    network::of_its_own();
    let init = Init::start();
    let mut peer = init.serve();
    peer.listen(1, Listen::At(tcp("localhost", 0)));
    let (port, _) = peer.expect_listening(1);

    let _nobody = peer.accept(2, 1);
    assert_eq!(peer.expect_failure(2), Failure::Unreachable);
    let _nowhere = peer.accept(2, 99);
    assert_eq!(peer.expect_failure(2), Failure::Unreachable);
    let caller = TcpStream::connect(("127.0.0.1", port)).unwrap();
    peer.expect_knock(1);
    drop(caller);
    // It was there: what it has said is heard, and that it has gone.
    let mut socket = peer.accept(2, 1);
    peer.expect_accepted(2);
    socket.input = None;
    assert_eq!(socket.output.read(&mut [0]).unwrap(), 0);
    assert_eq!(peer.expect_exit(2), Exit::Status(0));
    // It may be taken in twice: the second is not there.
    let _caller = TcpStream::connect(("127.0.0.1", port)).unwrap();
    peer.expect_knock(1);
    let _socket = peer.accept(2, 1);
    let _other = peer.accept(3, 1);
    peer.expect_accepted(2);
    assert_eq!(peer.expect_failure(3), Failure::Unreachable);
    let _caller = TcpStream::connect(("127.0.0.1", port)).unwrap();
    peer.expect_knock(1);
}

#[test]
fn there_is_a_bound_on_listeners() {
    network::of_its_own();
    let init = Init::start();
    let mut peer = init.serve();
    for listener in 0..LISTENERS_MAX {
        peer.listen(listener, Listen::At(tcp("127.0.0.1", 0)));
        peer.expect_listening(listener);
    }

    peer.listen(100, Listen::At(tcp("127.0.0.1", 0)));
    assert_eq!(peer.expect_failure(100), Failure::Exhausted);

    peer.unlisten(5);
    peer.listen(100, Listen::At(tcp("127.0.0.1", 0)));
    peer.expect_listening(100);
}

#[test]
fn a_number_is_of_one_thing_only() {
    network::of_its_own();
    let init = Init::start();
    for of_a_process in [false, true] {
        let mut peer = init.serve();
        if of_a_process {
            let _running = peer.start(1, shell("sleep 100"));
            peer.expect_started(1);
        } else {
            peer.listen(1, Listen::Agent);
            peer.expect_listening(1);
        }
        peer.listen(1, Listen::Agent);
        assert_eq!(peer.next(), None);
    }
}

/// One of each that leaves something behind.
fn all(folder: &Path) -> Vec<Listen> {
    vec![Listen::At(unix(&folder.join("there"))), Listen::Agent, display(), Listen::At(tcp("localhost", 0))]
}

#[test]
fn nothing_is_left_when_the_server_has_gone_or_the_init_ends() {
    network::of_its_own();
    let mut init = Init::start();
    for by_signal in [false, true] {
        let mut peer = init.serve();
        let mut paths = Vec::new();
        for (listener, listen) in (1..).zip(all(init.folder.path())) {
            peer.listen(listener, listen);
            paths.push(peer.expect_listening(listener));
        }
        let _caller = UnixStream::connect(&paths[0].1).unwrap();
        peer.expect_knock(1);

        if by_signal {
            init.signal(Signal::TERM);
            assert_eq!(init.end().code(), Some(143));
        } else {
            drop(peer);
        }

        assert_gone(&paths);
    }
}

fn assert_gone(paths: &[(u16, String)]) {
    for (port, path) in paths {
        until("it is gone", || path.is_empty() || !Path::new(path).exists());
        let folder = Path::new(path).parent();
        let is_private = |folder: &&Path| folder.to_str().unwrap().contains("/ssh-");
        until("its folder is gone", || folder.filter(is_private).is_none_or(|folder| !folder.exists()));
        until("nobody listens", || *port == 0 || TcpStream::connect(("127.0.0.1", *port)).is_err());
    }
}

#[test]
fn all_of_it_works_in_frames() {
    network::of_its_own();
    for by_signal in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut pair = Pair::start();
        let mut paths = Vec::new();
        for (listener, listen) in (1..).zip(all(folder.path())) {
            pair.start_listening(listener, listen);
            let heard = pair.until(listener, |heard| heard.listening.is_some());
            paths.push(heard.listening.clone().unwrap());
        }
        let mut caller = UnixStream::connect(&paths[1].1).unwrap();
        caller.write_all(b"hello").unwrap();
        pair.until(2, |heard| heard.knocks == 1);
        pair.accept(10, 2);
        assert_eq!(pair.until(10, |heard| heard.accepted.is_some()).accepted, Some(String::new()));
        pair.feed(10, b"bye");
        pair.end_input(10);
        let mut heard = String::new();
        caller.read_to_string(&mut heard).unwrap();
        drop(caller);
        assert_eq!((heard.as_str(), pair.finish(10).stdout().as_str()), ("bye", "hello"));

        if by_signal {
            kill_process(pid(pair.child.id()), Signal::TERM).unwrap();
        } else {
            pair.to = None;
        }

        end(&mut pair.child);
        assert_gone(&paths);
    }
}

#[test]
fn a_caller_waits_where_there_is_no_room_for_one_more() {
    network::of_its_own();
    let limit = "ulimit -n 40; exec \"$0\" --frames";
    let mut pair = Pair::of(Command::new("sh").args(["-c", limit, &binary()]));
    let mut count = 0;
    while count == 0 || pair.programs[&count].listening.is_some() {
        count += 1;
        pair.start_listening(count, Listen::At(tcp("127.0.0.1", 0)));
        pair.until(count, |heard| heard.listening.is_some() || heard.failed.is_some());
    }
    assert_eq!(pair.programs[&count].failed, Some(Failure::Exhausted));
    let port = pair.programs[&1].listening.as_ref().unwrap().0;
    // Two pipes, and nothing else.
    (2..6).for_each(|listener| pair.say(&ToInit::Unlisten { listener }));
    let mut caller = TcpStream::connect(("127.0.0.1", port)).unwrap();
    pair.until(1, |heard| heard.knocks == 1);

    pair.accept(100, 1);
    assert_eq!(pair.until(100, |heard| heard.failed.is_some()).failed, Some(Failure::Exhausted));
    (6..20).for_each(|listener| pair.say(&ToInit::Unlisten { listener }));
    pair.until(1, |heard| heard.knocks == 2);
    pair.programs.clear();
    pair.accept(100, 1);

    pair.until(100, |heard| heard.accepted.is_some());
    caller.write_all(b"hello").unwrap();
    pair.until(100, |heard| heard.stdout == b"hello");
}
