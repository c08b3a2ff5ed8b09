//! The command line from outside: what it prints where, and its exit status.

#![expect(clippy::unwrap_used, reason = "a test that cannot start its program has failed")]

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in an empty folder of its own, or in `folder`.
fn coracle(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coracle")).args(args).current_dir(folder).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_and_version_are_successes_and_bad_usage_is_64() {
    let folder = tempfile::tempdir().unwrap();

    for asked in [&["--help"][..], &["--version"], &["serve", "--help"]] {
        let output = coracle(folder.path(), asked);
        assert_eq!(output.status.code(), Some(0), "{asked:?}");
        assert!(!output.stdout.is_empty(), "{asked:?}");
    }
    for bad in [&[][..], &["frobnicate"], &["config", "check"], &["serve", "--listen", "here"]] {
        let output = coracle(folder.path(), bad);
        assert_eq!(output.status.code(), Some(64), "{bad:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{bad:?}");
    }
}

#[test]
fn a_bad_configuration_is_64_whoever_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), "ssh:\n  listn: x\n").unwrap();

    for args in [
        &["config", "check", "config.yaml"][..],
        &["config", "show"],
        &["serve"],
        &["serve", "--config", "none"],
    ] {
        let output = coracle(folder.path(), args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    let output = coracle(folder.path(), &["config", "check", "config.yaml"]);
    assert!(stderr(&output).starts_with("config.yaml:2:3: unknown key `listn`; did you mean `listen`?"));
}

#[test]
fn what_is_in_effect_is_shown_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("config.yaml"),
        "docker:\n  cert: /c.pem\n  key: \"-----BEGIN PRIVATE KEY-----\\nhunter1\"\n  \
         config: {container: {env: [PASSWORD=hunter2]}}\n",
    )
    .unwrap();

    let output = coracle(folder.path(), &["config", "show"]);

    assert_eq!(output.status.code(), Some(0));
    let shown = stdout(&output);
    assert!(shown.contains("cert: /c.pem") && shown.contains("PASSWORD=***"), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn a_valid_configuration_with_something_odd_in_it_is_valid_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty.yaml"), "").unwrap();

    let output = coracle(folder.path(), &["config", "check", "empty.yaml"]);

    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).starts_with("warning: nobody can log in"));
    assert!(stdout(&output).ends_with("empty.yaml: valid\n"));
}

#[test]
fn a_host_key_is_made_once() {
    let folder = tempfile::tempdir().unwrap();

    let first = coracle(folder.path(), &["hostkey", "generate", "key"]);
    let second = coracle(folder.path(), &["hostkey", "generate", "--type", "ed25519", "key"]);

    assert_eq!(first.status.code(), Some(0));
    assert!(stdout(&first).starts_with("SHA256:"));
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("not overwritten"));
}
