//! Logins with a password, and with nothing (A1, A3).

use crate::harness::{TestServer, password_hash, python};

/// One whose check takes some 20 ms, always, and little memory: argon2id's takes as long as others leave it.
const STEADY_HASH: &str = "$2b$08$wRQ8mbNKGPWLjLiokEZ03eU9fmOty5GJ6hqMAjK42kqDSD8Q./EcO";

/// A server where alice has the password `open sesame` and nobody has a key.
async fn serve() -> TestServer {
    let hash = password_hash("open sesame");
    let users = format!("  users:\n    alice: {{passwordHash: '{hash}'}}\n    bob: {{}}");
    // A number without an entry in /etc/passwd: `USER` is who has logged in.
    TestServer::builder().authorized_keys("nobody's").container("user: '1234'").auth(&users).start().await
}

#[tokio::test]
async fn the_right_password_lets_in_and_is_asked_for_once() {
    let server = serve().await;

    let right =
        server.ssh_answering("alice", "*alice*assword*) echo open sesame", &["echo $USER"]).output().await;

    right.assert_success().assert_stdout("alice\n");
    assert_eq!(server.asked().len(), 1, "{}", right.report());
    assert!(!server.log.text().contains("open sesame"), "a password is nobody else's business");
    server.stop().await;
}

/// A3, A1
#[tokio::test]
async fn a_wrong_password_may_be_corrected_twice_whoever_it_is() {
    let server = serve().await;
    let wrong = "*assword*) echo guess";

    for user in ["alice", "bob", "carol", "bad\u{200b}name"] {
        let output = server.ssh_answering(user, wrong, &["true"]).output().await;

        output.assert_code(255);
        assert_eq!(server.asked().len(), 3, "{}", output.report());
        let said: Vec<_> = output.stderr().lines().map(|line| line.replace(user, "USER")).collect();
        let expected = [
            "Permission denied, please try again.",
            "Permission denied, please try again.",
            "USER@127.0.0.1: Permission denied (password,publickey).",
        ];
        if user.is_ascii() {
            assert_eq!(said, expected, "{}", output.report());
        }
    }

    assert!(server.containers().await.is_empty());
    // After a dozen wrong ones: loopback is exempt from penalties by default.
    let right = server.ssh_answering("alice", "*assword*) echo open sesame", &["true"]).output().await;
    right.assert_success();
    server.stop().await;
}

/// A3
#[tokio::test]
async fn the_sixth_wrong_password_on_a_connection_ends_it() {
    let server = serve().await;

    let answers = python(&server, "logins.py", &["wrong_passwords", "alice"]).output().await;

    let answers = answers.assert_success().stdout();
    let answers: Vec<_> = answers.lines().collect();
    let (last, before) = answers.split_last().unwrap();
    assert_eq!(*last, "disconnect Too many authentication failures");
    // Whatever is said until the disconnect gets there is refused without a method left.
    let (five, late) = before.split_at_checked(5).unwrap_or_else(|| panic!("{answers:?}"));
    assert!(five.iter().all(|answer| *answer == "failure password,publickey"), "{answers:?}");
    assert!(late.iter().all(|answer| *answer == "failure "), "{answers:?}");
    let patient = server
        .ssh_answering("alice", "*assword*) echo guess", &["true"])
        .option("NumberOfPasswordPrompts=10")
        .output()
        .await;
    patient.assert_code(255);
    // The refusal of the sixth comes ahead of the disconnect, and OpenSSH's client asks once more meanwhile.
    assert!((6..=9).contains(&server.asked().len()), "{}", patient.report());
    assert!(patient.stderr().contains("Too many authentication failures"), "{}", patient.report());
    server.stop().await;
}

/// A1
#[tokio::test]
async fn a_wrong_password_takes_the_same_time_for_whoever() {
    let users = format!("  users: {{alice: {{passwordHash: '{STEADY_HASH}'}}}}");
    let server = TestServer::builder().authorized_keys("nobody's").auth(&users).alone().start().await;

    let times =
        python(&server, "logins.py", &["password_times", "alice", "nobody-here", "41"]).output().await;

    let times = times.assert_success().stdout();
    let medians: Vec<f64> = times.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(medians[0] > 10.0, "a check is seen in the times: {medians:?}");
    assert!((medians[0] - medians[1]).abs() < 5.0, "medians in ms, alice and an unknown user: {medians:?}");
    server.stop().await;
}

#[tokio::test]
async fn where_nothing_is_asked_for_anybody_comes_in_and_the_log_warns() {
    let server = TestServer::builder()
        .authorized_keys("nobody's")
        .container("user: '1234'")
        .auth("  methods: {default: [publicKey], users: {guest: [none]}}")
        .start()
        .await;
    let without_key = |user| {
        server
            .ssh_to(user, &["echo $USER"])
            .option("PubkeyAuthentication=no")
            .option("PasswordAuthentication=no")
            .output()
    };

    let guest = without_key("guest").await;
    let other = without_key("other").await;

    guest.assert_success().assert_stdout("guest\n");
    other.assert_code(255);
    assert!(server.log.text().contains("anybody comes in without any proof"), "{}", server.log.text());
    server.stop().await;
}
