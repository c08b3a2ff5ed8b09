//! Commands: what they print, how they end, and when (E).

use std::time::{Duration, SystemTime};

use crate::harness::{
    Sshd, Target, TestServer, assert_once_within, noise, percentile, python, scaled, sha256,
};

on_both!(
    /// E1
    a_command_prints_and_succeeds,
    |target| {
        let output = target.ssh(&["echo hello"]).output().await;

        output.assert_success().assert_stdout("hello\n");
        assert_eq!(output.stderr(), "");
    }
);

on_both!(
    /// E2
    the_exit_status_is_the_programs_own,
    |target| {
        let master = target.master(&[]).await;
        for status in [0, 1, 4, 5, 44, 255] {
            let output = master.ssh(&[&format!("exit {status}")]).output().await;

            output.assert_code(status);
        }
        master.close().await;
    }
);

on_both!(
    /// E3
    stdout_and_stderr_stay_apart_and_complete,
    |target| {
        let script = "echo o; echo e >&2; exec >&-; sleep 0.3; echo late >&2";

        let output = target.ssh(&[script]).output().await;

        output.assert_success().assert_stdout("o\n");
        assert_eq!(output.stderr(), "e\nlate\n");
    }
);

on_both!(
    alone
    /// E4
    nothing_is_waited_for_after_the_programs_end,
    |target| {
        let master = target.master(&[]).await;
        let mut delays = Vec::new();
        for _ in 0..20 {
            let output = master.ssh(&["date +%s%N"]).arg("-n").output().await;
            let back = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            let end = Duration::from_nanos(output.assert_success().stdout().trim().parse().unwrap());
            delays.push(back.saturating_sub(end));
        }

        let median = percentile(&delays, 50);
        assert!(median < Duration::from_millis(100), "from the program's end to the client's: {delays:?}");
        master.close().await;
    }
);

on_both!(
    /// E5
    a_long_quiet_command_keeps_its_exit_status,
    |target| {
        let script = format!("sleep {}; exit 3", scaled(3, 70));

        let output = target.ssh(&[&script]).arg("-n").timeout(Duration::from_secs(100)).output().await;

        output.assert_code(3);
    }
);

on_both!(
    /// E6
    the_end_of_stdin_is_not_the_end,
    |target| {
        let output = target.ssh(&["cat; sleep 2; echo done"]).stdin("abc").output().await;

        output.assert_success().assert_stdout("abcdone\n");
    }
);

on_both!(
    /// E7
    a_command_is_run_by_a_shell,
    |target| {
        let two = target.ssh(&["/bin/echo a; /bin/echo b"]).output().await;
        let glob = target.ssh(&["cd /; /bin/echo $HOME/../etc/pass*"]).output().await;

        two.assert_success().assert_stdout("a\nb\n");
        let listed = glob.assert_success().stdout();
        assert!(listed.contains("/etc/passwd") && !listed.contains('*'), "{listed}");
    }
);

on_both!(
    /// E8
    an_odd_command_harms_nobody,
    |target| {
        let blank = target.ssh(&[" "]).output().await;
        let semicolon = target.ssh(&[";"]).output().await;
        let redirection = target.ssh(&["<missing cat"]).output().await;
        let empty = target.ssh(&[""]).output().await;

        blank.assert_success();
        assert!([1, 2].contains(&semicolon.code()) && semicolon.stderr().contains("syntax error"), "{}", semicolon.report());
        redirection.assert_code(1);
        assert!(redirection.stderr().contains("missing"), "{}", redirection.report());
        empty.assert_success();
        target.ssh(&["true"]).output().await.assert_success();
    }
);

on_both!(
    /// E9
    an_unknown_command_says_so_with_127,
    |target| {
        let output = target.ssh(&["nonexistent"]).output().await;

        output.assert_code(127);
        assert!(output.stderr().contains("nonexistent: command not found"), "{}", output.report());
    }
);

on_both!(
    /// E10
    a_program_killed_by_a_signal_ends_so_for_the_client,
    |target| {
        let output = target.ssh(&["kill -9 $$"]).output().await;
        let ending = python(target, "ending.py", &["kill -9 $$"]).output().await;

        // 255 is what OpenSSH's client makes of an exit signal; an engine may tell no more than 137.
        assert!([255, 137].contains(&output.code()), "{}", output.report());
        let ending = ending.assert_success().stdout();
        assert!(["signal KILL", "status 137"].contains(&ending.trim()), "{ending}");
        assert!(!target.is_oracle || ending.trim() == "signal KILL", "{ending}");
    }
);

/// E11: on purpose unlike sshd, which waits for the child.
#[tokio::test]
async fn a_child_in_the_background_does_not_hold_the_session() {
    let server = TestServer::builder().alone().start().await;

    // The engine itself takes two seconds.
    assert_once_within(Duration::from_secs(3), async || {
        let output = server.ssh(&["sleep 100 & echo hi"]).arg("-n").output().await;
        output.assert_success().assert_stdout("hi\n");
        output.wall
    })
    .await;
    server.stop().await;
}

on_both!(
    /// E12
    a_program_that_wants_no_more_input_ends_at_once,
    |target| {
        let up = target.ssh(&["head -1"]).piped("yes | {}").output().await;

        up.assert_success().assert_stdout("y\n");
        assert!(up.wall < Duration::from_secs(25), "{}", up.report());
    }
);

on_both!(
    /// E12: the program here ends by itself. What OpenSSH's client has for one that does not is a request of its own
    /// that our SSH library keeps from us (`docs/limitations.md`).
    a_reader_that_has_seen_enough_gets_exactly_what_it_read,
    |target| {
        let down = target.ssh(&["yes | head -1000000"]).piped("{} | head -2000").output().await;

        down.assert_stdout(&"y\n".repeat(2000));
        assert!(down.wall < Duration::from_secs(25), "{:?}", down.wall);
    }
);

on_both!(
    /// E13
    every_byte_and_the_status_arrive_every_time,
    |target| {
        let expected = sha256(&vec![b'x'; 1_000_000]);
        let master = target.master(&[]).await;
        for _ in 0..scaled(20, 200) {
            let output = master.ssh(&["head -c 1000000 /dev/zero | tr '\\0' x; exit 7"]).output().await;

            output.assert_code(7);
            assert_eq!(output.stdout.len(), 1_000_000);
            assert_eq!(sha256(&output.stdout), expected);
        }
        master.close().await;
    }
);

on_both!(
    /// E6, E13
    what_goes_in_comes_out_whatever_its_bytes,
    |target| {
        let data = noise(300_000);

        let output = target.ssh(&["cat"]).stdin(data.clone()).output().await;

        output.assert_success();
        assert!(output.stdout == data, "{} of {} bytes, or others", output.stdout.len(), data.len());
    }
);
