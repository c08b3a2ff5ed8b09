//! How sockets that were dialled end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use coracle_init::{Exit, Failure};

use crate::forwarding::{assert_idle, busy_listener, dialled, noise, tcp, within};
use crate::server::{Init, runs, until};

const KILL: u8 = 9;

#[test]
fn what_is_over_and_not_read_yet_costs_nothing() {
    let init = Init::start();
    let mut peer = init.serve();
    let (mut socket, mut other, pid) = dialled(&mut peer, 1);
    // It fits the other end's buffer, and not a pipe of one page: that is one piece, of 32 KiB at most.
    let sent = noise(60_000);
    rustix::pipe::fcntl_setpipe_size(&socket.output, 4096).unwrap();

    // Both sides have said all that they have to say, and one has not heard it.
    socket.input = None;
    assert_eq!(other.read(&mut [0]).unwrap(), 0);
    let writer = thread::spawn({
        let sent = sent.clone();
        move || other.write_all(&sent).unwrap()
    });
    until("the kernel has it all", || writer.is_finished());

    assert_idle(pid);
    let mut down = Vec::new();
    socket.output.read_to_end(&mut down).unwrap();
    assert!(down == sent, "{} bytes", down.len());
    assert_eq!(peer.expect_exit(1), Exit::Status(0));
}

#[test]
fn it_can_be_killed_at_any_time() {
    let init = Init::start();
    let mut peer = init.serve();
    let (busy, port) = busy_listener();
    let _waits = TcpStream::connect(("127.0.0.1", port)).unwrap();

    let _socket = peer.dial(1, within(tcp("127.0.0.1", port), 60_000));
    peer.signal(1, KILL);
    assert_eq!(peer.expect_failure(1), Failure::Other);

    let (_socket, mut other, _) = dialled(&mut peer, 1);
    peer.signal(1, KILL);
    assert_eq!(peer.expect_exit(1), Exit::Signal(KILL));
    assert_eq!(other.read(&mut [0]).unwrap_or_default(), 0);
    drop(busy);
}

#[test]
fn whom_nobody_listens_to_is_let_go() {
    let init = Init::start();
    let mut peer = init.serve();

    // It says nothing, and is not told anything any more.
    let (socket, other, _) = dialled(&mut peer, 1);
    drop(socket);
    assert_eq!(peer.expect_exit(1), Exit::Status(0));
    drop(other);

    // It has much to say, which nobody reads; what is for it still gets there.
    let (mut socket, other, _) = dialled(&mut peer, 2);
    let sent = noise(1 << 20);
    let up = thread::scope(|scope| {
        let writer = scope.spawn(|| (&other).write_all(&sent).unwrap());
        socket.output.read_exact(&mut [0; 10]).unwrap();
        let mut input = socket.input.take().unwrap();
        drop(socket);
        writer.join().unwrap();
        let sent = &sent;
        scope.spawn(move || input.write_all(sent).unwrap());
        let mut up = Vec::new();
        (&other).read_to_end(&mut up).unwrap();
        up
    });
    assert!(up == sent);
    assert_eq!(peer.expect_exit(2), Exit::Status(0));
}

#[test]
fn who_takes_nothing_more_is_not_waited_for() {
    let init = Init::start();
    let mut peer = init.serve();
    let (mut socket, other, _) = dialled(&mut peer, 1);
    let mut input = socket.input.take().unwrap();
    // It talks all the time, which does not count.
    let talker = thread::spawn({
        let mut other = other.try_clone().unwrap();
        move || while other.write_all(&[0; 1000]).is_ok() {}
    });
    // Until nothing more fits.
    rustix::io::ioctl_fionbio(&input, true).unwrap();
    let full = || input.write(&[0; 4096]).is_err();
    let mut full = full;
    until("all is full", || full() && full());

    drop((socket, input));

    assert_eq!(peer.expect_exit(1), Exit::Status(0));
    drop(other);
    talker.join().unwrap();
}

#[test]
fn one_that_breaks_ends_both_ways() {
    let init = Init::start();
    let mut peer = init.serve();
    let (mut socket, mut other, _) = dialled(&mut peer, 1);
    socket.input.as_mut().unwrap().write_all(b"hello").unwrap();
    other.read_exact(&mut [0; 5]).unwrap();
    other.write_all(b"bye").unwrap();
    let mut bye = [0; 3];
    socket.output.read_exact(&mut bye).unwrap();

    // What it has not read makes a reset of its end.
    socket.input.as_mut().unwrap().write_all(b"more").unwrap();
    until("it is there", || rustix::io::ioctl_fionread(&other).unwrap() == 4);
    drop(other);

    assert_eq!(peer.expect_exit(1), Exit::Status(0));
    assert_eq!(socket.output.read(&mut [0]).unwrap(), 0);
    assert!(socket.input.unwrap().write_all(b"x").is_err());
}

#[test]
fn it_ends_with_its_server_and_with_the_init() {
    let mut init = Init::start();
    let mut peer = init.serve();
    let (_socket, mut other, pid) = dialled(&mut peer, 1);
    drop(peer);
    assert_eq!(other.read(&mut [0]).unwrap_or_default(), 0);
    until("it is gone", || !runs(pid));

    let mut peer = init.serve();
    let (_socket, mut other, pid) = dialled(&mut peer, 1);
    init.signal(rustix::process::Signal::TERM);
    assert_eq!(other.read(&mut [0]).unwrap_or_default(), 0);
    assert_eq!(init.end().code(), Some(143));
    assert!(!runs(pid));
}
