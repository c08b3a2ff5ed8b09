//! Variables that travel with a session, and those that the server adds (V).

use crate::harness::{Sshd, TINY, Target, TestServer, python};

on_both!(
    /// V1
    an_accepted_variable_arrives_on_its_own_channel_only,
    |target| {
        let set = target.ssh(&["echo $FOO"]).option("SetEnv=FOO=bar").output().await;
        // The master is asked what may pass, too.
        let master = target.master(&["SendEnv=FOO"]).await;
        let first = master.ssh(&["echo $FOO"]).option("SendEnv=FOO").env("FOO", "baz").output().await;
        let second = master.ssh(&["echo ${FOO-unset}"]).output().await;

        set.assert_success().assert_stdout("bar\n");
        first.assert_success().assert_stdout("baz\n");
        second.assert_success().assert_stdout("unset\n");
        master.close().await;
    }
);

on_both!(
    /// V2
    other_variables_are_dropped_and_the_session_lives,
    |target| {
        let output = target
            .ssh(&["echo ${BAR-unset} ${LD_PRELOAD-unset} $PATH"])
            .option("SetEnv=BAR=x LD_PRELOAD=/x.so PATH=/evil")
            .output()
            .await;

        let answer = output.assert_success().stdout();
        assert!(answer.starts_with("unset unset /") && !answer.contains("/evil"), "{answer}");
    }
);

/// V2
#[tokio::test]
async fn dangerous_variables_are_dropped_even_when_everything_is_accepted() {
    let server = TestServer::builder().env_accept(&["*"]).start().await;

    let output = server
        .ssh(&["echo ${BAR-unset} ${LD_PRELOAD-unset} $PATH"])
        .option("SetEnv=BAR=x LD_PRELOAD=/x.so PATH=/evil")
        .output()
        .await;

    let answer = output.assert_success().stdout();
    assert!(answer.starts_with("x unset /") && !answer.contains("/evil"), "{answer}");
    server.stop().await;
}

on_both!(
    /// V2
    malformed_and_countless_variables_do_not_harm,
    |target| {
        let many = python(target, "odd_environment.py", &["many"]).output().await;

        many.assert_success().assert_stdout("ok\n");
        // sshd cuts the connection at a NUL; we must not.
        if !target.is_oracle {
            let nul = python(target, "odd_environment.py", &["nul"]).output().await;
            nul.assert_success().assert_stdout("ok\n");
        }
    }
);

on_both!(
    /// V2: such a value may cost its own connection.
    a_value_that_is_not_text_harms_no_other_connection,
    |target| {
        python(target, "odd_environment.py", &["bytes"]).output().await;

        target.ssh(&["true"]).output().await.assert_success();
    }
);

on_both!(
    /// V3
    a_session_knows_its_connection_and_its_user,
    |target| {
        let output = target.ssh(&["env; echo tty=$(tty)"]).arg("-tt").output().await;

        let text = output.assert_success().stdout().replace('\r', "");
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let connection: Vec<_> = value("SSH_CONNECTION").unwrap_or_default().split(' ').collect();
        let client: Vec<_> = value("SSH_CLIENT").unwrap_or_default().split(' ').collect();
        let port = target.address.port().to_string();
        assert_eq!(connection.len(), 4, "{text}");
        assert_eq!(connection[2..], [target.address.ip().to_string(), port.clone()], "{text}");
        assert_eq!(client, [connection[0], connection[1], port.as_str()], "{text}");
        assert_eq!(value("SSH_TTY"), value("tty"), "{text}");
        for (name, expected) in [
            ("USER", "root"),
            ("LOGNAME", "root"),
            ("HOME", "/root"),
            ("SHELL", "/bin/bash"),
            ("TERM", "xterm-256color"),
        ] {
            assert_eq!(value(name), Some(expected), "{name} in {text}");
        }
    }
);

on_both!(
    /// V3
    without_a_terminal_there_is_no_word_of_one,
    |target| {
        let output = target.ssh(&["echo ${SSH_TTY-none} ${SSH_CONNECTION:+some}"]).output().await;

        output.assert_success().assert_stdout("none some\n");
    }
);

/// V3
#[tokio::test]
async fn the_images_own_environment_is_kept() {
    let server = TestServer::builder().container("env: [KEPT=yes]").start().await;

    let output = server.ssh(&["echo $LANG $KEPT $PATH"]).output().await;

    output
        .assert_success()
        .assert_stdout("C.UTF-8 yes /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
    server.stop().await;
}

on_both!(
    /// V4
    without_a_command_the_login_shell_runs,
    |target| {
        let output = target.ssh(&[]).stdin("shopt -q login_shell && echo login $BASH\n").output().await;

        let answer = output.assert_success().stdout();
        assert!(answer.ends_with("login /bin/bash\n"), "{}", output.report());
    }
);

/// V4
#[tokio::test]
async fn an_image_without_users_gets_the_plainest_shell() {
    let server = TestServer::builder().image(TINY).start().await;

    let output = server.ssh(&[]).stdin("echo $SHELL; readlink /proc/$$/exe\n").output().await;

    output.assert_success().assert_stdout("/bin/sh\n/bin/busybox\n");
    server.stop().await;
}

/// V4
#[tokio::test]
async fn a_configured_shell_is_the_shell() {
    let server =
        TestServer::builder().docker_config("shellCommand: [/bin/sh, -c, 'echo configured']").start().await;

    let output = server.ssh(&[]).output().await;

    output.assert_success().assert_stdout("configured\n");
    server.stop().await;
}
