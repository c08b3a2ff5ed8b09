//! Pseudo-terminals and the people at them (P).

use crate::harness::{Sshd, Target, Terminal, TestServer, python, scaled};

const PROMPT: &str = "PS1='PROMPT> '; clear";

/// An interactive shell with a prompt that tests can recognise.
async fn shell(target: &Target) -> Terminal {
    let terminal = Terminal::open(&target.ssh(&[]).arg("-tt").arg("-e").arg("none")).await;
    terminal.wait_until("any prompt", |screen| screen.contains('$') || screen.contains('#')).await;
    terminal.enter(PROMPT).await;
    terminal.wait_until("the prompt alone", |screen| screen.trim_end() == "PROMPT>").await;
    terminal
}

/// What is typed earlier is flushed, by Ctrl-C or by a program that changes the terminal's modes.
async fn back_at_the_prompt(terminal: &Terminal) {
    terminal.wait_until("an empty prompt at the end", |screen| screen.trim_end().ends_with("PROMPT>")).await;
}

on_both!(
    /// P1
    a_terminal_is_a_pseudo_terminal,
    |target| {
        let output = target.ssh(&["tty; test -t 0 && echo yes"]).arg("-tt").output().await;

        let lines = output.assert_success().stdout();
        let (tty, rest) = lines.split_once("\r\n").unwrap_or_default();
        assert!(tty.starts_with("/dev/pts/"), "{}", output.report());
        assert_eq!(rest, "yes\r\n");
    }
);

on_both!(
    /// P2
    the_first_program_sees_the_terminals_size,
    |target| {
        let rounds = scaled(20, 50);

        let first = python(target, "sizes.py", &["stty size", &rounds.to_string()]).output().await;

        // Also before API 1.42, where the engine takes no size with the start: the guest's own `stty` sets it.
        first.assert_success().assert_stdout(&"40 100\n".repeat(rounds));
    }
);

on_both!(
    /// P3
    a_resize_reaches_the_running_program,
    |target| {
        let script = "trap 'echo resized to $(stty size)' WINCH; echo ready; while :; do sleep 0.1; done";
        let terminal = Terminal::open(&target.ssh(&[script]).arg("-tt")).await;
        terminal.wait_for("ready").await;

        terminal.resize(90, 30).await;

        terminal.wait_for("resized to 30 90").await;
        terminal.resize(120, 50).await;
        terminal.wait_for("resized to 50 120").await;
        terminal.keys(&["C-c"]).await;
        target.seen("OpenSSH", "terminal");
        terminal.wait_for("[status ").await;
    }
);

on_both!(
    /// P4
    the_terminals_type_and_modes_arrive,
    |target| {
        let term = target.ssh(&["echo $TERM"]).arg("-tt").output().await;
        let modes = python(target, "modes.py", &["stty -a"]).output().await;

        term.assert_success().assert_stdout("xterm-256color\r\n");
        let modes = modes.assert_success().stdout();
        assert!(modes.contains(" -echo ") && modes.contains("erase = ^H"), "{modes}");
    }
);

on_both!(
    /// P5
    control_c_interrupts_the_program_and_not_the_shell,
    |target| {
        let terminal = shell(target).await;
        terminal.enter("echo go; sleep 100").await;
        terminal.wait_until("the command's output", |screen| screen.lines().any(|line| line == "go")).await;

        terminal.keys(&["C-c"]).await;

        back_at_the_prompt(&terminal).await;
        terminal.enter("echo status=$?").await;
        terminal.wait_for("status=130").await;
        terminal.enter("exit").await;
        terminal.wait_for("[status ").await;
    }
);

on_both!(
    /// P6
    an_empty_stdin_does_not_end_a_terminal_session,
    |target| {
        let output = target.ssh(&["sleep 1; echo done"]).arg("-tt").output().await;

        output.assert_success().assert_stdout("done\r\n");
    }
);

on_both!(
    /// P7
    control_p_and_control_q_are_keys_like_any_other,
    |target| {
        let terminal = shell(target).await;
        terminal.enter("echo first$((20+22))").await;
        terminal.wait_for("first42").await;

        terminal.keys(&["C-p"]).await;

        terminal.wait_until("the line before", |screen| screen.trim_end().ends_with("PROMPT> echo first$((20+22))")).await;
        terminal.keys(&["C-c"]).await;
        back_at_the_prompt(&terminal).await;
        // Bash takes the key after Ctrl-Q as it is.
        terminal.keys(&["C-p", "C-q", "x"]).await;
        terminal.wait_until("the line before, longer", |screen| screen.trim_end().ends_with("$((20+22))x")).await;
        terminal.keys(&["C-u"]).await;
        back_at_the_prompt(&terminal).await;
        terminal.enter("echo still$((20+22))").await;
        terminal.wait_for("still42").await;
        terminal.enter("exit 0").await;
        terminal.wait_for("[status 0]").await;
    }
);

on_both!(
    /// P8
    output_may_start_with_any_byte,
    |target| {
        let master = target.master(&[]).await;
        for (escape, byte) in [("000", 0), ("001", 1), ("002", 2), ("377", 255)] {
            let script = format!("printf '\\{escape}prompt$ '");

            let output = master.ssh(&[&script]).arg("-tt").output().await;

            let expected = [&[byte], "prompt$ ".as_bytes()].concat();
            assert_eq!(output.assert_success().stdout, expected, "{}", output.report());
        }
        master.close().await;
    }
);

on_both!(
    /// P9
    an_interactive_shell_ends_with_its_own_status,
    |target| {
        let terminal = shell(target).await;
        terminal.enter("echo usable$((20+22))").await;
        terminal.wait_for("usable42").await;

        terminal.enter("exit 7").await;

        terminal.wait_for("[status 7]").await;
    }
);

on_both!(
    /// P9
    full_screen_programs_draw_and_redraw,
    |target| {
        let terminal = shell(target).await;
        terminal.enter("vi -u NONE /tmp/new").await;
        terminal.wait_until("vi's empty lines", |screen| screen.lines().nth(37) == Some("~")).await;

        terminal.resize(100, 30).await;
        terminal.text("ihello").await;
        terminal.keys(&["Escape"]).await;

        terminal.wait_until("vi on the smaller screen", |screen| {
            screen.starts_with("hello") && screen.lines().nth(27) == Some("~")
        })
        .await;
        terminal.enter(":wq").await;
        back_at_the_prompt(&terminal).await;
        terminal.enter("cat /tmp/new; top -d 1").await;
        terminal.wait_for("load average").await;
        terminal.text("q").await;
        back_at_the_prompt(&terminal).await;
        terminal.enter("exit 0").await;
        terminal.wait_for("[status 0]").await;
    }
);

on_both!(
    /// P10
    absurd_sizes_and_names_of_terminals_do_no_harm,
    |target| {
        let output = python(target, "absurd_terminals.py", &[]).output().await;

        for line in output.assert_success().stdout().lines() {
            let (case, answer) = line.split_once(": ").unwrap();
            assert!(answer.contains("ok"), "{case}: {answer}\n{}", output.report());
            assert!(target.is_oracle || !(answer.contains("\\x1b") || answer.contains("INJECTED=1")), "{case}: {answer}");
            assert!(!answer.contains("injected:1"), "{case}: {answer}");
        }
    }
);
