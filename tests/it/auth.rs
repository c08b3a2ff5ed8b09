//! Who gets in (A).

use crate::harness::{Output, Sshd, Target, TestServer, Turn, python};

/// What a refused client sees, without the names that differ from case to case.
fn refusal(output: &Output) -> String {
    output.assert_code(255);
    output
        .stderr()
        .lines()
        .filter(|line| line.contains("denied"))
        .map(|line| line.rsplit(':').next().unwrap())
        .collect()
}

async fn strangers_stay_out_alike(target: &Target) {
    let stranger = target.keys.stranger().display().to_string();

    let known = target.ssh(&["true"]).output().await;
    let wrong_key = target.ssh_as(&target.user, &target.keys.stranger()).output().await;
    let unknown_user = target.ssh_as("nobody-here", &target.keys.client()).output().await;
    let times = python(target, "denials.py", &[&stranger, "nobody-here", "41"]).output().await;

    known.assert_success();
    assert!(refusal(&wrong_key).contains("publickey"), "{}", wrong_key.report());
    assert_eq!(refusal(&wrong_key), refusal(&unknown_user));
    let times = times.assert_success().stdout();
    let medians: Vec<f64> = times.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!((medians[0] - medians[1]).abs() < 5.0, "medians in ms, wrong key and unknown user: {medians:?}");
}

/// A1
#[tokio::test]
async fn strangers_stay_out_and_cannot_tell_why() {
    let server = TestServer::builder().authorized_keys("keys-of-%u").alone().start().await;
    std::fs::copy(server.path("authorized_keys"), server.path("keys-of-root")).unwrap();

    strangers_stay_out_alike(&server).await;

    assert!(server.containers().await.is_empty());
    server.stop().await;
}

/// A1
#[tokio::test]
async fn strangers_stay_out_and_cannot_tell_why_at_the_oracle() {
    let options = ["PasswordAuthentication=no", "KbdInteractiveAuthentication=no"];
    let sshd = Sshd::start_with(&options, Turn::alone().await).await;

    strangers_stay_out_alike(&sshd).await;
    sshd.stop().await;
}

/// A1: a file without `%u` serves every username.
#[tokio::test]
async fn one_file_of_keys_may_serve_every_username() {
    let server = TestServer::start().await;

    let output = server.ssh_as("somebody", &server.keys.client()).output().await;

    output.assert_success();
    server.stop().await;
}
