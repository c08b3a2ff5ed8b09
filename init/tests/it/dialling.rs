//! Sockets that are dialled.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use coracle_init::{Exit, Failure, FromInit};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use crate::forwarding::{SOON_MS, assert_idle, busy_listener, dialled, listener, noise, tcp, unix, within};
use crate::server::{Init, until};

const STOP: u8 = 19;

/// More than all buffers between two ends hold.
const MUCH: usize = 64 << 20;

#[test]
fn each_direction_ends_by_itself() {
    let init = Init::start();
    let mut peer = init.serve();

    // Ours first, theirs first.
    let (mut socket, mut other, _) = dialled(&mut peer, 1);
    socket.input.take().unwrap().write_all(b"hello").unwrap();
    let mut heard = String::new();
    other.read_to_string(&mut heard).unwrap();
    other.write_all(b"bye").unwrap();
    drop(other);
    socket.output.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hellobye");
    assert_eq!(peer.expect_exit(1), Exit::Status(0));

    let (mut socket, mut other, pid) = dialled(&mut peer, 2);
    other.write_all(b"hello").unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    heard.clear();
    socket.output.read_to_string(&mut heard).unwrap();
    assert_idle(pid);
    socket.input.take().unwrap().write_all(b"bye").unwrap();
    other.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hellobye");
    assert_eq!(peer.expect_exit(2), Exit::Status(0));
}

#[test]
fn sockets_of_the_file_system_are_dialled_by_their_path() {
    let init = Init::start();
    let mut peer = init.serve();
    let path = init.folder.path().join("there");
    let listener = UnixListener::bind(&path).unwrap();

    let mut socket = peer.dial(1, within(unix(&path), SOON_MS));

    peer.expect_started(1);
    let (mut other, _) = listener.accept().unwrap();
    socket.input.take().unwrap().write_all(b"hello").unwrap();
    let mut heard = String::new();
    other.read_to_string(&mut heard).unwrap();
    other.write_all(b"bye").unwrap();
    drop(other);
    socket.output.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hellobye");
    assert_eq!(peer.expect_exit(1), Exit::Status(0));
}

#[test]
fn a_name_is_tried_by_all_its_addresses() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let init = Init::start();
    let mut peer = init.serve();

    // By IPv4 nobody is there.
    let _socket = peer.dial(1, within(tcp("localhost", port), SOON_MS));

    peer.expect_started(1);
}

#[test]
fn why_nobody_answers_is_told() {
    let init = Init::start();
    let mut peer = init.serve();
    let port = listener().1;
    let folder = init.folder.path();
    std::fs::write(folder.join("file"), "").unwrap();
    let cases = [
        (tcp("127.0.0.1", port), Failure::Unreachable),
        (tcp("no-such-name.invalid", port), Failure::Unknown),
        (tcp("", port), Failure::Unknown),
        (tcp("\u{ff}", port), Failure::Unknown),
        (unix(&folder.join("nothing")), Failure::Unreachable),
        (unix(&folder.join("file")), Failure::Unreachable),
        (unix("relative".as_ref()), Failure::Other),
        (unix(&folder.join("x".repeat(200))), Failure::Other),
    ];

    for (process, (to, expected)) in (1..).zip(cases) {
        let what = format!("{to:?}");
        let mut socket = peer.dial(process, within(to, SOON_MS));
        assert_eq!(peer.expect_failure(process), expected, "{what}");
        // Nobody has its pipes any more, and its number is free.
        assert_eq!(socket.output.read(&mut [0]).unwrap(), 0);
    }
    dialled(&mut peer, 1);
}

#[test]
fn what_takes_too_long_is_given_up() {
    let init = Init::start();
    let mut peer = init.serve();
    let path = init.folder.path().join("busy");
    // One may wait at either, and does.
    let (busy, port) = busy_listener();
    let _waits = (TcpStream::connect(("127.0.0.1", port)).unwrap(), &busy);
    let unix_listener =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&unix_listener, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&unix_listener, 0).unwrap();
    let _waits_too = std::os::unix::net::UnixStream::connect(&path).unwrap();

    for (process, to) in [(1, tcp("127.0.0.1", port)), (2, unix(&path))] {
        let began = Instant::now();
        let _socket = peer.dial(process, within(to, 500));
        assert_eq!(peer.expect_failure(process), Failure::TimedOut);
        assert!(began.elapsed() >= Duration::from_millis(500));
    }
    // Somebody has stopped the child: it cannot give up itself.
    let _socket = peer.dial(3, within(tcp("127.0.0.1", port), 500));
    peer.signal(3, STOP);
    assert_eq!(peer.expect_failure(3), Failure::TimedOut);
    drop(busy);
}

#[test]
fn much_goes_both_ways_at_once() {
    let init = Init::start();
    let mut peer = init.serve();
    let (mut socket, mut other, _) = dialled(&mut peer, 1);
    let sent = noise(MUCH);

    let mut input = socket.input.take().unwrap();
    let (up, down) = thread::scope(|scope| {
        scope.spawn(|| {
            input.write_all(&sent).unwrap();
            drop(input);
        });
        scope.spawn(|| {
            let mut other = &other;
            other.write_all(&sent).unwrap();
            other.shutdown(Shutdown::Write).unwrap();
        });
        let up = scope.spawn(|| {
            let mut up = Vec::new();
            (&other).read_to_end(&mut up).unwrap();
            up
        });
        let mut down = Vec::new();
        socket.output.read_to_end(&mut down).unwrap();
        (up.join().unwrap(), down)
    });

    assert!(up == sent && down == sent, "{} and {} bytes", up.len(), down.len());
    assert_eq!(peer.expect_exit(1), Exit::Status(0));
    assert_eq!(other.read(&mut [0]).unwrap(), 0);
}

#[test]
fn who_does_not_read_holds_up_only_what_is_for_them() {
    let init = Init::start();
    let mut peer = init.serve();
    let (mut socket, other, pid) = dialled(&mut peer, 1);
    let sent = noise(MUCH);

    let (up, down) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut other = &other;
            other.write_all(&sent).unwrap();
            other.shutdown(Shutdown::Write).unwrap();
        });
        // Nobody reads that for a while, and nobody minds.
        assert_idle(pid);
        assert!(!writer.is_finished());
        let mut input = socket.input.take().unwrap();
        input.write_all(b"hello").unwrap();
        let mut up = [0; 5];
        (&other).read_exact(&mut up).unwrap();
        let mut down = Vec::new();
        socket.output.read_to_end(&mut down).unwrap();
        // Then the other way around.
        let writer = scope.spawn(|| {
            input.write_all(&sent).unwrap();
            drop(input);
        });
        assert_idle(pid);
        assert!(!writer.is_finished());
        let mut up = Vec::new();
        (&other).read_to_end(&mut up).unwrap();
        (up, down)
    });

    assert!(up == sent && down == sent, "{} and {} bytes", up.len(), down.len());
    assert_eq!(peer.expect_exit(1), Exit::Status(0));
}

#[test]
fn many_are_dialled_at_once() {
    let init = Init::start();
    let mut peer = init.serve();
    let (listener, port) = listener();
    let (busy, busy_port) = busy_listener();
    let _waits = TcpStream::connect(("127.0.0.1", busy_port)).unwrap();
    let _black_hole = peer.dial(1000, within(tcp("127.0.0.1", busy_port), 60_000));
    let mut sockets: Vec<_> =
        (0..100).map(|process| peer.dial(process, within(tcp("127.0.0.1", port), SOON_MS))).collect();

    let echo = thread::spawn(move || {
        for _ in 0..100 {
            let (mut other, _) = listener.accept().unwrap();
            thread::spawn(move || {
                let mut said = Vec::new();
                other.read_to_end(&mut said).unwrap();
                other.write_all(&said).unwrap();
            });
        }
    });
    for (socket, word) in sockets.iter_mut().zip(0_u32..) {
        socket.input.take().unwrap().write_all(&word.to_be_bytes()).unwrap();
    }
    for (socket, word) in sockets.iter_mut().zip(0_u32..) {
        let mut heard = Vec::new();
        socket.output.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, word.to_be_bytes());
    }

    echo.join().unwrap();
    let (mut started, mut exited) = (0, 0);
    while exited < 100 {
        match peer.next() {
            Some(FromInit::Started { .. }) => started += 1,
            Some(FromInit::Exited { exit: Exit::Status(0), .. }) => exited += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(started, 100);
    drop(busy);
}

#[test]
fn a_child_has_nothing_but_its_socket_and_its_pipes() {
    let init = Init::start();
    let mut peer = init.serve();
    let (_other_socket, _other, _) = dialled(&mut peer, 1);
    let (_socket, other, pid) = dialled(&mut peer, 2);

    let open = || {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        // What is closed meanwhile leads nowhere any more.
        let target = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.ok()?.path()).ok();
        entries.filter_map(target).map(|target| target.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };

    // The socket stands in for standard input, output and error.
    until("all is in its place, and nothing else is there", || {
        let targets = open();
        let sockets: Vec<_> = targets.iter().filter(|target| target.starts_with("socket:")).collect();
        let pipes = targets.iter().filter(|target| target.starts_with("pipe:")).count();
        (targets.len(), sockets.len(), pipes) == (6, 4, 2)
            && sockets.iter().all(|socket| *socket == sockets[0])
    });
    assert!(other.as_raw_fd() > 0);
}

#[test]
fn frames_that_make_no_sense_end_the_connection() {
    let init = Init::start();
    let (_listener, port) = listener();
    let frame = |process| coracle_init::ToInit::Dial {
        process,
        dial: Box::new(within(tcp("127.0.0.1", port), SOON_MS)),
    };

    let mut peer = init.serve();
    peer.say(&frame(1));
    assert_eq!(peer.next(), None, "without pipes");
    let mut peer = init.serve();
    let _first = peer.dial(1, within(tcp("127.0.0.1", port), SOON_MS));
    peer.expect_started(1);
    let _second = peer.dial(1, within(tcp("127.0.0.1", port), SOON_MS));
    assert_eq!(peer.next(), None, "a number that is taken");
}
