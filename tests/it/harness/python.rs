//! Clients written in Python, from `tests/it/clients/`, run with paramiko, asyncssh and ssh-audit at hand.

use std::path::{Path, PathBuf};

use super::client::Client;
use super::target::Target;

/// The script `name` with host, port, user and key as its first arguments, then `arguments`.
pub(crate) fn python(target: &Target, name: &str, arguments: &[&str]) -> Client {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients").join(name);
    let host = target.address.ip().to_string();
    let port = target.address.port().to_string();
    let key = target.keys.client().display().to_string();
    target
        .program(interpreter())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(script)
        .args([host, port, target.user.clone(), key])
        .then(arguments)
}

/// asciinema as its authors publish it: `arguments` and then the recording.
pub(crate) fn asciinema(target: &Target, arguments: &[&str], recording: &Path) -> Client {
    let recording = recording.display().to_string();
    target
        .program(interpreter())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("LC_ALL", "C.UTF-8")
        .args(["-m", "asciinema"])
        .then(arguments.iter().copied().chain([recording.as_str()]))
}

/// Where the programs are that came with the modules.
pub(super) fn tools() -> PathBuf {
    let interpreter = std::path::absolute(interpreter()).expect("a working directory");
    interpreter.parent().expect("a program is in a folder").to_owned()
}

/// `CORACLE_TEST_PYTHON`, else the environment that `script/bootstrap --test` makes in the target folder, else
/// `python3`. One without the modules makes the test fail, with Python's own words.
fn interpreter() -> PathBuf {
    if let Some(python) = std::env::var_os("CORACLE_TEST_PYTHON") {
        return python.into();
    }
    // `target/debug/coracle` → `target`.
    let target = Path::new(env!("CARGO_BIN_EXE_coracle")).ancestors().nth(2).expect("cargo's target folder");
    let python = target.join("test-venv/bin/python");
    if python.exists() { python } else { "python3".into() }
}
