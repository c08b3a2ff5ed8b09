//! Programs, signals, comings and goings over a unix socket.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use coracle_init::{Exit, FromInit, ToInit};
use rustix::process::Signal;

use crate::peer::{Peer, args, encoded, on_terminal, program, send_with, shell};
use crate::server::{Init, runs, until};

const TERM: u8 = 15;
const KILL: u8 = 9;
const USR1: u8 = 10;

#[test]
fn exit_statuses_and_signals_are_told() {
    let init = Init::start();
    let mut peer = init.serve();

    for (process, status) in [0, 1, 44, 255].into_iter().enumerate() {
        let process = u32::try_from(process).unwrap();
        let (exit, ..) = peer.run(process, shell(&format!("exit {status}")));
        assert_eq!(exit, Exit::Status(status));
    }
    assert_eq!(peer.run(10, shell("kill -9 $$")).0, Exit::Signal(KILL));
    assert_eq!(peer.run(11, shell("kill -TERM $$")).0, Exit::Signal(TERM));
}

#[test]
fn standard_streams_are_the_programs_own() {
    let init = Init::start();
    let mut peer = init.serve();
    let sent: Vec<u8> =
        (0..3_000_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mut running = peer.start(1, shell("cat; echo done >&2"));
    peer.expect_started(1);

    let mut stdin = running.stdin.take().unwrap();
    let bytes = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let mut received = Vec::new();
    running.stdout.read_to_end(&mut received).unwrap();
    writer.join().unwrap().unwrap();

    assert!(received == sent, "{} bytes", received.len());
    assert_eq!(running.outputs().1, "done\n");
    assert_eq!(peer.expect_exit(1), Exit::Status(0));
}

#[test]
fn programs_get_nothing_of_the_init() {
    let init = Init::start();
    let mut peer = init.serve();
    let _other = peer.start(1, shell("sleep 100"));
    peer.expect_started(1);

    // 3 is the folder that `ls` reads.
    let (_, open, _) = peer.run(2, args(&["ls", "/proc/self/fd"]));
    let (_, stat, _) = peer.run(
        4,
        shell("read -r pid comm state parent group session rest </proc/self/stat; echo $pid $group $session"),
    );
    let environ = peer.run(5, args(&["cat", "/proc/self/environ"])).0;

    assert_eq!(open.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    let numbers: Vec<_> = stat.split_whitespace().collect();
    assert!(numbers[0] == numbers[1] && numbers[0] == numbers[2], "{stat}");
    assert_eq!(environ, Exit::Status(0));
}

#[test]
fn a_signal_reaches_the_whole_group_and_nobody_after_the_end() {
    let init = Init::start();
    let mut peer = init.serve();
    let mut running =
        peer.start(1, shell("trap 'echo got' USR1; sh -c 'echo $$; exec sleep 100' & wait; wait; exit 3"));
    peer.expect_started(1);
    let mut line = String::new();
    while !line.ends_with('\n') {
        let mut byte = [0];
        running.stdout.read_exact(&mut byte).unwrap();
        line.push(char::from(byte[0]));
    }
    let child: u32 = line.trim().parse().unwrap();

    peer.signal(1, USR1);
    running.expect("got");
    until("the child is signalled, too", || !runs(child));
    assert_eq!(peer.expect_exit(1), Exit::Status(3));

    // Nobody, nothing and no signal at all: the init is unharmed.
    for (process, number) in [(1, KILL), (99, KILL), (1, 0), (1, 65), (1, 255)] {
        peer.signal(process, number);
    }
    assert_eq!(peer.run(2, shell("exit 4")).0, Exit::Status(4));
}

#[test]
fn orphans_are_reaped() {
    let init = Init::start();
    let mut peer = init.serve();

    let (_, orphan, _) = peer.run(1, shell("sleep 0.2 >/dev/null 2>&1 & echo $!"));

    let orphan: u32 = orphan.trim().parse().unwrap();
    // A zombie would still be there.
    until("the orphan is gone", || !std::path::Path::new(&format!("/proc/{orphan}")).exists());
    assert_eq!(peer.run(2, shell("exit 4")).0, Exit::Status(4));
}

#[test]
fn a_server_that_comes_back_is_shown_its_token_and_old_programs_are_hung_up() {
    let init = Init::start();
    let mut peer = init.serve();
    assert_eq!(peer.token, [0; 32]);
    let _running = peer.start(1, shell("sleep 100"));
    let pid = peer.expect_started(1);
    let mut stays = peer.start(2, shell("trap '' HUP; echo ready; sleep 0.5; exit 5"));
    peer.expect_started(2);
    stays.expect("ready\n");
    drop(peer);

    let mut peer = init.serve();

    assert_eq!(peer.token, [7; 32]);
    until("the program is hung up", || !runs(pid));
    // Its number may be used again, and nothing is heard of those of old.
    assert_eq!(peer.run(1, shell("sleep 1; exit 6")).0, Exit::Status(6));
}

#[test]
fn without_a_server_everything_ends() {
    let mut init = Init::start();
    let mut peer = init.accept();
    peer.welcome(Duration::from_millis(300), [1; 32]);
    let mut running = peer.start(1, shell("trap '' HUP; echo ready; while :; do sleep 0.05; done"));
    let pid = peer.expect_started(1);
    running.expect("ready");
    drop(peer);

    assert_eq!(init.end().code(), Some(0));
    assert!(!runs(pid));
}

#[test]
fn what_does_not_end_is_killed() {
    let mut init = Init::start();
    let mut peer = init.accept();
    peer.welcome(Duration::from_millis(1), [1; 32]);
    let mut running = peer.start(1, shell("trap '' HUP TERM; echo ready; while :; do sleep 0.05; done"));
    let pid = peer.expect_started(1);
    running.expect("ready");
    drop(peer);

    assert_eq!(init.end().code(), Some(0));
    until("the program is killed", || !runs(pid));
}

#[test]
fn term_ends_the_programs_and_then_the_init() {
    let mut init = Init::start();
    let mut peer = init.serve();
    let mut running =
        peer.start(1, shell("trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done"));
    peer.expect_started(1);
    running.expect("ready");

    init.signal(Signal::TERM);

    assert_eq!(peer.expect_exit(1), Exit::Status(9));
    assert_eq!(running.outputs().0, "bye\n");
    assert_eq!(init.end().code(), Some(143));
    assert_eq!(peer.next(), None);
}

#[test]
fn an_init_without_programs_ends_at_once() {
    let mut init = Init::start();
    let _peer = init.serve();

    init.signal(Signal::TERM);

    assert_eq!(init.end().code(), Some(143));
}

fn breaks(peer: &mut Peer, what: &str) {
    let last = peer.next();
    assert_eq!(last, None, "{what}");
}

#[test]
fn whatever_makes_no_sense_ends_the_connection_and_not_the_init() {
    let init = Init::start();
    let start = ToInit::Start { process: 1, start: Box::new(shell("true")) };

    let mut peer = init.accept();
    peer.say(&start);
    breaks(&mut peer, "a start before the welcome");

    let mut peer = init.accept();
    let pipe = std::io::pipe().unwrap();
    let other = ToInit::Welcome { version: 2, orphan_timeout_ms: 0, token: [0; 32] };
    peer.say_with(&other, &[pipe.1.as_fd()]);
    breaks(&mut peer, "another version");

    for (what, bytes) in [
        ("a second welcome", encoded(&ToInit::Welcome { version: 1, orphan_timeout_ms: 0, token: [0; 32] })),
        ("an unknown kind", vec![99, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        ("a huge frame", vec![2, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255]),
        ("noise", vec![255; 100]),
        ("a stream", encoded(&ToInit::Stdin { process: 1, bytes: b"x" })),
        ("a credit", encoded(&ToInit::Release { process: 1 })),
        ("a start without descriptors", encoded(&start)),
    ] {
        let mut peer = init.serve();
        peer.stream.write_all(&bytes).unwrap();
        breaks(&mut peer, what);
    }
    assert_eq!(init.serve().run(1, shell("exit 4")).0, Exit::Status(4));
}

#[test]
fn the_wrong_number_of_descriptors_ends_the_connection() {
    let init = Init::start();
    let start = ToInit::Start { process: 1, start: Box::new(shell("true")) };
    let null = std::fs::File::open("/dev/null").unwrap();

    for count in [1, 2, 4, 17, 32] {
        let mut peer = init.serve();
        send_with(&peer.stream, &encoded(&start), &vec![null.as_fd(); count]);
        while let Some(frame) = peer.next() {
            assert!(
                matches!(frame, FromInit::Started { .. } | FromInit::Exited { .. }),
                "{count}: {frame:?}"
            );
        }
    }
    let mut peer = init.serve();
    let signal = encoded(&ToInit::Signal { process: 1, number: TERM });
    send_with(&peer.stream, &signal, &[null.as_fd()]);
    breaks(&mut peer, "a descriptor with a signal");
}

#[test]
fn a_number_that_is_taken_ends_the_connection() {
    let init = Init::start();
    let mut peer = init.serve();
    let _first = peer.start(1, shell("sleep 100"));
    peer.expect_started(1);

    let _second = peer.start(1, shell("true"));

    breaks(&mut peer, "a number that is taken");
}

#[test]
fn there_is_a_bound_on_programs() {
    let init = Init::start();
    let mut peer = init.serve();
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let start = |peer: &mut Peer, process| {
        let start = ToInit::Start { process, start: Box::new(args(&["sleep", "1000"])) };
        peer.say_with(&start, &[null.as_fd(); 3]);
        peer.next()
    };

    for process in 0..1024 {
        assert!(matches!(start(&mut peer, process), Some(FromInit::Started { .. })), "{process}");
    }
    assert!(matches!(start(&mut peer, 1024), Some(FromInit::Refused { process: 1024, .. })));
    peer.signal(7, KILL);
    assert_eq!(peer.expect_exit(7), Exit::Signal(KILL));
    assert!(matches!(start(&mut peer, 1025), Some(FromInit::Started { process: 1025, .. })));
}

#[test]
fn many_starts_in_a_row_and_long_ones_keep_their_descriptors() {
    let init = Init::start();
    let mut peer = init.serve();
    let long = "x".repeat(100_000);
    let mut running = Vec::new();
    for process in 0..8 {
        // Close to what the protocol allows, and to what the kernel does.
        let mut start = args(&["sh", "-c", "echo $# $0", &process.to_string()]);
        start.env = (0..9).map(|number| format!("LONG{number}={long}").into_bytes()).collect();
        running.push(peer.start(process, start));
    }

    for mut running in running {
        let (stdout, stderr) = running.outputs();
        assert_eq!((stdout, stderr), (format!("0 {}\n", running.process), String::new()));
    }
}

#[test]
fn a_terminal_that_is_none_is_refused() {
    let init = Init::start();
    let mut peer = init.serve();
    let null = std::fs::File::open("/dev/null").unwrap();

    let start = ToInit::Start { process: 1, start: Box::new(on_terminal(shell("true"), &[])) };
    peer.say_with(&start, &[null.as_fd()]);

    let Some(FromInit::Refused { process: 1, reason }) = peer.next() else { panic!("not refused") };
    assert!(String::from_utf8_lossy(reason).contains("terminal"));
    assert_eq!(peer.run(2, shell("exit 4")).0, Exit::Status(4));
}

#[test]
fn a_login_shell_is_named_by_its_path() {
    let init = Init::start();
    let mut peer = init.serve();
    let mut running = peer.start(1, program(coracle_init::Program::LoginShell));
    peer.expect_started(1);

    running.stdin.take().unwrap().write_all(b"tr '\\0' ' ' </proc/$$/cmdline; echo; exit 6\n").unwrap();

    let (line, _) = running.outputs();
    let shell = line.strip_suffix(" -l \n").unwrap_or_else(|| panic!("{line:?}"));
    assert!(shell.starts_with('/') && shell.ends_with("sh"));
    assert_eq!(peer.expect_exit(1), Exit::Status(6));
}
