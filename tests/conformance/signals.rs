//! Signals, by either way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle::engine::{ExitStatus, Signal};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::harness::{Bench, DEADLINE, Running, run, shell};

/// Ten times what G1 allows, for a machine that builds something else at the same time.
const IN_TIME: Duration = Duration::from_secs(2);

/// G1
pub(crate) async fn a_trap_gets_its_signal_in_time(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let trap =
        |name: &str| format!("trap 'echo got {name}' {name}; echo ready; while :; do sleep 0.02; done");

    let mut fastest = Duration::MAX;
    for signal in [Signal::Usr1, Signal::Term, Signal::Int, Signal::Kill] {
        let command =
            if signal == Signal::Kill { "echo ready; sleep 100".to_owned() } else { trap(signal.name()) };
        let mut running = Running::start(&container, &shell(&command)).await;
        running.expect("ready").await;
        let began = Instant::now();
        running.process.control.signal(signal).await.expect("a signal");
        if signal == Signal::Kill {
            let status = running.finish().await.status.expect("a status");
            assert!(
                matches!(status, ExitStatus::Exited(137) | ExitStatus::Signaled(Signal::Kill)),
                "{status:?}"
            );
        } else {
            running.expect(&format!("got {}", signal.name())).await;
            fastest = fastest.min(began.elapsed());
        }
    }
    assert!(fastest < IN_TIME, "{fastest:?}");
    container.remove().await.expect("a removal");
}

/// G3
pub(crate) async fn a_signal_ends_the_whole_group(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let mut running = Running::start(&container, &shell("echo ready; sleep 117; echo x")).await;
    running.expect("ready\n").await;

    running.process.control.signal(Signal::Term).await.expect("a signal");

    let ended = timeout(DEADLINE / 4, running.finish()).await.expect("an end");
    assert_eq!(ended.stdout(), "");
    let status = ended.status.expect("a status");
    assert!(matches!(status, ExitStatus::Exited(143) | ExitStatus::Signaled(Signal::Term)), "{status:?}");
    let look = "for file in /proc/[0-9]*/cmdline; do \
                read -r line <$file; case $line in sleep117) echo left;; esac; done 2>/dev/null";
    assert_eq!(run(&container, &shell(look), b"").await.stdout(), "");
    container.remove().await.expect("a removal");
}

/// G2
pub(crate) async fn a_signal_arrives_after_the_end_of_stdin(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let command = "cat; trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.02; done";
    let mut running = Running::start(&container, &shell(command)).await;
    running.process.stdin.shutdown().await.expect("a shutdown");
    running.expect("ready").await;

    running.process.control.signal(Signal::Usr1).await.expect("a signal");

    running.expect("got").await;
    assert_eq!(running.finish().await.code(), 3);
    container.remove().await.expect("a removal");
}

pub(crate) async fn a_program_that_has_ended_takes_any_signal(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let running = Running::start(&container, &shell("exit 3")).await;
    let control = Arc::clone(&running.process.control);
    assert_eq!(running.finish().await.code(), 3);

    control.signal(Signal::Kill).await.expect("a signal to nobody");

    assert_eq!(run(&container, &shell("exit 4"), b"").await.code(), 4);
    container.remove().await.expect("a removal");
}

/// A daemon inherits the mark, and leads a session of its own.
pub(crate) async fn a_daemon_left_behind_is_not_the_program(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let command = "trap 'echo right; exit 3' USR1; \
                   setsid sh -c 'trap \"echo wrong\" USR1; echo daemon; while :; do sleep 0.02; done' & while :; do sleep 0.02; done";
    let mut running = Running::start(&container, &shell(command)).await;
    running.expect("daemon").await;

    running.process.control.signal(Signal::Usr1).await.expect("a signal");

    let ended = running.finish().await;
    // Some shells also tell that the signal ended their `sleep`.
    assert!(ended.stdout().contains("right") && !ended.stdout().contains("wrong"), "{ended:?}");
    assert_eq!(ended.code(), 3);
    container.remove().await.expect("a removal");
}
