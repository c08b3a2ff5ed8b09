//! Keys that are weak, costly, many, swapped, or of hardware (A7, A11).

use std::path::{Path, PathBuf};

use crate::harness::{TestServer, keygen, python};

/// What `case` of the odd logins prints.
async fn print(server: &TestServer, arguments: &[&str]) -> Vec<String> {
    let output = python(server, "logins.py", arguments).output().await;
    output.assert_success().stdout().lines().map(str::to_owned).collect()
}

/// Puts a line in front of those of the authorized keys.
async fn authorize(server: &TestServer, arguments: &[&str]) {
    let line = print(server, arguments).await.remove(0);
    let file = server.path("authorized_keys");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, format!("{line}\n{before}")).unwrap();
}

/// A7
#[tokio::test]
async fn who_signs_counts_and_not_who_was_offered() {
    let server = TestServer::start().await;
    let line = |name: &str| std::fs::read_to_string(server.path(name)).unwrap();
    let keys = format!(
        "command=\"echo forced\",environment=\"WHO=client\" {}environment=\"WHO=stranger\" {}",
        line("client.pub"),
        line("stranger.pub")
    );
    std::fs::write(server.path("authorized_keys"), keys).unwrap();
    let stranger = server.keys.stranger().display().to_string();

    let swapped = print(&server, &["another_key_than_offered", &stranger]).await;
    let forged = print(&server, &["signature_of_another", &stranger]).await;

    assert_eq!(swapped, ["pk_ok or info", "success", "stranger free"]);
    assert_eq!(forged, ["pk_ok or info", "failure publickey"]);
    server.stop().await;
}

/// A11: a sound one is taken for an offer, so that it is the size that is refused. With an authority that is trusted any
/// sound key is, since a certificate may come with it.
#[tokio::test]
async fn rsa_keys_that_are_weak_or_dear_are_refused_before_they_cost_anything() {
    let trusting = "  certificates: {trustedCAs: [FOLDER/client.pub]}";
    for auth in ["  certificates: {}", trusting] {
        let server = TestServer::builder().auth(auth).alone().start().await;
        for bits in ["1024", "3072", "16384"] {
            authorize(&server, &["rsa_line", bits]).await;
        }

        for (bits, offer) in
            [("3072", "pk_ok or info"), ("1024", "failure publickey"), ("16384", "failure publickey")]
        {
            let answers = print(&server, &["rsa", bits]).await;

            assert_eq!(answers[..2], [offer, "failure publickey"], "{bits} bits");
            let milliseconds: f64 = answers[2].parse().unwrap();
            assert!(milliseconds < 50.0, "{bits} bits took {milliseconds} ms");
        }
        server.ssh(&["true"]).output().await.assert_success();
        server.stop().await;
    }
}

/// Whoever has ten other keys, as in an agent, comes in: those that are only offered are no guesses.
#[tokio::test]
async fn the_eleventh_key_lets_in_with_and_without_authorities() {
    for auth in ["  certificates: {}", "  certificates: {trustedCAs: [FOLDER/stranger.pub]}"] {
        let server = TestServer::builder().auth(auth).start().await;
        let others: Vec<_> = (0..10).map(|number| server.path(&format!("other-{number}"))).collect();
        for path in &others {
            keygen(path);
        }
        let client = server.keys.client();
        let keys = others.iter().map(PathBuf::as_path).chain([client.as_path()]);
        let options = server.ssh_options();
        let options = options.iter().filter(|option| Path::new(option) != client && *option != "-i");

        let output = server
            .program("ssh")
            .args(options)
            .args(keys.flat_map(|key| [Path::new("-i"), key]))
            .args(["-p", &server.address.port().to_string()])
            .then([server.destination().as_str(), "echo in"])
            .output()
            .await;

        output.assert_success().assert_stdout("in\n");
        server.stop().await;
    }
}

/// The token is a program here. Whether it was touched is not seen (docs/limitations.md).
#[tokio::test]
async fn a_hardware_key_lets_in() {
    let server = TestServer::start().await;
    let unknown = python(&server, "logins.py", &["sk", "touched"]).output().await;
    authorize(&server, &["sk_line"]).await;

    let known = print(&server, &["sk", "touched"]).await;
    let untouched = print(&server, &["sk", "untouched"]).await;
    let forged = python(&server, "logins.py", &["sk", "forged"]).output().await;

    assert!(unknown.stdout().starts_with("failure publickey\nfailure publickey\n"), "{}", unknown.report());
    assert_eq!(known, ["pk_ok or info", "success", "in"]);
    assert_eq!(untouched, known);
    assert!(forged.stdout().starts_with("pk_ok or info\nfailure publickey\n"), "{}", forged.report());
    server.stop().await;
}
