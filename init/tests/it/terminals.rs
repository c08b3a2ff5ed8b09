//! Programs with a terminal that the server made.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;

use coracle_init::{Exit, Start, ToInit};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};

use crate::peer::{Peer, on_terminal, shell};
use crate::server::Init;

/// Starts a program on a terminal out of the folder that came with the hello.
fn start(peer: &mut Peer, process: u32, start: Start) -> File {
    let folder = peer.terminals.as_ref().unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(folder, "ptmx", flags, Mode::empty()).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    peer.say_with(&ToInit::Start { process, start: Box::new(start) }, &[slave.as_fd()]);
    File::from(master)
}

/// Until the last of its programs has ended.
fn rest(mut master: File) -> String {
    let (mut text, mut bytes) = (Vec::new(), [0; 1000]);
    while let Ok(count @ 1..) = master.read(&mut bytes) {
        text.extend(&bytes[..count]);
    }
    String::from_utf8(text).unwrap()
}

/// P1, P2
#[test]
fn a_terminal_has_its_name_its_size_and_a_foreground() {
    let init = Init::start();
    let mut peer = init.serve();

    for process in 0..20 {
        let look = "stty size; tty; echo $SSH_TTY; test -t 0 -a -t 1 -a -t 2 && : </dev/tty && echo yes";
        let text = rest(start(&mut peer, process, on_terminal(shell(look), &[])));

        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("/dev/pts/"), "{lines:?}");
        assert_eq!(lines, ["40 100", lines[1], lines[1], "yes"]);
        peer.expect_started(process);
        assert_eq!(peer.expect_exit(process), Exit::Status(0));
    }
}

/// P4
#[test]
fn modes_are_there_at_once() {
    let init = Init::start();
    let mut peer = init.serve();
    let modes = [(53, 0), (3, 8), (1, 255), (42, 1), (129, 9600), (128, 9600), (200, 7)];

    let text = rest(start(&mut peer, 1, on_terminal(shell("stty -a"), &modes)));

    for expected in ["erase = ^H", "intr = <undef>", " -echo ", "\niutf8\r\n", "speed 9600 "] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// P5
#[test]
fn keys_interrupt_what_runs_on_it() {
    let init = Init::start();
    let mut peer = init.serve();
    let command = "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done";
    let mut master = start(&mut peer, 1, on_terminal(shell(command), &[]));
    peer.expect_started(1);
    let mut bytes = [0; 7];
    master.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ready\r\n");

    master.write_all(b"\x03").unwrap();

    assert!(rest(master).ends_with("interrupted\r\n"));
    assert_eq!(peer.expect_exit(1), Exit::Status(3));
}

#[test]
fn a_terminal_that_is_closed_hangs_its_program_up() {
    let init = Init::start();
    let mut peer = init.serve();
    let master = start(&mut peer, 1, on_terminal(shell("sleep 100"), &[]));
    peer.expect_started(1);

    drop(master);

    assert_eq!(peer.expect_exit(1), Exit::Signal(1));
}
