//! The protocol beneath: replies, odd messages, key exchange again (T).

use std::time::Duration;

use crate::harness::{MIB, Sshd, Target, TestServer, noise, python, resident_bytes, scaled};

on_both!(
    /// T5
    every_request_gets_exactly_one_reply,
    |target| {
        let output = python(target, "replies.py", &[]).output().await;

        let mut lines = 0;
        for line in output.assert_success().stdout().lines() {
            assert!(line.ends_with(": 1"), "{line}\n{}", output.report());
            lines += 1;
        }
        assert!(lines >= 14, "{}", output.report());
    }
);

on_both!(
    /// T6
    a_second_program_on_a_channel_is_refused_and_the_first_runs_on,
    |target| {
        let output = python(target, "odd_messages.py", &["two_execs"]).output().await;

        output.assert_success().assert_stdout("first\n");
    }
);

on_both!(
    /// T6: sshd ends a connection over an unknown channel; a later connection must work at either.
    odd_messages_do_no_harm,
    |target| {
        for case in ["unknown_numbers", "unknown_requests", "refused_opens", "unsolicited_replies", "unknown_channels"] {
            let output = python(target, "odd_messages.py", &[case]).output().await;

            let may_be_cut = ["unsolicited_replies", "unknown_channels"].contains(&case);
            assert!(output.code() == 0 || may_be_cut, "{case}: {}", output.report());
            target.ssh(&["true"]).output().await.assert_success();
        }
    }
);

/// T6
#[tokio::test]
async fn a_flood_of_odd_messages_leaves_memory_as_it_was() {
    let server = TestServer::start().await;
    server.ssh(&["true"]).output().await.assert_success();
    let before = resident_bytes(server.pid());

    python(&server, "odd_messages.py", &["flood"])
        .timeout(Duration::from_mins(5))
        .output()
        .await
        .assert_success();

    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 24 * MIB, "the server grew by {grown} bytes");
    server.ssh(&["true"]).output().await.assert_success();
    server.stop().await;
}

on_both!(
    /// T8
    new_keys_come_while_three_channels_are_busy,
    |target| {
        let data = noise(scaled(12, 100) * MIB);
        let master = target.master(&["RekeyLimit=1M"]).await;

        let busy = (0..3).map(|_| master.ssh(&["cat"]).stdin(data.clone()).timeout(crate::flow::PATIENCE).output());
        for output in futures::future::join_all(busy).await {
            output.assert_success();
            assert!(output.stdout == data, "{} of {} bytes, or others", output.stdout.len(), data.len());
        }
        master.close().await;
    }
);

/// T5, T6: as docs/protocol.md has it.
#[tokio::test]
async fn what_is_not_honoured_is_refused_or_ignored_and_the_rest_goes_on() {
    let server = TestServer::start().await;

    let output = python(&server, "protocol.py", &[]).output().await;

    let requests = [
        "keepalive@openssh.com: refused",
        "no-more-sessions@openssh.com: refused",
        "hostkeys-prove-00@openssh.com: refused",
        "nosuch@example.org: refused",
        "eow@openssh.com: refused",
        "exit-status: refused",
        "xon-xoff: refused",
        "break: refused",
        "input: 3 bytes",
    ];
    // Reasons of RFC 4254 §5.1. russh refuses twice what it does not show us (docs/limitations.md).
    let channels = [
        "x11: [1]",
        "forwarded-tcpip: [1]",
        "auth-agent@openssh.com: [1, 1]",
        "forwarded-streamlocal@openssh.com: [1, 1]",
        "tun@openssh.com: [3, 1]",
        "nosuch@example.org: [3, 1]",
    ];
    let expected: Vec<_> = requests.iter().chain(&channels).copied().collect();
    assert_eq!(output.assert_success().stdout().lines().collect::<Vec<_>>(), expected, "{}", output.report());
    server.stop().await;
}
