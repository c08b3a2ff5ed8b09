//! `coracle doctor` on the real engine.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::harness::EngineProxy;

/// The report, and whether the doctor is content.
fn examine(folder: &Path, config: &str) -> (String, bool) {
    let file = folder.join("doctor.yaml");
    std::fs::write(&file, config).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_coracle")).arg("doctor").arg("--config").arg(&file).output();
    let output = output.expect("the program runs");
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

/// A configuration without a problem, at the engine `host`.
fn sound(folder: &Path, host: &str) -> String {
    std::fs::write(folder.join("keys"), "").unwrap();
    std::fs::set_permissions(folder.join("keys"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let folder = folder.display();
    format!(
        "stateDir: {folder}/state\nauth: {{authorizedKeysFile: {folder}/keys}}\ndocker:\n  host: {host}\n"
    )
}

/// Y7
#[tokio::test]
async fn the_engine_is_examined_and_nothing_is_pulled_or_made() {
    let folder = tempfile::TempDir::new().unwrap();
    let engine = EngineProxy::listen(folder.path());
    let config = sound(folder.path(), &engine.url());

    let (report, content) =
        tokio::task::spawn_blocking(move || examine(folder.path(), &config)).await.unwrap();

    assert!(content, "{report}");
    for about in [
        "engine",
        "runc",
        "rootless",
        "user namespaces",
        "seccomp",
        "control groups",
        "disk quota",
        "init",
        "image",
    ] {
        assert!(
            report
                .lines()
                .any(|line| line.get(9..).is_some_and(|rest| rest.starts_with(&format!("{about}: ")))),
            "no {about} in\n{report}"
        );
    }
    assert!(report.contains("ok       image: `coracle/guest` is on the engine"), "{report}");
    let requests = engine.take();
    assert!(requests.iter().all(|request| request.starts_with("GET ")), "{requests:?}");
}

/// Y7
#[tokio::test]
async fn an_open_socket_and_a_missing_image_are_problems() {
    let folder = tempfile::TempDir::new().unwrap();
    let engine = EngineProxy::listen(folder.path());
    let socket = engine.url().trim_start_matches("unix://").to_owned();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let launch = "  config: {imagePullPolicy: Never, container: {image: coracle/missing}}\n";
    let config = sound(folder.path(), &engine.url()) + launch;

    let (report, content) =
        tokio::task::spawn_blocking(move || examine(folder.path(), &config)).await.unwrap();

    assert!(!content, "{report}");
    let problems: Vec<_> = report.lines().filter(|line| line.starts_with("problem")).collect();
    assert_eq!(problems.len(), 2, "{report}");
    assert!(
        problems[0].starts_with("problem  engine socket: ") && problems[0].contains("chmod 660"),
        "{report}"
    );
    assert!(problems[1].starts_with("problem  image: `coracle/missing`"), "{report}");
}
