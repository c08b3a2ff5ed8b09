//! What packages are made of.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::harness::{assert_succeeds, text, top_level};

#[test]
fn the_configuration_in_packages_is_the_one_that_init_writes() {
    let current = coracle::cli::config_of_packages();
    let made = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("packaged-config.yaml");
    std::fs::write(&made, &current).unwrap();

    let committed = std::fs::read_to_string(top_level("packaging/config.yaml")).unwrap_or_default();

    assert!(
        committed == current,
        "packaging/config.yaml is out of date: cp {} packaging/config.yaml",
        made.display()
    );
}

#[test]
fn the_unit_is_sound_and_keeps_the_service_apart() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("coracle.service");
    let source = top_level("packaging/systemd/coracle.service");
    // Programs and pages of a package that is not installed here.
    let here = std::fs::read_to_string(&source).unwrap();
    let here = here.replace("/usr/bin/coracle ", "/bin/true ").replace("Documentation=man:coracle(1)\n", "");
    std::fs::write(&unit, here).unwrap();
    let socket = folder.path().join("coracle.socket");
    let text_of_socket = std::fs::read_to_string(top_level("packaging/systemd/coracle.socket")).unwrap();
    std::fs::write(&socket, text_of_socket.replace("Documentation=man:coracle(1)\n", "")).unwrap();

    let verified = analyze(&["verify", unit.to_str().unwrap(), socket.to_str().unwrap()]);
    let exposed = analyze(&["security", "--offline=true", "--threshold=25", source.to_str().unwrap()]);

    assert_succeeds(&verified);
    assert_eq!(text(&verified.stderr), "");
    assert_succeeds(&exposed);
}

fn analyze(args: &[&str]) -> std::process::Output {
    let output = Command::new("systemd-analyze").args(args).env("SYSTEMD_PAGER", "cat").output();
    output.expect("systemd-analyze, which script/bootstrap --test installs")
}

#[test]
fn the_package_installs_serves_and_leaves_nothing() {
    assert_succeeds(&script("script/test-package"));
}

/// Takes minutes: it makes an image with a systemd, and waits for its watchdog.
#[test]
fn a_real_systemd_runs_the_unit_and_its_socket() {
    if std::env::var_os("CORACLE_TEST_FULL").is_some() {
        assert_succeeds(&script("script/test-service"));
    }
}

/// One at a time: both make the package.
fn script(name: &str) -> std::process::Output {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut script = Command::new(top_level(name));
    script.args(["--binary", env!("CARGO_BIN_EXE_coracle")]).output().unwrap()
}
