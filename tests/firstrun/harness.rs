//! A person's machine: a home with a key pair, the program as its owner would start it, and OpenSSH's client.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The image with next to nothing in it.
pub(crate) const TINY: &str = "coracle/tiny";
/// For whatever should take a moment, on a machine that does other things as well.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// A home, empty but for `~/.ssh/id_ed25519` and its public half.
pub(crate) struct Home {
    pub(crate) folder: TempDir,
}

/// A server that somebody has started in front of them.
pub(crate) struct Server {
    process: Child,
    stdout: Said,
    stderr: Said,
}

/// What a program has written so far.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<String>>);

impl Home {
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("coracle-firstrun-").unwrap();
        std::fs::create_dir(folder.path().join(".ssh")).unwrap();
        let home = Self { folder };
        let key = home.path(".ssh/id_ed25519");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).output();
        assert_succeeds(&made.unwrap());
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, in this home and with nothing else in its environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
        command.args(args).current_dir(self.folder.path()).env_clear().env("HOME", self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(crate) fn serve(&self, args: &[&str]) -> Server {
        Server::start(self.command(&[&["serve"], args].concat()))
    }

    /// What a client is told by `command` there, with this home's key. The host key has to be `fingerprint`.
    pub(crate) fn ssh(&self, address: SocketAddr, fingerprint: &str, command: &str) -> Output {
        let known = self.path("known_hosts");
        if !known.exists() {
            let scanned = Command::new("ssh-keyscan")
                .args(["-T", "30", "-t", "ed25519", "-p", &address.port().to_string()])
                .arg(address.ip().to_string())
                .output()
                .unwrap();
            std::fs::write(&known, &scanned.stdout).unwrap();
            let shown = Command::new("ssh-keygen").arg("-lf").arg(&known).output().unwrap();
            assert!(
                text(&shown.stdout).contains(fingerprint),
                "{} is not {fingerprint}",
                text(&shown.stdout)
            );
        }
        Command::new("ssh")
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "ConnectTimeout=30",
            ])
            .args(["-o", &format!("UserKnownHostsFile={}", known.display())])
            .arg("-i")
            .arg(self.path(".ssh/id_ed25519"))
            .args(["-p", &address.port().to_string(), &format!("you@{}", address.ip()), command])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

impl Server {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Said::follow(process.stdout.take().unwrap());
        let stderr = Said::follow(process.stderr.take().unwrap());
        Self { process, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The address that it says it listens on.
    pub(crate) fn address(&mut self) -> SocketAddr {
        poll("the server listens", || {
            let log = self.stderr.text();
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("the server ended with {status} instead of listening\n{log}");
            }
            let line = log.lines().find(|line| line.contains("listening address="))?.to_owned();
            line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok()
        })
    }

    /// Asks it to end, which it has to do cleanly.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = poll("the server's end", || self.process.try_wait().unwrap());
        assert!(status.success(), "the server ended with {status}\n{}", self.stderr());
    }
}

/// Only of a test that failed is anything left here.
impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            kill_process(self.pid(), Signal::TERM).ok();
            let begun = Instant::now();
            while matches!(self.process.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(50));
            }
            self.process.kill().ok();
            self.process.wait().ok();
        }
    }
}

impl Said {
    fn follow(stream: impl Read + Send + 'static) -> Self {
        let said = Self::default();
        let writer = said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let mut text = writer.0.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        said
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// Waits until there is an answer.
pub(crate) fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn assert_succeeds(output: &Output) {
    assert!(output.status.success(), "{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn top_level(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The containers of the server with this state folder, in any state.
pub(crate) fn containers_of(state: &Path) -> String {
    let instance = std::fs::read_to_string(state.join("instance-id")).unwrap();
    let label = format!("label=coracle.instance={}", instance.trim());
    let output = Command::new("docker").args(["ps", "-aq", "--filter", &label]).output().unwrap();
    assert_succeeds(&output);
    text(&output.stdout)
}
