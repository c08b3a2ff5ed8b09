//! What users may do (Y), and commands that are forced upon them (A5).

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::harness::{Sshd, Target, Terminal, TestServer, Turn, poll_until, python};

/// With lines of the section `policy`, as `shell: disable, pty: disable`.
async fn server_with(policy: &str) -> TestServer {
    TestServer::builder().section(&format!("policy: {{{policy}}}")).start().await
}

/// Makes of one case a test against a server with this policy and one against an sshd with these options.
macro_rules! on_both_with {
    ($(#[$doc:meta])* $name:ident, $policy:expr, $options:expr, |$target:ident| $body:block) => {
        $(#[$doc])*
        mod $name {
            use super::*;

            async fn case($target: &Target) $body

            #[tokio::test]
            async fn coracle() {
                let server = server_with($policy).await;
                case(&server).await;
                server.stop().await;
            }

            #[tokio::test]
            async fn oracle() {
                let sshd = Sshd::start_with(&$options, Turn::shared().await).await;
                case(&sshd).await;
                sshd.stop().await;
            }
        }
    };
}

/// Whether shells, commands, sftp and terminals work. What does not has to fail in OpenSSH's usual words.
async fn what_works(target: &Target) -> [bool; 4] {
    let shell = target.ssh(&[]).arg("-T").stdin("echo works\n").output().await;
    let command = target.ssh(&["echo works"]).output().await;
    let subsystem = target.sftp().stdin("pwd\n").output().await;
    let terminal = if command.code() == 0 {
        target.ssh(&["tty"]).arg("-tt").output().await
    } else {
        target.ssh(&[]).arg("-tt").stdin("tty; exit\n").output().await
    };
    let answers = [
        (shell.stdout().contains("works"), shell, "shell request failed on channel 0"),
        (command.stdout().contains("works"), command, "exec request failed on channel 0"),
        (subsystem.code() == 0, subsystem, "subsystem request failed on channel 0"),
        (terminal.stdout().contains("/dev/pts/"), terminal, "PTY allocation request failed on channel 0"),
    ];
    answers.map(|(works, output, words)| {
        let refused = output.stderr().contains(words);
        assert!(works != refused, "`{words}`\n{}", output.report());
        works
    })
}

/// Y1
#[tokio::test]
async fn a_kind_that_is_switched_off_fails_in_the_usual_words_and_the_rest_works() {
    for (policy, works) in [
        ("shell: disable", [false, true, true, true]),
        ("command: {mode: disable}", [true, false, true, true]),
        ("subsystem: {mode: disable}", [true, true, false, true]),
        ("pty: disable", [true, true, true, false]),
        ("command: {mode: filter, allow: [nothing]}, subsystem: {deny: [sftp]}", [true, false, false, true]),
    ] {
        let server = server_with(policy).await;

        assert_eq!(what_works(&server).await, works, "{policy}");
        server.stop().await;
    }
}

on_both_with!(
    /// Y1
    without_a_terminal_a_program_still_runs,
    "pty: disable",
    ["PermitTTY=no"],
    |target| {
        let terminal = Terminal::open(&target.ssh(&[])).await;
        terminal.wait_for("PTY allocation request failed on channel 0").await;
        terminal.enter("tty; exit 7").await;
        let command = python(target, "refused_terminal.py", &[]).output().await;
        let insists = target.ssh(&["tty"]).arg("-tt").output().await;

        let screen = terminal.wait_for("[status 7]").await;
        assert!(screen.contains("not a tty"), "{screen}");
        command.assert_success().assert_stdout("refused\nnot a tty\ndone\n");
        // This is the client's own decision.
        insists.assert_code(255);
        assert!(insists.stderr().contains("PTY allocation request failed"), "{}", insists.report());
    }
);

/// Y2
#[tokio::test]
async fn only_the_commands_that_pass_the_filter_run() {
    let server = server_with(
        "command: {mode: filter, allow: ['echo exact', 'glob:echo a *'], deny: ['echo a denied']}",
    )
    .await;

    for (command, stdout) in [
        ("echo exact", Some("exact\n")),
        ("echo a word", Some("a word\n")),
        ("echo a denied", None),
        ("echo exact ", None),
        ("echo other", None),
        ("echo a word; id", None),
        ("echo a $(id)", None),
        ("echo a -n", None),
        ("echo a word\nid", None),
    ] {
        let output = server.ssh(&[command]).output().await;

        match stdout {
            Some(stdout) => output.assert_success().assert_stdout(stdout),
            None => output.assert_code(255).assert_stdout(""),
        };
        let refused = output.stderr().contains("exec request failed on channel");
        assert_eq!(refused, stdout.is_none(), "{}", output.report());
    }
    server.stop().await;
}

/// Y2: the example of docs/policy.md.
#[tokio::test]
async fn an_account_for_git_alone_clones_and_does_nothing_else() {
    let server = server_with(
        "shell: disable, pty: disable, subsystem: {mode: disable}, command: {mode: filter, allow: [\
         \"glob:git init -q --bare /tmp/*.git\", \"glob:git-upload-pack '/tmp/*.git'\", \
         \"glob:git-receive-pack '/tmp/*.git'\"]}",
    )
    .await;
    let master = server.master(&[]).await;
    let (work, clone) =
        (server.path("work").display().to_string(), server.path("clone").display().to_string());
    let again = server.path("again").display().to_string();
    let url = server.remote("/tmp/a.git");
    master.ssh(&["git init -q --bare /tmp/a.git"]).output().await.assert_success();
    server.git(&["init", "-q", "-b", "main", &work]).output().await.assert_success();
    server.git(&["-C", &work, "commit", "-q", "--allow-empty", "-m", "one"]).output().await.assert_success();

    server.git_over(&master, &["-C", &work, "push", "-q", &url, "main"]).output().await.assert_success();
    server.git_over(&master, &["clone", "-q", "-b", "main", &url, &clone]).output().await.assert_success();
    let outside = server
        .git_over(&master, &["clone", "-q", &server.remote("/tmp/../tmp/a.git"), &again])
        .output()
        .await;
    let shell = master.ssh(&[]).output().await;

    assert_eq!((outside.code(), shell.code()), (128, 255), "{}{}", outside.report(), shell.report());
    master.close().await;
    server.stop().await;
}

/// Y1, Y2: the example of docs/policy.md.
#[tokio::test]
async fn an_account_for_sftp_alone_copies_files_and_runs_nothing() {
    let server = server_with(
        "shell: disable, command: {mode: disable}, subsystem: {mode: filter, allow: [sftp]}, pty: disable, \
         env: {mode: disable}",
    )
    .await;
    let (source, back) = (server.path("authorized_keys").display().to_string(), server.path("back"));
    let (remote, local) = (server.remote("/etc/hostname"), back.display().to_string());

    let scp = server.scp(&[&remote, &local]).output().await;
    let legacy = server.scp(&[&source, &server.remote("/tmp/x")]).arg("-O").output().await;
    let command = server.ssh(&["id"]).output().await;
    let shell = server.ssh(&[]).stdin("id\n").output().await;

    scp.assert_success();
    assert!(back.metadata().unwrap().len() > 0);
    assert_ne!(legacy.code(), 0, "{}", legacy.report());
    command.assert_code(255).assert_stdout("");
    shell.assert_code(255).assert_stdout("");
    server.stop().await;
}

/// Y2: the example of docs/policy.md.
#[tokio::test]
async fn an_account_for_reading_by_rsync_reads_and_does_not_write() {
    let data = tempfile::tempdir().unwrap();
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(data.path().join("folder")).unwrap();
    std::fs::write(data.path().join("folder/file"), "data").unwrap();
    let server = TestServer::builder()
        .container("user: coracle")
        .docker_config(&format!(
            "host: {{binds: ['{}:/srv/data:ro'], readonlyRootfs: true}}",
            data.path().display()
        ))
        .section(
            "policy: {shell: disable, pty: disable, subsystem: {mode: disable}, command: {mode: filter, \
             allow: ['glob:rsync --server --sender -* . /srv/data/**']}}",
        )
        .start()
        .await;
    let master = server.master(&[]).await;
    let back = server.path("back").display().to_string();

    let reads = server.rsync_over(&master, &["-a", &server.remote("/srv/data/"), &back]).output().await;
    let elsewhere = server.rsync_over(&master, &["-a", &server.remote("/etc/"), &back]).output().await;
    let writes = server.rsync_over(&master, &["-a", &back, &server.remote("/srv/data/")]).output().await;

    reads.assert_success();
    assert_eq!(std::fs::read(server.path("back/folder/file")).unwrap(), b"data");
    for output in [elsewhere, writes] {
        assert_ne!(output.code(), 0, "{}", output.report());
    }
    master.close().await;
    server.stop().await;
}

on_both_with!(
    /// Y3, A5
    a_forced_command_runs_for_shell_command_and_subsystem_alike,
    "forceCommand: 'echo forced ${SSH_ORIGINAL_COMMAND-unset}'",
    ["ForceCommand=echo forced ${SSH_ORIGINAL_COMMAND-unset}"],
    |target| {
        let master = target.master(&[]).await;

        let shell = master.ssh(&[]).arg("-T").output().await;
        let command = master.ssh(&["id -u; echo  two"]).output().await;
        let subsystem = master.ssh(&["sftp"]).arg("-s").output().await;
        let terminal = master.ssh(&["id"]).arg("-tt").output().await;
        let unknown = master.ssh(&["nosuch"]).arg("-s").output().await;

        shell.assert_success().assert_stdout("forced unset\n");
        command.assert_success().assert_stdout("forced id -u; echo two\n");
        subsystem.assert_success().assert_stdout("forced /usr/lib/openssh/sftp-server\n");
        assert_eq!(terminal.assert_success().stdout().trim_end(), "forced id");
        unknown.assert_code(255).assert_stdout("");
        master.close().await;
    }
);

on_both_with!(
    /// Y3
    a_forced_internal_sftp_serves_sftp_and_nothing_else,
    "forceCommand: internal-sftp -R",
    ["ForceCommand=internal-sftp -R"],
    |target| {
        let reads = target.sftp().stdin("ls /etc/passwd\n").output().await;
        let writes = target.sftp().stdin("mkdir /tmp/new\n").output().await;
        let command = target.ssh(&["echo works"]).output().await;
        let shell = target.ssh(&[]).stdin("echo works\n").output().await;

        assert!(reads.assert_success().stdout().contains("/etc/passwd"), "{}", reads.report());
        assert_ne!(writes.code(), 0, "{}", writes.report());
        for output in [command, shell] {
            assert!(output.code() != 0 && !output.stdout().contains("works"), "{}", output.report());
        }
    }
);

on_both_with!(
    /// Y4
    a_session_too_many_is_refused_until_one_has_ended,
    "maxSessions: 2",
    ["MaxSessions=2"],
    |target| {
        let master = target.master(&[]).await;
        let mut live = Vec::new();
        for _ in 0..2 {
            let mut client = master.ssh(&["echo started; cat"]).spawn();
            client.wait_for("started").await;
            live.push(client);
        }
        // Refused by the master, a client would try a connection of its own.
        let another = || master.ssh(&["echo third"]).option("ProxyCommand=false").output();

        let third = another().await;
        assert!(third.code() == 255 && third.stdout().is_empty(), "{}", third.report());
        assert!(third.stderr().contains("Session open refused by peer"), "{}", third.report());

        live.pop().unwrap().end().await.assert_success();
        poll_until("a place", Duration::from_secs(20), async || (another().await.code() == 0).then_some(())).await;
        live.pop().unwrap().end().await.assert_success();
        master.close().await;
    }
);

/// Y4: of the two bounds the smaller one holds.
#[tokio::test]
async fn a_policy_cannot_raise_the_number_of_sessions() {
    let server = TestServer::builder()
        .section("limits: {sessionsPerConnection: 1}\npolicy: {maxSessions: 5}")
        .start()
        .await;
    let master = server.master(&[]).await;
    let mut first = master.ssh(&["echo started; cat"]).spawn();
    first.wait_for("started").await;

    let second = master.ssh(&["true"]).option("ProxyCommand=false").output().await;

    second.assert_code(255);
    first.end().await.assert_success();
    master.close().await;
    server.stop().await;
}

/// Y5
#[tokio::test]
async fn signals_are_delivered_or_refused_as_the_policy_says() {
    for (policy, expected) in [
        ("signals: {mode: enable}", "USR1 granted, arrived\nTERM granted, arrived\n"),
        ("signals: {mode: filter, allow: [USR1]}", "USR1 granted, arrived\nTERM refused\n"),
        ("signals: {mode: disable}", "USR1 refused\nTERM refused\n"),
    ] {
        let server = server_with(policy).await;

        let output = python(&server, "signals.py", &["answered"]).output().await;

        output.assert_success().assert_stdout(expected);
        server.stop().await;
    }
}

/// V2
#[tokio::test]
async fn a_policy_takes_variables_away_and_gives_none() {
    let server = TestServer::builder()
        .env_accept(&["A*"])
        .section("policy: {env: {mode: filter, allow: ['AB*', C], deny: [ABC]}}")
        .start()
        .await;

    let output = server
        .ssh(&["echo ${A-unset} ${AB-unset} ${ABC-unset} ${C-unset}"])
        .option("SetEnv=A=1 AB=2 ABC=3 C=4")
        .output()
        .await;

    output.assert_success().assert_stdout("unset 2 unset unset\n");
    server.stop().await;
}

/// Y6, Y7
#[tokio::test]
async fn what_forwards_is_refused_and_the_session_does_not_mind() {
    let server = TestServer::start().await;

    let output = server
        .ssh(&["echo ${SSH_AUTH_SOCK-none} ${DISPLAY-none}"])
        .args(["-A", "-X", "-R", "0:127.0.0.1:1", "-o", "ExitOnForwardFailure=no"])
        .env("DISPLAY", ":0")
        .output()
        .await;

    output.assert_success().assert_stdout("none none\n");
    server.stop().await;
}
