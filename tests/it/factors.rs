//! Logins that need more than one proof (A6, A8).

use crate::harness::{Output, TOTP_SECRET_TEXT, TestServer, password_hash, python, totp_code};

const PARTIAL: &str = "with partial success";

/// Alice and dora need a key and a code, bob a password and a code; whoever is in `lab` a key and a password.
async fn serve() -> TestServer {
    let hash = password_hash("open sesame");
    let forced = r#"["command=\"echo forced $SSH_ORIGINAL_COMMAND\",no-pty CLIENT_KEY"]"#;
    let auth = format!(
        "  methods:
    default: [publicKey]
    groups: {{lab: [publicKey+password]}}
    users: {{alice: [publicKey+totp], dora: [publicKey+totp], bob: [password+totp]}}
  groups: {{lab: {{}}}}
  users:
    alice: {{authorizedKeys: {forced}, totpFile: FOLDER/alice.totp, groups: [lab]}}
    dora: {{authorizedKeys: [CLIENT_KEY], totpFile: FOLDER/dora.totp}}
    bob: {{authorizedKeys: [CLIENT_KEY], passwordHash: '{hash}', totpFile: FOLDER/bob.totp}}
    carol: {{authorizedKeys: [CLIENT_KEY], passwordHash: '{hash}', groups: [lab]}}
    eve: {{authorizedKeys: [CLIENT_KEY], passwordHash: '{hash}', groups: [lab]}}"
    );
    let builder = TestServer::builder().authorized_keys("nobody's").container("user: '1234'");
    let server = builder.auth(&auth).start().await;
    for user in ["alice", "dora", "bob"] {
        server.enroll(&format!("{user}.totp"));
    }
    server
}

/// Logs in with `-v`, answering with a code and a password.
async fn log_in(server: &TestServer, user: &str, code: &str, password: &str) -> Output {
    let branches = format!("*assword*) echo {password};; *code*) echo {code}");
    let ssh = server.ssh_answering(user, &branches, &["echo $USER"]).option("LogLevel=VERBOSE");
    // Of two values ssh takes the first; `-v` is no such value.
    ssh.arg("-v").option("NumberOfPasswordPrompts=1").output().await
}

/// A6
#[tokio::test]
async fn a_key_and_a_code_are_both_needed_and_the_keys_restrictions_stay() {
    let server = serve().await;
    let code = totp_code(0);

    let alice = log_in(&server, "alice", &code, "unasked").await;
    let asked = server.asked();
    let key_alone = server.ssh_to("alice", &["true"]).output().await;
    let wrong_code = log_in(&server, "alice", "000000", "unasked").await;

    alice.assert_success().assert_stdout("forced echo $USER\n");
    assert!(
        alice.stderr().contains(&format!("Authenticated using \"publickey\" {PARTIAL}")),
        "{}",
        alice.report()
    );
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].ends_with("Verification code:"), "{asked:?}");
    for output in [key_alone, wrong_code] {
        output.assert_code(255);
        assert!(output.stderr().contains("Permission denied (keyboard-interactive)"), "{}", output.report());
    }
    assert!(!server.log.text().contains(&code) && !server.log.text().contains(TOTP_SECRET_TEXT));
    server.stop().await;
}

/// A6: also one of the step before, which a clock that is behind would show.
#[tokio::test]
async fn a_code_counts_once() {
    let server = serve().await;
    let (before, next) = (totp_code(-1), totp_code(1));

    let first = log_in(&server, "dora", &next, "unasked").await;
    let again = log_in(&server, "dora", &next, "unasked").await;
    let older = log_in(&server, "dora", &before, "unasked").await;
    let of_another = log_in(&server, "alice", &next, "unasked").await;

    first.assert_success().assert_stdout("dora\n");
    again.assert_code(255);
    older.assert_code(255);
    of_another.assert_success();
    server.stop().await;
}

/// A6
#[tokio::test]
async fn a_code_before_its_turn_is_neither_taken_nor_used_up() {
    let server = serve().await;

    let answers = python(&server, "logins.py", &["codes_out_of_turn", "dora", &totp_code(1)]).output().await;

    let expected = "failure publickey\nfailure keyboard-interactive partial\nsuccess\n";
    answers.assert_success().assert_stdout(expected);
    server.stop().await;
}

/// A6
#[tokio::test]
async fn a_password_may_be_the_first_of_two_and_the_second() {
    let server = serve().await;

    let bob = log_in(&server, "bob", &totp_code(0), "open sesame").await;
    let without_code = log_in(&server, "bob", "000000", "open sesame").await;
    let wrong_password = log_in(&server, "bob", &totp_code(1), "guess").await;
    let carol = log_in(&server, "carol", "unasked", "open sesame").await;
    let guessing_carol = log_in(&server, "carol", "unasked", "guess").await;

    bob.assert_success().assert_stdout("bob\n");
    assert!(
        bob.stderr().contains(&format!("Authenticated using \"password\" {PARTIAL}")),
        "{}",
        bob.report()
    );
    carol.assert_success().assert_stdout("carol\n");
    assert!(
        carol.stderr().contains(&format!("Authenticated using \"publickey\" {PARTIAL}")),
        "{}",
        carol.report()
    );
    for (output, left) in
        [(without_code, "keyboard-interactive"), (wrong_password, "password"), (guessing_carol, "password")]
    {
        output.assert_code(255);
        assert!(output.stderr().contains(&format!("Permission denied ({left})")), "{}", output.report());
    }
    server.stop().await;
}

/// A8: what one name has proven is worth nothing to another, nor to itself afterwards.
#[tokio::test]
async fn another_name_begins_anew() {
    let server = serve().await;

    let arguments = ["another_name_midway", "carol", "eve", "open sesame"];
    let answers = python(&server, "logins.py", &arguments).output().await;

    let expected = "failure password partial\nfailure publickey\nfailure publickey\nfailure password partial\nsuccess\neve\n";
    answers.assert_success().assert_stdout(expected);
    server.stop().await;
}

/// A8
#[tokio::test]
async fn a_key_that_was_offered_as_another_user_is_judged_anew() {
    let users = "  users: {alice: {authorizedKeys: [CLIENT_KEY]}, bob: {}}";
    let server = TestServer::builder().authorized_keys("nobody's").auth(users).start().await;

    let answers = python(&server, "logins.py", &["probed_as_another", "alice", "bob"]).output().await;

    let answers = answers.assert_success().stdout();
    assert!(answers.starts_with("pk_ok or info\nfailure "), "{answers}");
    server.stop().await;
}
