//! What options in front of a key take away, and give (A2).

use crate::harness::{Sshd, Target, TestServer, python};

/// Has the client's key with these options, and no other line.
fn allow(target: &Target, options: &str) {
    let key = std::fs::read_to_string(target.path("client.pub")).unwrap();
    std::fs::write(target.path("authorized_keys"), format!("{options} {key}")).unwrap();
}

on_both!(
    /// A2
    a_keys_command_runs_whatever_is_asked_for,
    |target| {
        allow(target, r#"command="echo \"forced\" ${SSH_ORIGINAL_COMMAND-unset}""#);

        let shell = target.ssh(&[]).arg("-T").output().await;
        let command = target.ssh(&["id -u; echo  two"]).output().await;
        let subsystem = target.ssh(&["sftp"]).arg("-s").output().await;
        let terminal = target.ssh(&["id"]).arg("-tt").output().await;

        shell.assert_success().assert_stdout("forced unset\n");
        command.assert_success().assert_stdout("forced id -u; echo two\n");
        subsystem.assert_success().assert_stdout("forced /usr/lib/openssh/sftp-server\n");
        assert_eq!(terminal.assert_success().stdout().trim_end(), "forced id");
    }
);

on_both!(
    /// A2
    a_key_may_have_a_terminal_or_not,
    |target| {
        for (options, granted) in
            [("no-pty", false), ("restrict", false), ("restrict,pty", true), ("pty,no-pty", false), ("no-X11-forwarding", true)]
        {
            allow(target, options);
            let output = python(target, "refused_terminal.py", &[]).output().await;

            let stdout = output.assert_success().stdout();
            let expected = if granted { "granted\n/dev/pts/" } else { "refused\nnot a tty\ndone\n" };
            assert!(stdout.starts_with(expected), "{options}: {}", output.report());
        }
    }
);

async fn a_key_brings_variables(target: &Target) {
    allow(target, r#"environment="A=first",environment="A=second",environment="FOO=key's""#);

    let exec = target.ssh(&["echo $A $FOO"]).option("SetEnv=FOO=client").output().await;
    let shell = target.ssh(&[]).arg("-T").stdin("echo $A $FOO\n").output().await;

    exec.assert_success().assert_stdout("first key's\n");
    assert!(shell.assert_success().stdout().contains("first key's\n"), "{}", shell.report());
}

/// A2
#[tokio::test]
async fn variables_of_a_key_reach_every_program() {
    let server = TestServer::start().await;
    a_key_brings_variables(&server).await;
    server.stop().await;
}

/// A2
#[tokio::test]
async fn variables_of_a_key_reach_every_program_at_the_oracle() {
    let sshd = Sshd::start_with(&["PermitUserEnvironment=yes"], crate::harness::Turn::shared().await).await;
    a_key_brings_variables(&sshd).await;
    sshd.stop().await;
}

/// A2: keys of the configuration, each with its options.
#[tokio::test]
async fn keys_of_a_user_in_the_configuration_have_options_too() {
    let users = r#"  users:
    plain: {authorizedKeys: ["CLIENT_KEY"]}
    forced: {authorizedKeys: ["restrict,command=\"echo forced $SSH_ORIGINAL_COMMAND\" CLIENT_KEY"]}
    away: {authorizedKeys: ["from=\"10.0.0.0/8\" CLIENT_KEY"]}
    near: {authorizedKeys: ["from=\"127.0.0.0/8\",environment=\"A=1\" CLIENT_KEY"]}
    late: {authorizedKeys: ["expiry-time=\"20200101\" CLIENT_KEY"]}
    early: {authorizedKeys: ["expiry-time=\"20990101Z\" CLIENT_KEY"]}
    keyless: {}"#;
    let server = TestServer::builder().authorized_keys("nobody's").auth(users).start().await;

    for (user, expected) in [
        ("plain", Some("unset")),
        ("forced", Some("forced echo ${A-unset}")),
        ("away", None),
        ("near", Some("1")),
        ("late", None),
        ("early", Some("unset")),
        ("keyless", None),
        ("unknown", None),
    ] {
        let output = server.ssh_to(user, &["echo ${A-unset}"]).output().await;
        let came_in = (output.code() == 0).then(|| output.stdout().trim().to_owned());
        assert_eq!(came_in.as_deref(), expected, "{user}: {}", output.report());
    }
    server.stop().await;
}
