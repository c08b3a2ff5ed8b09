//! `script/bench` from outside: it measures, and leaves nothing behind, however it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot start its program has failed")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Far more than the runs here take; a test that hangs tells nothing.
const RUN: Duration = Duration::from_secs(90);

/// A run with a temporary folder of its own, where it leaves what it leaves.
struct Bench {
    folder: TempDir,
    process: Child,
}

impl Bench {
    fn start(arguments: &[&str]) -> Self {
        let folder = TempDir::with_prefix("coracle-it-bench-").unwrap();
        std::fs::create_dir(folder.path().join("temporary")).unwrap();
        let process = script()
            .args(["--quick", "--binary", env!("CARGO_BIN_EXE_coracle")])
            .args(arguments)
            .env("TMPDIR", folder.path().join("temporary"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { folder, process }
    }

    /// The name of its folder, which is the label of its containers.
    fn name(&self) -> Option<String> {
        let entries = std::fs::read_dir(self.folder.path().join("temporary")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.into_iter().find(|name| name.starts_with("coracle-bench-"))
    }

    fn finish(self) -> (TempDir, Output) {
        (self.folder, self.process.wait_with_output().unwrap())
    }
}

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("script/bench"))
}

fn containers_of(name: &str) -> usize {
    let label = format!("label=coracle.bench={name}");
    let output =
        Command::new("docker").args(["ps", "--all", "--quiet", "--filter", &label]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count()
}

/// Whose command line names the run.
fn processes_of(name: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let commands = entries.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    commands
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(name))
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "there is no runtime here whose thread could stall")]
fn poll_until<T>(what: &str, condition: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < RUN, "not within {RUN:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_benchmark_says_what_it_takes() {
    let output = script().arg("--help").output().unwrap();

    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for word in ["--quick", "--only", "--targets", "--peer", "--binary", "--json", "--write"] {
        assert!(help.contains(word), "no {word} in:\n{help}");
    }
}

#[test]
fn a_figure_that_does_not_exist_is_refused_by_name() {
    let (_, output) = Bench::start(&["--only", "nonsense"]).finish();

    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("no figure `nonsense`; there are login, "), "{told}");
}

#[test]
fn logins_are_measured_side_by_side_and_nothing_is_left() {
    let folder = TempDir::with_prefix("coracle-it-bench-").unwrap();
    let json = folder.path().join("figures.json");

    let bench = Bench::start(&[
        "--only",
        "login",
        "--targets",
        "sshd-container,docker-exec,cold-exec",
        "--json",
        json.to_str().unwrap(),
    ]);
    let name = poll_until("its folder", || bench.name());
    let (temporary, output) = bench.finish();

    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    for target in ["sshd-container", "docker-exec", "cold-exec"] {
        let login = &report["figures"]["login"][target];
        assert_eq!(login["n"], 3, "{target}: {login}\n{told}");
        assert!(login["p50"].as_f64().is_some_and(|milliseconds| milliseconds > 0.0), "{target}: {login}");
    }
    assert!(report["figures"]["gone"]["cold-exec"]["p50"].is_number(), "{report}");
    assert_eq!((containers_of(&name), processes_of(&name)), (0, vec![]));
    assert_eq!(std::fs::read_dir(temporary.path().join("temporary")).unwrap().count(), 0);
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing() {
    let bench = Bench::start(&["--only", "login", "--targets", "docker-exec,cold-exec"]);
    let name = poll_until("its folder", || bench.name());
    poll_until("two containers of it", || (containers_of(&name) >= 2).then_some(()));

    let process = rustix::process::Pid::from_raw(bench.process.id().cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    let (temporary, output) = bench.finish();

    assert!(!output.status.success());
    assert_eq!((containers_of(&name), processes_of(&name)), (0, vec![]));
    assert_eq!(std::fs::read_dir(temporary.path().join("temporary")).unwrap().count(), 0);
}
