//! What programs find signals to do, and what they do to the init.

use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use coracle_init::{Exit, ToInit};
use rustix::process::Signal;

use crate::pair::Pair;
use crate::peer::args;
use crate::server::{Init, binary, end, pid};

/// What starts the init with all signals ignored and blocked, as far as that goes.
const DEAF: [&str; 3] = ["env", "--ignore-signal", "--block-signal"];

fn deaf(command: &Command) -> Command {
    let mut deaf = Command::new(DEAF[0]);
    deaf.args(&DEAF[1..]).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    deaf
}

fn assert_defaults(status: &str) {
    for field in ["SigBlk:", "SigIgn:", "SigCgt:"] {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let signals = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        assert_eq!(signals, 0, "{line}");
    }
}

#[test]
fn a_program_starts_with_all_signals_at_their_defaults() {
    let init = Init::start();

    let (_, status, _) = init.serve().run(1, args(&["cat", "/proc/self/status"]));

    assert_defaults(&status);
}

#[test]
fn whatever_the_init_inherited_ends_with_it() {
    let mut init = Init::start_with(|command| *command = deaf(command));
    let mut peer = init.serve();

    let (exit, status, _) = peer.run(1, args(&["cat", "/proc/self/status"]));

    assert_eq!(exit, Exit::Status(0));
    assert_defaults(&status);
    assert_eq!(peer.run(2, args(&["sh", "-c", "kill -PIPE $$"])).0, Exit::Signal(13));
    init.signal(Signal::TERM);
    assert_eq!(init.end().code(), Some(143));
}

#[test]
fn a_program_whose_streams_are_in_frames_starts_with_the_same() {
    let mut pair = Pair::of(&mut deaf(Command::new(binary()).arg("--frames")));

    pair.run(1, args(&["cat", "/proc/self/status"]));

    assert_defaults(&pair.finish(1).stdout());
    rustix::process::kill_process(pid(pair.child.id()), Signal::TERM).unwrap();
    assert_eq!(end(&mut pair.child).code(), Some(143));
}

#[test]
fn a_program_that_cannot_be_run_says_so_by_its_status_even_if_nobody_reads_why() {
    let init = Init::start();
    let mut peer = init.serve();
    let null = std::fs::File::open("/dev/null").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);

    let start = ToInit::Start { process: 1, start: Box::new(args(&["/usr/lib/nowhere"])) };
    peer.say_with(&start, &[null.as_fd(), null.as_fd(), writer.as_fd()]);

    peer.expect_started(1);
    assert_eq!(peer.expect_exit(1), Exit::Status(127));
}

#[test]
fn an_init_heeds_no_signal_but_term() {
    let mut init = Init::start();
    let mut peer = init.serve();

    for signal in [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::PIPE,
        Signal::ALARM,
        Signal::USR1,
        Signal::USR2,
        Signal::TSTP,
        Signal::TTIN,
        Signal::TTOU,
    ] {
        init.signal(signal);
    }

    assert_eq!(peer.run(1, args(&["sh", "-c", "exit 4"])).0, Exit::Status(4));
    init.signal(Signal::TERM);
    assert_eq!(init.end().code(), Some(143));
}
