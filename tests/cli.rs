//! The command line from outside: what it prints where, and its exit status.

#![expect(clippy::unwrap_used, reason = "a test that cannot start its program has failed")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use coracle::auth::{PasswordChecker, PasswordHash, TotpSecret};
use coracle::secret::Secret;
use serde_json::{Value, json};

/// Runs the program in an empty folder of its own, or in `folder`.
fn coracle(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coracle")).args(args).current_dir(folder).output().unwrap()
}

/// As [`coracle`], with this on its standard input.
fn coracle_with_input(folder: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    command
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut program = command.spawn().unwrap();
    // A program that does not want its input may have ended already.
    drop(program.stdin.take().unwrap().write_all(input));
    program.wait_with_output().unwrap()
}

/// As [`coracle`], at a terminal where somebody answers each question: `screen`, `status`, and whether the terminal
/// showed what was typed, `shown_when_asked` and `shown_after`.
fn coracle_at_terminal(folder: &Path, args: &[&str], answers: &[(&str, &str)]) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/at_terminal.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(json!(answers).to_string()).arg(env!("CARGO_BIN_EXE_coracle"));
    let output = command.args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether the last word of `text` is a hash of `password`.
async fn is_hash_of(text: &str, password: &str) -> bool {
    let hash: PasswordHash = text.split_whitespace().last().unwrap().parse().unwrap();
    PasswordChecker::new([&hash]).check(Some(&hash), &Secret::new(password.to_owned())).await
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
fn a_hook_that_passwords_would_travel_to_in_the_clear_is_valid_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let hook = |url: &str| format!("{{method: webhook, webhook: {{url: '{url}'}}}}");
    let yaml = format!(
        "auth:\n  password: {}\n  publicKey: {}\n  authz: {}\nconfigserver: {{url: 'http://config.example'}}\n",
        hook("http://u:hunter2@auth.example/?key=hunter2"),
        hook("http://127.0.0.1:8080"),
        hook("https://auth.example"),
    );
    std::fs::write(folder.path().join("config.yaml"), yaml).unwrap();

    let output = coracle(folder.path(), &["config", "check", "config.yaml"]);

    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    let warned: Vec<&str> = text.lines().filter(|line| line.contains("not encrypted")).collect();
    assert_eq!(warned.len(), 2, "{text}");
    assert!(
        warned[0].contains("auth.password.webhook.url") && warned[1].contains("configserver.url"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
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

#[tokio::test]
async fn a_password_is_asked_for_twice_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let answers = [("Password: ", "correct hörse\n"), ("Again: ", "correct hörse\n")];

    let seen = coracle_at_terminal(folder.path(), &["passwd"], &answers);

    let screen = seen["screen"].as_str().unwrap();
    assert_eq!(seen["status"], 0, "{screen}");
    assert_eq!((&seen["shown_when_asked"], &seen["shown_after"]), (&json!([false, false]), &json!(true)));
    assert!(!screen.contains("rse"), "{screen}");
    assert!(is_hash_of(screen, "correct hörse").await, "{screen}");
}

#[test]
fn no_hash_is_made_of_passwords_that_differ_or_are_empty() {
    let folder = tempfile::tempdir().unwrap();
    for (once, again, told) in [("one\n", "other\n", "differ"), ("\n", "\n", "empty")] {
        let answers = [("Password: ", once), ("Again: ", again)];

        let seen = coracle_at_terminal(folder.path(), &["passwd"], &answers);

        let screen = seen["screen"].as_str().unwrap();
        assert_eq!(seen["status"], 1, "{screen}");
        assert!(screen.contains(told) && !screen.contains("$argon2id"), "{screen}");
    }
}

#[test]
fn a_terminal_shows_again_what_is_typed_when_a_signal_ends_the_question() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ["half\u{3}", "half\u{1c}", "<SIGTERM>", "<SIGHUP>"] {
        for answers in [&[("Password: ", ending)][..], &[("Password: ", "x\n"), ("Again: ", ending)]] {
            let seen = coracle_at_terminal(folder.path(), &["passwd"], answers);

            assert_eq!(seen["status"], 1, "{answers:?}: {seen}");
            assert_eq!(seen["shown_when_asked"].as_array().unwrap().last(), Some(&json!(false)), "{seen}");
            assert_eq!(seen["shown_after"], true, "{answers:?}: {seen}");
        }
    }
}

#[tokio::test]
async fn a_password_comes_from_the_first_line_of_a_pipe_and_never_from_an_argument() {
    let folder = tempfile::tempdir().unwrap();

    let output = coracle_with_input(folder.path(), &["passwd"], b"correct horse\r\nmore\n");

    assert_eq!(output.status.code(), Some(0));
    assert!(is_hash_of(&stdout(&output), "correct horse").await);
    assert_eq!(coracle(folder.path(), &["passwd", "hunter2"]).status.code(), Some(64));
    for unfit in [&b""[..], b"\n", &[b'x'; 600], b"\xff\n"] {
        let output = coracle_with_input(folder.path(), &["passwd"], unfit);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn an_enrolment_keeps_the_secret_for_its_owner_alone_and_never_overwrites_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alice.totp");
    let enroll = |more: &[&str]| coracle(folder.path(), &[&["totp", "enroll", "alice"], more].concat());

    let output = enroll(&["--issuer", "Our lab"]);

    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let secret = TotpSecret::read(&file).unwrap();
    let shown = stdout(&output);
    let url = secret.expose_url("Our lab", "alice");
    assert!(url.starts_with("otpauth://totp/Our%20lab:alice?secret=") && url.ends_with("&issuer=Our%20lab"));
    assert!(shown.contains(&url) && shown.contains("▀▀▀▀▀▀▀▀"), "{shown}");
    assert!(shown.replace(' ', "").contains(&format!(":{}\n", secret.expose_base32())), "{shown}");
    assert!(shown.contains("    alice:\n      totpFile: /"), "{shown}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let again = enroll(&[]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("--force") && again.stdout.is_empty());
    assert_eq!(TotpSecret::read(&file).unwrap().expose_base32(), secret.expose_base32());

    assert_eq!(enroll(&["--force"]).status.code(), Some(0));
    assert_ne!(TotpSecret::read(&file).unwrap().expose_base32(), secret.expose_base32());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

/// A6
#[test]
fn an_enrolment_at_a_terminal_keeps_nothing_until_a_code_was_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("totp");
    let args = ["totp", "enroll", "a/b", "--file", "totp"];
    let wrong = ("shows now: ", "12345\n");

    let seen = coracle_at_terminal(folder.path(), &args, &[wrong, ("Code:", "\n"), ("Code:", "x\n")]);
    assert_eq!((seen["status"].as_i64(), file.exists()), (Some(1), false), "{seen}");

    let seen = coracle_at_terminal(folder.path(), &args, &[wrong, ("Code:", "<code>")]);
    assert_eq!((seen["status"].as_i64(), file.exists()), (Some(0), true), "{seen}");

    let unchecked = [&args[..], &["--force", "--no-check"]].concat();
    let seen = coracle_at_terminal(folder.path(), &unchecked, &[]);
    assert_eq!(seen["status"], 0, "{seen}");

    assert_eq!(coracle(folder.path(), &["totp", "enroll", "a/b"]).status.code(), Some(1));
    assert_eq!(coracle(folder.path(), &["totp", "enroll", "b", "--file", "no/b"]).status.code(), Some(1));
    assert_eq!(coracle(folder.path(), &["totp", "enroll", ""]).status.code(), Some(64));
}

/// Y7
#[test]
fn a_configuration_that_opens_the_host_is_64_with_the_line_and_the_name_that_allows_it() {
    let folder = tempfile::tempdir().unwrap();
    let text = "docker:\n  config:\n    host:\n      binds: [/var/run/docker.sock:/var/run/docker.sock]\n";
    std::fs::write(folder.path().join("config.yaml"), text).unwrap();
    std::fs::write(folder.path().join("meant.yaml"), format!("allowDangerous: [engineSocket]\n{text}"))
        .unwrap();

    for args in [&["config", "check", "config.yaml"][..], &["serve"]] {
        let output = coracle(folder.path(), args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        let told = stderr(&output);
        assert!(told.starts_with("config.yaml:4:15: `/var/run/docker.sock`"), "{told}");
        assert!(
            told.contains("root on its host") && told.contains("allowDangerous: [engineSocket]"),
            "{told}"
        );
    }
    assert_eq!(coracle(folder.path(), &["config", "check", "meant.yaml"]).status.code(), Some(0));
}

#[test]
fn a_doctor_finds_what_is_open_to_others_and_an_engine_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let open = |name: &str, mode| {
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir(path("state")).unwrap();
    open("state", 0o777);
    coracle(folder.path(), &["hostkey", "generate", "key"]);
    open("key", 0o644);
    for (name, mode) in [("keys", 0o666), ("password", 0o640)] {
        std::fs::write(path(name), "hunter1").unwrap();
        open(name, mode);
    }
    let config = "stateDir: state\nssh: {hostKeys: [key]}\nauth: {authorizedKeysFile: keys}\ndocker:\n  \
                  host: unix:///nonexistent/docker.sock\n  \
                  registries: {r: {username: u, passwordFile: password}, s: {username: u, password: hunter2}}\n";
    std::fs::write(path("config.yaml"), config).unwrap();
    open("config.yaml", 0o644);

    let output = coracle(folder.path(), &["doctor"]);

    assert_eq!(output.status.code(), Some(1));
    let report = stdout(&output);
    for (about, words) in [
        ("configuration", "`config.yaml` holds a secret and is open to others (mode 0644); `chmod 600"),
        ("state folder", "can be written by others (mode 0777); `chmod go-w"),
        ("host key", "is open to others (mode 0644)"),
        ("authorized keys", "can be written by others (mode 0666)"),
        ("registry", "holds a secret and is open to others (mode 0640)"),
        ("engine", "cannot be reached"),
    ] {
        let found = report
            .lines()
            .any(|line| line.starts_with(&format!("problem  {about}: ")) && line.contains(words));
        assert!(found, "no {about} {words:?} in\n{report}");
    }
    assert!(!report.contains("hunter"), "{report}");
    assert_eq!(stderr(&output), "coracle: there are 6 problems\n");
}

#[test]
fn a_doctor_shows_a_bad_configuration_as_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.yaml"), "ssh:\n  listn: x\n").unwrap();

    let output = coracle(folder.path(), &["doctor", "--config", "bad.yaml"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).starts_with("problem  configuration: bad.yaml:2:3: unknown key `listn`"));
}
