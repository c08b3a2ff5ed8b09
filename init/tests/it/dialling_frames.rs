//! Sockets that are dialled where everything travels in frames.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use coracle_init::{Exit, Failure, OutputStream, ToInit};
use rustix::process::{Signal, kill_process};

use crate::forwarding::{noise, tcp, within};
use crate::pair::{Pair, WINDOW};
use crate::server::{end, pid, runs, until};

const SOON_MS: u32 = 10_000;

/// A socket that was dialled, the other end of it, and the child between.
fn dialled(pair: &mut Pair, process: u32) -> (TcpStream, u32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    pair.dial(process, within(tcp("localhost", port), SOON_MS));
    let pid = pair.until(process, |heard| heard.pid.is_some()).pid.unwrap();
    (listener.accept().unwrap().0, pid)
}

#[test]
fn what_is_sent_at_once_gets_there_and_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut pair = Pair::start();

    pair.dial(1, within(tcp("127.0.0.1", port), SOON_MS));
    pair.feed(1, b"hello");
    pair.end_input(1);

    let (mut other, _) = listener.accept().unwrap();
    let mut said = String::new();
    other.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
    other.write_all(b"bye").unwrap();
    drop(other);
    let heard = pair.finish(1);
    assert_eq!((heard.stdout().as_str(), heard.exit), ("bye", Some(Exit::Status(0))));
    assert_eq!((heard.ends.as_slice(), heard.pid.is_some()), (&[OutputStream::Stdout][..], true));
}

#[test]
fn nothing_is_said_of_what_could_not_be_dialled() {
    let mut pair = Pair::start();

    pair.dial(1, within(tcp("no-such-name.invalid", 1), SOON_MS));
    pair.feed(1, b"hello");

    let heard = pair.until(1, |heard| heard.failed.is_some());
    assert_eq!(heard.failed, Some(Failure::Unknown));
    pair.programs.clear();
    // Its number is free.
    dialled(&mut pair, 1);
    assert!(pair.programs[&1].exit.is_none() && pair.programs[&1].ends.is_empty());
}

#[test]
fn all_that_was_said_before_the_end_arrives() {
    let mut pair = Pair::start();
    let (mut other, _) = dialled(&mut pair, 1);
    let sent = noise(WINDOW + 300_000);
    pair.end_input(1);
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || other.write_all(&sent).unwrap()
    });
    pair.until(1, |heard| heard.stdout.len() == WINDOW);
    writer.join().unwrap();

    // For longer than anything lingers.
    while pair.hears_within(4) {
        pair.listen();
    }
    assert_eq!(pair.programs[&1].stdout.len(), WINDOW);
    pair.grant(1, OutputStream::Stdout, 1 << 20);

    assert!(pair.finish(1).stdout == sent);
}

#[test]
fn what_is_released_is_let_go() {
    let mut pair = Pair::start();
    let (mut silent, _) = dialled(&mut pair, 1);
    let (mut talker, _) = dialled(&mut pair, 2);
    let writer = std::thread::spawn(move || while talker.write_all(&[0; 10_000]).is_ok() {});
    pair.until(2, |heard| heard.stdout.len() == WINDOW);

    pair.say(&ToInit::Release { process: 1 });
    pair.say(&ToInit::Release { process: 2 });

    for process in [1, 2] {
        assert!(pair.until(process, |heard| heard.exit.is_some()).ends.is_empty());
    }
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    silent.shutdown(Shutdown::Both).unwrap_or_default();
    writer.join().unwrap();
}

#[test]
fn it_can_be_released_before_it_is_connected() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut pair = Pair::start();

    pair.dial(1, within(tcp("127.0.0.1", port), SOON_MS));
    pair.say(&ToInit::Release { process: 1 });

    assert!(pair.until(1, |heard| heard.exit.is_some()).pid.is_some());
    assert_eq!(listener.accept().unwrap().0.read(&mut [0]).unwrap(), 0);
}

#[test]
fn it_ends_with_the_init() {
    for by_signal in [false, true] {
        let mut pair = Pair::start();
        let (mut other, child) = dialled(&mut pair, 1);

        if by_signal {
            kill_process(pid(pair.child.id()), Signal::TERM).unwrap();
        } else {
            pair.to = None;
        }

        assert_eq!(other.read(&mut [0]).unwrap_or_default(), 0);
        end(&mut pair.child);
        until("it is gone", || !runs(child));
    }
}
