//! Programs whose streams travel in frames.

use std::process::Command;

use coracle_init::{Exit, OutputStream, Program, ToInit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, kill_process};

use crate::pair::{Pair, WINDOW};
use crate::peer::{args, on_terminal, program, shell};
use crate::server::{binary, end, pid, runs, until};

const KILL: u8 = 9;

/// More than any bound lets through when each is answered.
const FRAMES_MAX: u32 = 100_000;

fn noise(count: u32) -> Vec<u8> {
    (0..count).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

#[test]
fn programs_run_with_their_streams_and_their_ends() {
    let mut pair = Pair::start();

    pair.run(1, shell("cat; echo done >&2; exit 7"));
    pair.feed(1, b"abc");
    pair.end_input(1);
    pair.run(2, shell("kill -9 $$"));
    pair.run(3, args(&["/usr/lib/nowhere", "-e"]));
    pair.run(4, program(Program::LoginShell));
    pair.feed(4, b"echo one\nexit 6\n");

    let heard = pair.until(1, |heard| heard.exit.is_some() && heard.ends.len() == 2);
    assert!(heard.pid.is_some());
    assert_eq!((heard.exit, heard.stdout().as_str()), (Some(Exit::Status(7)), "abc"));
    assert_eq!(heard.stderr, b"done\n");
    assert_eq!(pair.finish(2).exit, Some(Exit::Signal(KILL)));
    let heard = pair.until(3, |heard| heard.exit.is_some() && heard.ends.len() == 2);
    assert_eq!(heard.exit, Some(Exit::Status(127)));
    assert_eq!(heard.stderr, b"/usr/lib/nowhere: not found in the container\n");
    assert_eq!(pair.finish(4).stdout(), "one\n");
}

#[test]
fn programs_get_nothing_of_the_init() {
    let mut pair = Pair::start();
    pair.run(1, shell("sleep 100"));

    pair.run(2, args(&["ls", "/proc/self/fd"]));

    let open = pair.finish(2).stdout();
    assert_eq!(open.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn output_waits_for_credit_and_nothing_else_does() {
    let mut pair = Pair::start();
    let sent = noise(3_000_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &sent).unwrap();
    pair.run(1, shell(&format!("cat {}", file.path().display())));
    pair.until(1, |heard| heard.stdout.len() == WINDOW);

    // The other output of the same program, and another program, go on.
    pair.run(2, shell("echo other"));
    assert_eq!(pair.finish(2).stdout(), "other\n");
    assert_eq!(pair.programs[&1].stdout.len(), WINDOW, "more than the window");
    pair.grant(1, OutputStream::Stdout, 1);
    assert_eq!(pair.until(1, |heard| heard.stdout.len() > WINDOW).stdout.len(), WINDOW + 1);

    // A reader that is slow, and one that is not.
    while pair.programs[&1].stdout.len() < 1_500_000 {
        let target = pair.programs[&1].stdout.len() + 10_000;
        pair.grant(1, OutputStream::Stdout, 10_000);
        pair.until(1, |heard| heard.stdout.len() == target);
    }
    pair.grant(1, OutputStream::Stdout, u32::MAX);
    let heard = pair.finish(1);
    assert!(heard.stdout == sent, "{} bytes", heard.stdout.len());
    assert_eq!(heard.exit, Some(Exit::Status(0)));
}

#[test]
fn a_program_that_does_not_read_holds_up_nobody() {
    let mut pair = Pair::start();
    pair.run(1, shell("read -r go </dev/stderr; cat | wc -c"));
    pair.feed(1, &vec![b'x'; WINDOW]);

    pair.run(2, shell("cat; exit 3"));
    pair.feed(2, b"abc");
    pair.end_input(2);

    let heard = pair.finish(2);
    assert_eq!((heard.exit, heard.stdout().as_str()), (Some(Exit::Status(3)), "abc"));
    // What a pipe holds was taken, and that is less than what is worth a grant.
    assert_eq!(pair.programs[&1].credit, 0);
    pair.say(&ToInit::Signal { process: 1, number: KILL });
    assert_eq!(pair.until(1, |heard| heard.exit.is_some()).exit, Some(Exit::Signal(KILL)));
}

#[test]
fn input_flows_as_fast_as_it_is_taken() {
    let mut pair = Pair::start();
    let sent = noise(2_000_000);
    pair.run(1, shell("wc -c; exit 5"));
    let mut at = 0;
    while at < sent.len() {
        let granted = WINDOW + pair.programs.get(&1).map_or(0, |heard| heard.credit as usize);
        if at == granted {
            pair.until(1, |heard| heard.credit as usize + WINDOW > granted);
            continue;
        }
        let next = sent.len().min(granted).min(at + 20_000);
        pair.feed(1, &sent[at..next]);
        at = next;
    }
    pair.end_input(1);

    let heard = pair.finish(1);
    assert_eq!((heard.exit, heard.stdout().trim()), (Some(Exit::Status(5)), "2000000"));
}

#[test]
fn input_that_nobody_reads_any_more_is_taken_all_the_same() {
    let mut pair = Pair::start();
    pair.run(1, shell("exec <&-; echo closed; sleep 100"));
    pair.until(1, |heard| heard.stdout() == "closed\n");

    pair.feed(1, &vec![b'x'; WINDOW]);

    pair.until(1, |heard| heard.credit as usize >= WINDOW / 2);
}

#[test]
fn more_input_than_was_granted_ends_it_all() {
    let mut pair = Pair::start();
    pair.run(1, shell("sleep 100"));
    let pid = pair.until(1, |heard| heard.pid.is_some()).pid.unwrap();

    // The pipe has room for some of it, but that is less than what is worth a grant.
    pair.feed(1, &vec![b'x'; WINDOW]);
    pair.feed(1, b"x");

    pair.breaks("too much input");
    assert!(!runs(pid));
}

/// P1, P2, P3, P6
#[test]
fn a_terminal_is_made_and_told_its_size() {
    let mut pair = Pair::start();
    let look =
        "stty size; tty; echo $SSH_TTY; stty -a; sh -c 'echo rea''dy'; read -r line; stty size; exit 3";
    pair.run(1, on_terminal(shell(look), &[(53, 0), (3, 8)]));
    // Not the end of anything.
    pair.until(1, |heard| heard.stdout().contains("ready\r\n"));
    pair.say(&ToInit::Resize { process: 1, columns: 132, rows: 50 });
    pair.feed(1, b"go\n");
    pair.end_input(1);

    let heard = pair.finish(1);

    let text = heard.stdout();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines[0], lines[1], lines[lines.len() - 1]), ("40 100", lines[2], "50 132"), "{text}");
    assert!(lines[1].starts_with("/dev/pts/"));
    assert!(text.contains("erase = ^H") && text.contains("-echo "), "{text}");
    assert_eq!(heard.exit, Some(Exit::Status(3)));
    assert_eq!(heard.ends, [OutputStream::Stdout]);
}

/// P5
#[test]
fn keys_interrupt_what_runs_on_a_terminal() {
    let mut pair = Pair::start();
    pair.run(1, on_terminal(shell("echo ready; sleep 100"), &[]));
    pair.until(1, |heard| heard.stdout() == "ready\r\n");

    pair.feed(1, b"\x03");

    assert_eq!(pair.finish(1).exit, Some(Exit::Signal(2)));
}

/// E11
#[test]
fn what_is_released_is_closed_and_heard_of_no_more() {
    let mut pair = Pair::start();
    pair.run(2, on_terminal(shell("echo ready; sleep 100"), &[]));
    pair.until(2, |heard| heard.stdout() == "ready\r\n");
    // Last: its output is over a second after its end.
    pair.run(1, shell("sleep 100 & echo hi"));
    pair.until(1, |heard| heard.exit.is_some() && !heard.stdout.is_empty());

    pair.say(&ToInit::Release { process: 1 });
    pair.say(&ToInit::Release { process: 2 });

    // Its terminal is gone, and so is it.
    assert_eq!(pair.until(2, |heard| heard.exit.is_some()).exit, Some(Exit::Signal(1)));
    assert_eq!(pair.programs[&1].ends, []);
    // Its number is free again.
    pair.run(1, shell("exit 4"));
    pair.programs.clear();
    assert_eq!(pair.finish(1).exit, Some(Exit::Status(4)));
    // Nobody minds what comes late.
    pair.feed(1, b"late");
    pair.end_input(2);
    pair.grant(2, OutputStream::Stderr, 7);
    pair.run(3, shell("echo on"));
    assert_eq!(pair.finish(3).stdout(), "on\n");
}

#[test]
fn the_end_of_standard_input_is_the_end_of_all() {
    let mut pair = Pair::start();
    pair.run(1, shell("trap '' HUP; echo ready; sleep 100"));
    let pid = pair.until(1, |heard| heard.stdout() == "ready\n").pid.unwrap();

    pair.to = None;

    assert_eq!(end(&mut pair.child).code(), Some(0));
    until("the program is gone", || !runs(pid));
}

#[test]
fn term_lets_last_words_through() {
    let mut pair = Pair::start();
    pair.run(1, shell("trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done"));
    pair.until(1, |heard| heard.stdout() == "ready\n");

    kill_process(pid(pair.child.id()), Signal::TERM).unwrap();

    let heard = pair.finish(1);
    assert_eq!((heard.exit, heard.stdout().as_str()), (Some(Exit::Status(9)), "ready\nbye\n"));
    assert_eq!(end(&mut pair.child).code(), Some(143));
}

#[test]
fn whatever_makes_no_sense_ends_it_all() {
    use std::io::Write as _;

    let welcome = ToInit::Welcome { version: 1, orphan_timeout_ms: 0, token: [0; 32] };
    for (what, bytes) in [
        ("an unknown kind", vec![99, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        ("a huge frame", vec![2, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255]),
        ("noise", vec![255; 100]),
        ("a second welcome", crate::peer::encoded(&welcome)),
    ] {
        let mut pair = Pair::start();
        pair.to.as_mut().unwrap().write_all(&bytes).unwrap();
        pair.breaks(what);
    }
    let mut pair = Pair::unwelcomed(Command::new(binary()).arg("--frames"));
    pair.listen();
    pair.run(1, shell("true"));
    pair.breaks("a start before the welcome");
}

#[test]
fn a_server_that_only_talks_is_not_heard_for_ever() {
    use std::io::Write as _;

    let mut pair = Pair::start();
    let mut start = shell("true");
    start.user = b"no-such-user".to_vec();
    let frame = crate::peer::encoded(&ToInit::Start { process: 1, start: Box::new(start) });
    let mut to = pair.to.take().unwrap();

    // Each is refused, and nobody reads that: sooner or later nothing more is taken.
    let stuck = (0..FRAMES_MAX).find(|_| {
        let mut ready = [PollFd::new(&to, PollFlags::OUT)];
        let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
        if poll(&mut ready, Some(&patience)).unwrap() == 0 {
            return true;
        }
        // What a pipe has room for at all, it has room for whole.
        to.write_all(&frame).unwrap();
        false
    });

    assert!(stuck.is_some(), "all of it is taken");
    let memory = std::fs::read_to_string(format!("/proc/{}/status", pair.child.id())).unwrap();
    let memory = memory.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let kib: u32 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 10_000, "{memory}");
}
