//! The `signal` request (G).

use std::time::Duration;

use crate::harness::{Sshd, TINY, Target, TestServer, assert_once_within, python};

/// Four of them, each within 200 ms.
async fn signals_arrive(target: &Target) {
    assert_once_within(Duration::from_millis(200), async || {
        let output = python(&target.unprivileged(), "signals.py", &["trapped"]).output().await;

        let said = output.assert_success().stdout();
        let lines = said.lines().filter(|line| line.contains(" after "));
        let took: Vec<u64> = lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(took.len(), 4, "{}", output.report());
        Duration::from_millis(took.into_iter().max().unwrap())
    })
    .await;
}

on_both!(
    alone
    /// G1
    signals_reach_a_program_that_traps_them,
    |target| {
        signals_arrive(target).await;
    }
);

/// G1
#[tokio::test]
async fn signals_reach_a_program_of_any_image() {
    let server = TestServer::builder().image(TINY).alone().start().await;

    signals_arrive(&server).await;
    server.stop().await;
}

on_both!(
    /// G2
    a_signal_arrives_after_the_end_of_stdin,
    |target| {
        let output = python(&target.unprivileged(), "signals.py", &["after_eof"]).output().await;

        output.assert_success();
        assert!(output.stdout().contains("got TERM"), "{}", output.report());
    }
);

on_both!(
    /// G3
    a_signal_ends_the_whole_group,
    |target| {
        let output = python(&target.unprivileged(), "signals.py", &["group"]).output().await;

        output.assert_success();
        assert!(output.stdout().contains("ended without x"), "{}", output.report());
        assert!(output.stdout().contains("0 left"), "{}", output.report());
    }
);
