//! The server under test: one process per test, with its own configuration, keys, state and label.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddrV4;
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::docker::{docker, docker_blocking};
use super::keys::Keys;
use super::target::{Log, Target};
use super::turn::Turn;
use super::{GUEST, poll_until, read};

const START: Duration = Duration::from_secs(10);
/// SIGTERM to exit; sessions that still run are cut within it.
const STOP: Duration = Duration::from_secs(20);
/// How long a container may still be on its way out after its client has left.
const REMOVAL: Duration = Duration::from_secs(5);

/// What a server is to be started with.
#[derive(Debug)]
pub(crate) struct Builder {
    image: String,
    pull_policy: &'static str,
    docker_host: Option<String>,
    docker_config: String,
    container: String,
    environment: Vec<(String, String)>,
    env_accept: Vec<&'static str>,
    ssh: String,
    authorized_keys: &'static str,
    alone: bool,
}

/// A running server. Derefs to the [`Target`] that clients connect to.
#[derive(Debug)]
pub(crate) struct TestServer {
    target: Target,
    process: Child,
    instance: String,
    errors_expected: bool,
    folder: TempDir,
    _turn: Turn,
}

impl TestServer {
    /// One with the defaults of the suite.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    pub(crate) fn builder() -> Builder {
        Builder {
            image: GUEST.to_owned(),
            pull_policy: "Never",
            docker_host: None,
            docker_config: String::new(),
            container: String::new(),
            environment: Vec::new(),
            env_accept: vec!["LANG", "LC_*", "COLORTERM", "FOO"],
            ssh: String::new(),
            authorized_keys: "authorized_keys",
            alone: false,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// This test means to make the server log an error.
    pub(crate) fn expect_errors(&mut self) {
        self.errors_expected = true;
    }

    /// The `--filter` that finds this server's containers and nobody else's.
    pub(crate) fn label(&self) -> String {
        format!("label=coracle.instance={}", self.instance)
    }

    /// The ids of its containers, in any state.
    pub(crate) async fn containers(&self) -> Vec<String> {
        let list = docker(&["ps", "-aq", "--no-trunc", "--filter", &self.label()]).await;
        list.lines().map(str::to_owned).collect()
    }

    /// Waits until there is exactly one container, and gives its id.
    pub(crate) async fn the_container(&self) -> String {
        poll_until("one container", Duration::from_secs(10), async || {
            match self.containers().await.as_slice() {
                [only] => Some(only.clone()),
                _ => None,
            }
        })
        .await
    }

    /// Fails when containers are left after `deadline`.
    pub(crate) async fn assert_all_gone_within(&self, deadline: Duration) {
        let start = Instant::now();
        loop {
            let left = self.containers().await;
            if left.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < deadline,
                "left after {deadline:?}: {left:?}\n-- server --\n{}",
                self.log.text()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the test: a clean exit on SIGTERM, no container left, no complaint in the log.
    pub(crate) async fn stop(mut self) {
        self.assert_all_gone_within(REMOVAL).await;
        signal(&self.process, Signal::TERM);
        let exit =
            poll_until("the server's exit after SIGTERM", STOP, async || self.process.try_wait().unwrap())
                .await;
        let log = self.target.log.text();
        assert!(exit.success(), "the server ended with {exit}\n{log}");
        assert!(!log.contains("panicked at"), "the server panicked\n{log}");
        assert!(
            self.errors_expected || !log.contains(r#""level":"ERROR""#),
            "the server logged an error\n{log}"
        );
    }
}

impl Deref for TestServer {
    type Target = Target;

    fn deref(&self) -> &Target {
        &self.target
    }
}

/// The last resort of a test that failed; [`TestServer::stop`] is the way out of one that passed.
impl Drop for TestServer {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            return;
        }
        signal(&self.process, Signal::TERM);
        let start = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if start.elapsed() > Duration::from_secs(5) {
                drop(self.process.kill());
                drop(self.process.wait());
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Ok(left) = docker_blocking(&["ps", "-aq", "--filter", &self.label()]) {
            for container in left.lines() {
                drop(docker_blocking(&["rm", "-fv", container]));
            }
        }
        if std::thread::panicking() {
            eprintln!(
                "-- log of the server in {} --\n{}",
                self.folder.path().display(),
                self.target.log.text()
            );
        }
    }
}

impl Builder {
    pub(crate) fn image(mut self, image: &str) -> Self {
        image.clone_into(&mut self.image);
        self
    }

    /// `Never` unless a test says otherwise: none may reach for a registry of the outer world.
    pub(crate) fn pull_policy(mut self, policy: &'static str) -> Self {
        self.pull_policy = policy;
        self
    }

    /// Another way to the engine.
    pub(crate) fn docker_host(mut self, host: &str) -> Self {
        self.docker_host = Some(host.to_owned());
        self
    }

    /// A line of YAML under `docker.config`, such as `host: {memory: 1}`.
    pub(crate) fn docker_config(mut self, line: &str) -> Self {
        writeln!(self.docker_config, "    {line}").unwrap();
        self
    }

    /// A field of `docker.config.container`, such as `user: nobody`.
    pub(crate) fn container(mut self, field: &str) -> Self {
        write!(self.container, ", {field}").unwrap();
        self
    }

    /// A line of YAML under `ssh`.
    pub(crate) fn ssh(mut self, line: &str) -> Self {
        writeln!(self.ssh, "  {line}").unwrap();
        self
    }

    pub(crate) fn env_accept(mut self, patterns: &[&'static str]) -> Self {
        self.env_accept = patterns.to_vec();
        self
    }

    /// A variable of the server's own environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The name of `auth.authorizedKeysFile` in the test's folder; `%u` stands for the username.
    pub(crate) fn authorized_keys(mut self, name: &'static str) -> Self {
        self.authorized_keys = name;
        self
    }

    /// No other test runs meanwhile: for what is measured in milliseconds.
    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Starts the server and waits until it says that it listens.
    pub(crate) async fn start(self) -> TestServer {
        let turn = if self.alone { Turn::alone().await } else { Turn::shared().await };
        let folder = TempDir::with_prefix("coracle-it-").expect("a temporary folder");
        let keys = Keys::generate(folder.path());
        let config = folder.path().join("config.yaml");
        std::fs::write(&config, self.yaml(folder.path())).expect("a writable folder");
        let mut process = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(["serve", "--config"])
            .arg(&config)
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server's binary");
        let log = follow(&mut process);
        let address = listening(&mut process, &log).await;
        let instance = read(&folder.path().join("state/instance-id")).trim().to_owned();
        let target = Target::new(folder.path(), address, keys, log);
        TestServer { target, process, instance, errors_expected: false, folder, _turn: turn }
    }

    fn yaml(&self, folder: &Path) -> String {
        let docker_host = self.docker_host.as_ref().map_or(String::new(), |host| format!("  host: {host}\n"));
        let env_accept: Vec<_> = self.env_accept.iter().map(|pattern| format!("{pattern:?}")).collect();
        format!(
            "stateDir: {state}\nlog: {{format: json, level: debug}}\nssh:\n  listen: 127.0.0.1:0\n{ssh}\
             auth: {{authorizedKeysFile: {authorized_keys}}}\nenv: {{accept: [{env_accept}]}}\n\
             docker:\n{docker_host}  config:\n    container: {{image: {image:?}{container}}}\n    \
             imagePullPolicy: {pull_policy}\n{docker_config}",
            state = folder.join("state").display(),
            ssh = self.ssh,
            authorized_keys = folder.join(self.authorized_keys).display(),
            env_accept = env_accept.join(", "),
            image = self.image,
            container = self.container,
            pull_policy = self.pull_policy,
            docker_config = self.docker_config,
        )
    }
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
async fn listening(process: &mut Child, log: &Log) -> SocketAddrV4 {
    poll_until("the server listens", START, async || {
        if let Some(exit) = process.try_wait().unwrap() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            panic!("the server ended with {exit} instead of listening\n{}", log.text());
        }
        log.lines().iter().find_map(|line| address_of(line))
    })
    .await
}

fn address_of(line: &str) -> Option<SocketAddrV4> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    // `tracing-subscriber` puts the fields under `fields` unless told to flatten them.
    let fields = line.get("fields").unwrap_or(&line);
    let says_so = fields.get("message")?.as_str()? == "listening";
    fields.get("address")?.as_str()?.parse().ok().filter(|_| says_so)
}

fn signal(process: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
        // Ended already is what we want.
        kill_process(pid, signal).ok();
    }
}
