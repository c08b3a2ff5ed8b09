//! The `signal` request (G).

use crate::harness::{Sshd, TINY, Target, TestServer, python};

async fn signals_arrive(target: &Target) {
    let output = python(&target.unprivileged(), "signals.py", &["trapped"]).output().await;

    output.assert_success();
    for line in output.stdout().lines().filter(|line| line.contains(" after ")) {
        let milliseconds: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(milliseconds < 200, "{}", output.report());
    }
    assert_eq!(
        output.stdout().lines().filter(|line| line.contains(" after ")).count(),
        4,
        "{}",
        output.report()
    );
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
