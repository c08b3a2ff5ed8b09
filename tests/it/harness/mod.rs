//! Starts servers and runs clients. Knows the product only through its command line, its log and its containers.

mod agent;
mod asking;
mod builder;
mod client;
mod collector;
mod compatibility;
mod data;
mod display;
mod docker;
mod engine_proxy;
mod fault_proxy;
mod forwarding;
mod hook_service;
mod keys;
mod launch;
mod multiplex;
mod ports;
mod proxy_header;
mod python;
mod recipe;
mod registry;
mod server;
mod sshd;
mod target;
mod tcp_proxy;
mod terminal;
mod turn;

use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) use agent::Agent;
pub(crate) use asking::{TOTP_SECRET_TEXT, password_hash, totp_code};
pub(crate) use builder::launcher;
pub(crate) use client::{Client, Output, Running};
pub(crate) use collector::{Collector, Manner};
pub(crate) use data::{noise, sha256, sha256_of_file};
pub(crate) use display::{Display, x_client};
pub(crate) use docker::{docker, docker_blocking, try_docker};
pub(crate) use engine_proxy::EngineProxy;
pub(crate) use fault_proxy::{Fault, FaultProxy, call};
pub(crate) use forwarding::{Talker, echo, echo_by, exchange_at, exchange_by, inside};
pub(crate) use hook_service::{HookService, Pki, Reply, no, yes};
pub(crate) use keys::keygen;
pub(crate) use multiplex::Master;
pub(crate) use ports::free_port;
pub(crate) use proxy_header::{announcing_proxy, connect_from};
pub(crate) use python::{asciinema, python};
pub(crate) use recipe::{Desk, Recipe};
pub(crate) use registry::Registry;
pub(crate) use server::TestServer;
pub(crate) use sshd::Sshd;
pub(crate) use target::Target;
pub(crate) use tcp_proxy::TcpProxy;
pub(crate) use terminal::Terminal;
pub(crate) use turn::Turn;

/// The image with everything in it: bash, sftp-server, scp, rsync, git, an unprivileged user.
pub(crate) const GUEST: &str = "coracle/guest:latest";
/// The first with Python, curl, redis and sshd besides.
pub(crate) const WORKBENCH: &str = "coracle/workbench:latest";
/// The image with next to nothing in it: busybox, no passwd entry.
pub(crate) const TINY: &str = "coracle/tiny:latest";

/// One mebibyte.
pub(crate) const MIB: usize = 1024 * 1024;

/// Makes of one case, a body that takes a [`Target`], a test against the server and one against the oracle.
///
/// With `alone` no other test runs meanwhile; with `forwarding` everything may be forwarded.
macro_rules! on_both {
    (alone $($case:tt)*) => {
        on_both!(@ TestServer::builder().alone().start(), Sshd::start_alone(), $($case)*);
    };
    (forwarding $($case:tt)*) => {
        on_both!(@ TestServer::builder().forwarding().start(), Sshd::start_forwarding(), $($case)*);
    };
    (@ $server:expr, $sshd:expr, $(#[$doc:meta])* $name:ident, |$target:ident| $body:block) => {
        $(#[$doc])*
        mod $name {
            use super::*;

            async fn case($target: &Target) $body

            #[tokio::test]
            async fn coracle() {
                let server = $server.await;
                case(&server).await;
                server.stop().await;
            }

            #[tokio::test]
            async fn oracle() {
                let sshd = $sshd.await;
                case(&sshd).await;
                sshd.stop().await;
            }
        }
    };
    ($($case:tt)*) => {
        on_both!(@ TestServer::start(), Sshd::start(), $($case)*);
    };
}

/// Waits until `condition` gives something; fails with `what` when the deadline passes first.
pub(crate) async fn poll_until<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Measures up to three times, until it once was less than `bound`: a machine that is busy just then is not what is looked at.
pub(crate) async fn assert_once_within(bound: Duration, mut measure: impl AsyncFnMut() -> Duration) {
    let mut took = Vec::new();
    while took.len() < 3 && took.iter().all(|one| *one >= bound) {
        took.push(measure().await);
    }
    assert!(took.iter().any(|one| *one < bound), "{took:?}, and less than {bound:?} was due");
}

/// The size by default, or the real one under `CORACLE_TEST_FULL=1`.
pub(crate) fn scaled<T>(default: T, full: T) -> T {
    if std::env::var_os("CORACLE_TEST_FULL").is_some_and(|value| value == "1") { full } else { default }
}

/// The value at `percent` of the sorted samples.
pub(crate) fn percentile(samples: &[Duration], percent: usize) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort();
    sorted[(sorted.len() - 1) * percent / 100]
}

/// What a process keeps in memory now.
pub(crate) fn resident_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has memory");
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Writes a program that its owner may run. By another process: what another thread starts meanwhile would hold a file that is
/// open here until it has become its own program, and nobody could run it until then (ETXTBSY).
fn write_program(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 700 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    writer.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("a shell that reads");
    assert!(writer.wait().expect("a child of ours").success(), "{} can be written", path.display());
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
