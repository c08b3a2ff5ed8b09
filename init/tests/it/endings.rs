//! When the output of a program that has ended is over, where the init has its pipes.

use std::time::{Duration, Instant};

use coracle_init::{Exit, OutputStream};
use rustix::process::{Signal, kill_process};

use crate::pair::{Heard, Pair, WINDOW};
use crate::peer::{DEADLINE, on_terminal, shell};
use crate::server::{pid, runs, until};

/// How long what is left behind may be silent, and how long it may write.
const SILENCE: Duration = Duration::from_secs(1);
const LINGER_MAX: Duration = Duration::from_secs(2);

/// What a busy machine may add to either.
const LATE_MAX: Duration = Duration::from_secs(5);

const BOTH: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

fn noise(count: u32) -> Vec<u8> {
    (0..count).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

/// The process whose number stands on standard error.
fn child(heard: &Heard) -> u32 {
    String::from_utf8_lossy(&heard.stderr).trim().parse().unwrap()
}

fn has_told_all(heard: &Heard) -> bool {
    heard.exit.is_some() && BOTH.iter().all(|stream| heard.ends.contains(stream))
}

#[test]
fn a_child_that_keeps_the_output_open_does_not_hold_it() {
    let mut pair = Pair::start();
    let began = Instant::now();
    pair.run(1, shell("sleep 100 & echo $! >&2; echo hi; exit 3"));

    // That it has ended is told at once.
    let heard = pair.until(1, |heard| heard.exit.is_some());
    assert!(heard.ends.is_empty());
    let heard = pair.until(1, has_told_all);

    let after = began.elapsed();
    assert!(after >= SILENCE && after < SILENCE + LATE_MAX, "{after:?}");
    assert_eq!((heard.exit, heard.stdout().as_str()), (Some(Exit::Status(3)), "hi\n"));
    kill_process(pid(child(heard)), Signal::KILL).unwrap();
    // There is nothing left of it: its number is free.
    pair.programs.clear();
    pair.run(1, shell("exit 4"));
    assert_eq!(pair.until(1, has_told_all).exit, Some(Exit::Status(4)));
}

#[test]
fn a_child_that_goes_on_writing_is_heard_for_a_while() {
    let mut pair = Pair::start();
    pair.run(1, shell("(for word in 1 2 3; do sleep 0.36; echo $word; done; exec sleep 100) & echo $! >&2"));

    let heard = pair.until(1, has_told_all);

    assert_eq!(heard.stdout(), "1\n2\n3\n");
    kill_process(pid(child(heard)), Signal::KILL).unwrap();
}

#[test]
fn an_endless_writer_in_the_background_is_cut() {
    let mut pair = Pair::start();
    let began = Instant::now();
    pair.run(1, shell("while :; do echo x; sleep 0.05; done & echo $! >&2"));

    let heard = pair.until(1, has_told_all);

    let after = began.elapsed();
    assert!(after >= LINGER_MAX && after < LINGER_MAX + LATE_MAX, "{after:?}");
    assert!(heard.stdout.len() > 20);
    let child = child(heard);
    until("it cannot write any more", || !runs(child));
}

#[test]
fn one_that_writes_as_fast_as_it_can_is_cut_too() {
    let mut pair = Pair::start();
    let began = Instant::now();
    pair.run(1, shell("yes & echo $! >&2"));
    pair.until(1, |heard| !heard.stderr.is_empty());

    // Granted again and again, as a server does it: most of the time there is none.
    while !has_told_all(&pair.programs[&1]) {
        assert!(began.elapsed() < DEADLINE, "not in time");
        pair.listen();
        let heard = pair.programs.get_mut(&1).unwrap();
        if heard.stdout.len() >= WINDOW / 2 {
            let taken = std::mem::take(&mut heard.stdout).len();
            pair.grant(1, OutputStream::Stdout, taken.try_into().unwrap());
        }
    }

    let after = began.elapsed();
    assert!(after >= LINGER_MAX && after < LINGER_MAX + LATE_MAX, "{after:?}");
    let child = child(&pair.programs[&1]);
    until("it cannot write any more", || !runs(child));
}

#[test]
fn a_reader_without_credit_loses_nothing() {
    let mut pair = Pair::start();
    let sent = noise(1_000_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &sent).unwrap();
    let path = file.path().display();
    // Both what the program has written itself, and what its child has still to write.
    pair.run(1, shell(&format!("head -c 300000 {path}")));
    pair.run(2, shell(&format!("cat {path} & exit 3")));
    for process in [1, 2] {
        pair.until(process, |heard| heard.exit.is_some() && heard.stdout.len() == WINDOW);
    }

    while pair.hears_within(3) {
        pair.listen();
    }

    for process in [1, 2] {
        assert!(!pair.programs[&process].ends.contains(&OutputStream::Stdout));
        pair.grant(process, OutputStream::Stdout, 20_000);
        pair.until(process, |heard| heard.stdout.len() == WINDOW + 20_000);
        pair.grant(process, OutputStream::Stdout, u32::MAX);
    }
    assert!(pair.until(1, has_told_all).stdout == sent[..300_000]);
    assert!(pair.until(2, has_told_all).stdout == sent);
}

#[test]
fn a_terminal_ends_a_little_after_its_program_too() {
    let mut pair = Pair::start();
    let began = Instant::now();
    pair.run(1, on_terminal(shell("trap '' HUP; sleep 100 & echo $!"), &[]));

    let heard = pair.until(1, |heard| heard.exit.is_some() && !heard.ends.is_empty());

    assert!(began.elapsed() < SILENCE + LATE_MAX);
    let child: u32 = heard.stdout().trim().parse().unwrap();
    assert!(runs(child));
    kill_process(pid(child), Signal::KILL).unwrap();
}
