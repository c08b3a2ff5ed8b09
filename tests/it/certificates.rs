//! Certificates that ssh-keygen makes (A4, A5).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Client, Target, TestServer, keygen, poll_until, python};

const AUTH: &str = "  users:
    listed: {principals: [ops, dev]}
  certificates:
    trustedCAs: [FOLDER/ca.pub]
    revokedKeys: FOLDER/revoked";

/// Trusts `ca`, knows no keys, and has an empty list of those revoked.
async fn serve(auth: &str) -> TestServer {
    let server = TestServer::builder()
        .authorized_keys("keys-of-%u")
        .container("user: '1234'")
        .auth(auth)
        .start()
        .await;
    for name in ["ca", "other-ca"] {
        keygen(&server.path(name));
    }
    std::fs::write(server.path("revoked"), "").unwrap();
    server
}

fn ssh_keygen(arguments: &[&str], file: &Path) {
    let output =
        Command::new("ssh-keygen").args(arguments).arg(file).output().expect("ssh-keygen is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A fresh key `name` with a certificate by `ca`; `options` are ssh-keygen's.
pub(crate) fn certify(target: &Target, name: &str, ca: &str, options: &[&str]) -> PathBuf {
    let key = target.path(name);
    if !key.exists() {
        keygen(&key);
    }
    let ca = target.path(ca).display().to_string();
    let fixed = ["-q", "-s", &ca, "-I", name];
    ssh_keygen(&[&fixed, options].concat(), &target.path(&format!("{name}.pub")));
    key
}

/// `ssh` as `user` with that key and the certificate beside it, and nothing else.
pub(crate) fn ssh_with(target: &Target, user: &str, key: &Path, arguments: &[&str]) -> Client {
    let options = target.ssh_options();
    let client = target.keys.client().display().to_string();
    let (host, port) = (target.address.ip().to_string(), target.address.port().to_string());
    target
        .program("ssh")
        .args(options.iter().filter(|option| **option != client && *option != "-i"))
        .arg("-i")
        .arg(key)
        .args(["-p", &port, "-l", user])
        .then(std::iter::once(host.as_str()).chain(arguments.iter().copied()))
}

/// Waits until the log says so of the last certificate.
async fn wait_for_reason(server: &TestServer, why: &str) {
    poll_until(why, Duration::from_secs(10), async || {
        let last = server.log.lines().into_iter().rfind(|line| line.contains("a certificate "));
        last.filter(|line| line.contains(why))
    })
    .await;
}

/// Certificates for alice, by ssh-keygen's options, that let nobody in; and why, as the log has it: nothing
/// where the transport refuses them itself (docs/keys-and-certificates.md).
const DENIED: [(&str, &[&str], &str); 8] = [
    ("expired", &["-n", "alice", "-V", "20200101:20200102"], ""),
    ("early", &["-n", "alice", "-V", "20900101:20900102"], ""),
    ("wrong", &["-n", "bob,carol"], "none of its principals"),
    ("empty", &[], "names no principals"),
    ("unknown", &["-n", "alice", "-O", "critical:foo=bar"], "`foo` is not known"),
    ("elsewhere", &["-n", "alice", "-O", "source-address=10.0.0.0/8"], "source-address"),
    ("verified", &["-n", "alice", "-O", "verify-required"], "verify-required"),
    ("numbered", &["-n", "alice", "-z", "17"], "revoked"),
];

/// A4
#[tokio::test]
async fn a_certificate_lets_in_whom_it_should_and_nobody_else() {
    let server = serve(AUTH).await;
    let ca = server.path("ca.pub").display().to_string();
    std::fs::write(server.path("serials"), "serial: 17\n").unwrap();
    ssh_keygen(
        &["-q", "-k", "-s", &ca, "-f", &server.path("revoked").display().to_string()],
        &server.path("serials"),
    );

    let good = certify(&server, "good", "ca", &["-n", "x,alice", "-V", "-1d:+1d", "-z", "18"]);
    let near = certify(&server, "near", "ca", &["-n", "alice", "-O", "source-address=127.0.0.0/8,::1/128"]);
    for key in [&good, &near] {
        let output = ssh_with(&server, "alice", key, &["echo $USER"]).output().await;
        output.assert_success().assert_stdout("alice\n");
    }
    ssh_with(&server, "bob", &good, &["true"]).output().await.assert_code(255);
    let stranger = certify(&server, "stranger-signed", "other-ca", &["-n", "alice"]);
    ssh_with(&server, "alice", &stranger, &["true"]).output().await.assert_code(255);
    wait_for_reason(&server, "is not trusted for this user").await;

    for (name, options, why) in DENIED {
        let key = certify(&server, name, "ca", options);
        let output = ssh_with(&server, "alice", &key, &["true"]).output().await;

        output.assert_code(255);
        assert_eq!(output.stderr().trim(), "alice@127.0.0.1: Permission denied (publickey).", "{name}");
        wait_for_reason(&server, why).await;
    }
    server.stop().await;
}

/// A4: OpenSSH's client keeps one for itself, so it is brought forward by hand.
#[tokio::test]
async fn a_hosts_certificate_lets_in_nobody() {
    let server = serve(AUTH).await;
    let host = certify(&server, "host", "ca", &["-h", "-n", "alice"]).display().to_string();
    let user = certify(&server, "user", "ca", &["-n", "alice"]).display().to_string();

    for (key, expected) in [(&user, "success\n"), (&host, "failure publickey\n")] {
        let answer = python(&server, "logins.py", &["certificate", "alice", key]).output().await;
        answer.assert_success().assert_stdout(expected);
    }

    wait_for_reason(&server, "host's certificate").await;
    server.stop().await;
}

/// A4: a list that changes counts at once, as KRL and as text, for a key, its certificate and its authority.
#[tokio::test]
async fn who_is_revoked_stays_out_from_that_moment() {
    let mut server = serve(AUTH).await;
    server.expect_errors();
    let key = certify(&server, "good", "ca", &["-n", "alice", "-z", "5"]);
    let list = server.path("revoked");
    let enters = async || ssh_with(&server, "alice", &key, &["true"]).output().await.code() == 0;
    assert!(enters().await);

    for name in ["good.pub", "good-cert.pub", "ca.pub"] {
        ssh_keygen(&["-q", "-k", "-f", &list.display().to_string()], &server.path(name));
        assert!(!enters().await, "{name} is in the list");
    }
    for (text, expected) in
        [("serial: 5\n", false), ("serial: 6\n", true), ("id: good\n", false), ("nonsense\n", false)]
    {
        std::fs::write(&list, text).unwrap();
        assert_eq!(enters().await, expected, "{text}");
    }
    std::fs::remove_file(&list).unwrap();
    assert!(!enters().await, "a list that is missing revokes all");
    server.stop().await;
}

/// A4
#[tokio::test]
async fn principals_are_those_of_the_user_else_of_the_file_else_the_name() {
    let auth = format!("{AUTH}\n    principalsFile: FOLDER/principals-of-%u");
    let server = serve(&auth).await;
    std::fs::write(
        server.path("principals-of-alice"),
        "# who may\nadmins\nno-pty,environment=\"ROLE=guest\" guests\n",
    )
    .unwrap();
    let as_admin = certify(&server, "admin", "ca", &["-n", "admins"]);
    let as_guest = certify(&server, "guest", "ca", &["-n", "guests"]);
    let as_alice = certify(&server, "alice", "ca", &["-n", "alice"]);
    let as_dev = certify(&server, "dev", "ca", &["-n", "dev"]);

    for (user, key, expected) in [
        ("alice", &as_admin, Some("alice none")),
        ("alice", &as_guest, Some("alice guest")),
        ("alice", &as_alice, None),
        ("alice", &as_dev, None),
        ("listed", &as_dev, Some("listed none")),
        ("listed", &as_admin, None),
        ("nobody-listed", &as_admin, None),
    ] {
        let output = ssh_with(&server, user, key, &["echo $USER ${ROLE-none}"]).output().await;
        let came_in = (output.code() == 0).then(|| output.stdout().trim().to_owned());
        assert_eq!(came_in.as_deref(), expected, "{}", output.report());
    }
    server.stop().await;
}

/// A4: an authority of one user's, by a line among the keys.
#[tokio::test]
async fn an_authority_among_the_keys_vouches_for_that_user_alone() {
    let server = serve("  certificates: {}").await;
    let ca = std::fs::read_to_string(server.path("ca.pub")).unwrap();
    std::fs::write(server.path("keys-of-alice"), format!("cert-authority,principals=\"ops\" {ca}")).unwrap();
    let key = certify(&server, "good", "ca", &["-n", "ops"]);
    let enters = async |user| ssh_with(&server, user, &key, &["true"]).output().await.code() == 0;

    assert!(enters("alice").await);
    assert!(!enters("bob").await);
    ssh_with(&server, "alice", &server.path("ca"), &["true"]).output().await.assert_code(255);
    server.stop().await;
}

/// A5
#[tokio::test]
async fn a_forced_command_runs_whatever_is_asked_for() {
    let server = serve(AUTH).await;
    let forced = "force-command=echo forced ${SSH_ORIGINAL_COMMAND-unset}";
    let key = certify(&server, "forced", "ca", &["-n", "alice", "-O", forced]);

    let shell = ssh_with(&server, "alice", &key, &[]).arg("-T").output().await;
    let command = ssh_with(&server, "alice", &key, &["id -u; echo  two"]).output().await;
    let subsystem = ssh_with(&server, "alice", &key, &["sftp"]).arg("-s").output().await;
    let terminal = ssh_with(&server, "alice", &key, &["id"]).arg("-tt").output().await;

    shell.assert_success().assert_stdout("forced unset\n");
    command.assert_success().assert_stdout("forced id -u; echo two\n");
    subsystem.assert_success().assert_stdout("forced /usr/lib/openssh/sftp-server\n");
    assert_eq!(terminal.assert_success().stdout().trim_end(), "forced id");
    server.stop().await;
}

/// A5
#[tokio::test]
async fn without_permit_pty_there_is_no_terminal_and_all_else_works() {
    let server = serve(AUTH).await;
    let key = certify(&server, "client", "ca", &["-n", "root", "-O", "no-pty"]);

    let channel = python(&server, "refused_terminal.py", &[]).output().await;
    let command = ssh_with(&server, "root", &key, &["echo works"]).output().await;

    channel.assert_success().assert_stdout("refused\nnot a tty\ndone\n");
    command.assert_success().assert_stdout("works\n");
    server.stop().await;
}

/// A6: two proofs that force different commands do not go together, and the first one's goes on to count.
#[tokio::test]
async fn a_certificate_that_was_refused_takes_no_restriction_with_it() {
    let auth = format!(
        "{AUTH}\n  methods: {{default: [publicKey+certificate]}}\n  users:\n    alice: {{authorizedKeys: {}}}",
        r#"["command=\"echo forced\" CLIENT_KEY"]"#
    );
    let server = serve(&auth.replacen("  users:\n    listed: {principals: [ops, dev]}\n", "", 1)).await;
    let another = certify(&server, "another", "ca", &["-n", "alice", "-O", "force-command=echo another"]);
    let free = certify(&server, "free", "ca", &["-n", "alice"]);

    let paths = [another, free].map(|path| path.display().to_string());
    let arguments = ["key_and_certificates", "alice", &paths[0], &paths[1]];
    let answers = python(&server, "logins.py", &arguments).output().await;

    let expected = "failure publickey partial\nfailure publickey\nsuccess\nforced\n";
    answers.assert_success().assert_stdout(expected);
    server.stop().await;
}
