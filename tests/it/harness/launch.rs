//! Starts the server's process and waits until it listens.

use std::io::{BufRead, BufReader};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::poll_until;
use super::target::Log;

/// Longer than the server waits for an engine that does not answer.
const START: Duration = Duration::from_secs(15);
/// How the process is started, the first time and again.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) environment: Vec<(String, String)>,
    pub(super) descriptors_max: Option<u32>,
    /// Where the log goes, if not to standard error.
    pub(super) log_file: Option<PathBuf>,
}

impl Launch {
    /// Starts the process and waits until it says that it listens.
    pub(super) async fn run(&self, folder: &Path) -> (Child, Log, SocketAddrV4) {
        let mut command = match self.descriptors_max {
            None => Command::new(program()),
            Some(count) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {count}; exec \"$0\" \"$@\"")]).arg(program());
                shell
            }
        };
        let mut process = command
            .args(["serve", "--config"])
            .arg(folder.join("config.yaml"))
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server's binary");
        let log = follow(&mut process);
        let address = listening(&mut process, &log, self.log_file.as_deref()).await;
        (process, log, address)
    }
}

/// `CORACLE_TEST_SERVER`, for another build such as a release, else what cargo has just built.
fn program() -> PathBuf {
    std::env::var_os("CORACLE_TEST_SERVER")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_coracle")), PathBuf::from)
}

/// Keeps the log of a process as it comes.
fn follow(process: &mut Child) -> Log {
    let log = Log::default();
    let stderr = process.stderr.take().expect("standard error is piped");
    let writer = log.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            writer.push(line);
        }
    });
    log
}

/// The address from the line that says `listening`.
async fn listening(process: &mut Child, log: &Log, file: Option<&Path>) -> SocketAddrV4 {
    poll_until("the server listens", START, async || {
        if let Some(exit) = process.try_wait().unwrap() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            panic!("the server ended with {exit} instead of listening\n{}", log.text());
        }
        let lines = match file {
            None => log.lines(),
            Some(file) => {
                std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
            }
        };
        lines.iter().rev().find_map(|line| address_of(line))
    })
    .await
}

fn address_of(line: &str) -> Option<SocketAddrV4> {
    if let Some((_, rest)) = line.split_once("listening address=") {
        return rest.split_whitespace().next()?.parse().ok();
    }
    let line: serde_json::Value = serde_json::from_str(line.get(line.find('{')?..)?).ok()?;
    // `tracing-subscriber` puts the fields under `fields` unless told to flatten them.
    let fields = line.get("fields").unwrap_or(&line);
    let says_so = fields.get("message")?.as_str()? == "listening";
    fields.get("address")?.as_str()?.parse().ok().filter(|_| says_so)
}
