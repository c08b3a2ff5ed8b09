//! Who is next to a container and is not dialled: in a network of its own.

use std::process::Command;

use coracle_init::{Dial, Failure, Listen};
use rustix::process::getuid;

use crate::forwarding::{tcp, within};
use crate::pair::Pair;
use crate::server::binary;

/// Nobody answers there.
const SILENCE_MS: u32 = 300;

/// Somebody does, if not at once.
const ANSWER_MS: u32 = 10_000;

/// A network with this machine, a router that is not there, and a way out through it.
const NETWORK: &str = "set -e
    ip link add d0 type veth peer name d1
    ip addr add 10.9.0.2/24 dev d0
    ip -6 addr add fd09::2/64 dev d0 nodad
    ip link set d0 up; ip link set d1 up; ip link set lo up
    ip route add 10.10.0.0/16 via 10.9.0.9
    ip route add default via 10.9.0.1
    ip -6 route add default via fd09::1
    exec \"$@\"";

/// Who is not to be called there.
const SPARED: [&str; 14] = [
    "10.9.0.1",
    "10.9.0.9",
    "10.9.0.77",
    "10.9.0.255",
    "::ffff:10.9.0.1",
    "fd09::1",
    "fd09::77",
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "fe80::1",
    "fd00:ec2::254",
    "224.0.0.1",
    "ff02::1",
    // The router, as a C library reads it.
    "10.589825",
];

/// An init in there, run by `program`.
fn start(program: &[&str]) -> Pair {
    let mut command = Command::new("unshare");
    if !getuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "sh", "-c", NETWORK, "sh"]).args(program);
    Pair::of(command.arg("--frames"))
}

fn sparing(host: &str, port: u16) -> Dial {
    Dial { spares_neighbours: true, ..within(tcp(host, port), ANSWER_MS) }
}

/// What became of a call.
fn call(pair: &mut Pair, process: u32, dial: Dial) -> Option<Failure> {
    pair.dial(process, dial);
    pair.until(process, |heard| heard.failed.is_some() || heard.pid.is_some()).failed
}

/// What the answers are when all is as it should be.
fn assert_spared(pair: &mut Pair) {
    pair.start_listening(1, Listen::At(tcp("", 0)));
    let port = pair.until(1, |heard| heard.listening.is_some()).listening.as_ref().unwrap().0;

    let mut process = 1;
    let mut outcome = |dial: Dial| {
        process += 1;
        call(pair, process, dial)
    };
    for own in ["localhost", "127.0.0.1", "::1", "10.9.0.2", "fd09::2", "::ffff:10.9.0.2", "0.0.0.0"] {
        assert_eq!(outcome(sparing(own, port)), None, "{own}");
    }
    for spared in SPARED {
        assert_eq!(outcome(sparing(spared, 80)), Some(Failure::Forbidden), "{spared}");
    }
    for other in ["192.0.2.1", "2001:db8::1", "10.10.0.1"] {
        let failure = outcome(Dial { within_ms: SILENCE_MS, ..sparing(other, 80) });
        assert!(matches!(failure, Some(Failure::TimedOut | Failure::Unreachable)), "{other}: {failure:?}");
    }
    let failure = outcome(within(tcp("10.9.0.1", 80), SILENCE_MS));
    assert!(matches!(failure, Some(Failure::TimedOut | Failure::Unreachable)), "{failure:?}");
}

#[test]
fn neighbours_are_not_dialled_and_others_are() {
    assert_spared(&mut start(&[&binary()]));
}

#[test]
fn who_may_do_nothing_knows_their_neighbours_too() {
    // Another user is for root to give.
    if getuid().is_root() {
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        assert_spared(&mut start(&[&nobody[..], &[&binary()]].concat()));
    }
}

#[test]
fn where_nobody_says_who_they_are_all_are_neighbours() {
    let mut pair = start(&["sh", "-c", "mount -t tmpfs none /proc; exec \"$@\"", "sh", &binary()]);
    pair.start_listening(1, Listen::At(tcp("", 0)));
    let port = pair.until(1, |heard| heard.listening.is_some()).listening.as_ref().unwrap().0;

    for (process, host) in (2..).zip(["127.0.0.1", "::1", "10.9.0.2"]) {
        assert_eq!(call(&mut pair, process, sparing(host, port)), None, "{host}");
    }
    for (process, host) in (10..).zip(["10.9.0.1", "192.0.2.1", "2001:db8::1"]) {
        assert_eq!(call(&mut pair, process, sparing(host, 80)), Some(Failure::Forbidden), "{host}");
    }
}
