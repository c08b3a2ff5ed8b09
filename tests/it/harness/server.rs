//! The server under test: one process per test, with its own configuration, keys, state and label.

use std::fmt::Write as _;
use std::ops::Deref;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::docker::{docker, docker_blocking};
use super::keys::Keys;
use super::launch::Launch;
use super::recipe::merged;
use super::target::Target;
use super::turn::Turn;
use super::{GUEST, poll_until, read};

/// SIGTERM to exit; sessions that still run are cut within it.
const STOP: Duration = Duration::from_secs(20);
/// How long containers may still be on their way out after their clients have left: how soon they go is for tests of that.
const REMOVAL: Duration = Duration::from_mins(1);

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
    auth: String,
    sections: String,
    laid_over: Option<String>,
    authorized_keys: &'static str,
    descriptors_max: Option<u32>,
    alone: bool,
    beside: bool,
    log: String,
    log_file: Option<String>,
    files: Vec<(String, String)>,
}

/// A running server. Derefs to the [`Target`] that clients connect to.
#[derive(Debug)]
pub(crate) struct TestServer {
    target: Target,
    process: Child,
    launch: Launch,
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
            auth: String::new(),
            sections: String::new(),
            laid_over: None,
            descriptors_max: None,
            authorized_keys: "authorized_keys",
            alone: false,
            beside: false,
            log: "{format: json, level: debug}".to_owned(),
            log_file: None,
            files: Vec::new(),
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

    /// SIGHUP, until the log says `outcome` once more.
    pub(crate) async fn reload(&self, outcome: &str) {
        let said = || self.log.text().matches(outcome).count();
        let before = said();
        signal(&self.process, Signal::HUP);
        poll_until(outcome, Duration::from_secs(10), async || (said() > before).then_some(())).await;
    }

    /// Asks the server to end, and does not wait for it.
    pub(crate) fn terminate(&self) {
        signal(&self.process, Signal::TERM);
    }

    /// After [`TestServer::terminate`]: a clean exit within `deadline`, and no container left.
    pub(crate) async fn assert_ends_within(&mut self, deadline: Duration) {
        self.assert_process_ends_within(deadline).await;
        self.assert_all_gone_within(Duration::ZERO).await;
    }

    /// The same, whatever is left.
    pub(crate) async fn assert_process_ends_within(&mut self, deadline: Duration) {
        let what = "the server's exit after SIGTERM";
        let exit = poll_until(what, deadline, async || self.process.try_wait().unwrap()).await;
        assert!(exit.success(), "the server ended with {exit}\n{}", self.log.text());
    }

    /// SIGKILL, which leaves everything as it is.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("a process of ours");
        self.process.wait().expect("a process of ours");
    }

    /// Starts it again after [`TestServer::kill`], with the same configuration, keys and state, on another port.
    pub(crate) async fn start_again(&mut self) {
        let (process, log, address) = self.launch.run(self.folder.path()).await;
        self.process = process;
        self.target = Target::new(self.folder.path(), address, Keys::at(self.folder.path()), log);
    }

    /// [`TestServer::kill`] and [`TestServer::start_again`].
    pub(crate) async fn kill_and_start_again(&mut self) {
        self.kill();
        self.start_again().await;
    }

    /// Asks the server to end, waits for it, and starts it again on the same folder.
    pub(crate) async fn end_and_start_again(&mut self) {
        self.terminate();
        let exit = poll_until("the server's exit", STOP, async || self.process.try_wait().unwrap()).await;
        assert!(exit.success(), "the server ended with {exit}\n{}", self.target.log.text());
        self.start_again().await;
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

    /// Lines of YAML under `auth`, indented by two; `FOLDER` stands for the test's folder, `CLIENT_KEY` for the line of
    /// the client's key.
    pub(crate) fn auth(mut self, lines: &str) -> Self {
        writeln!(self.auth, "{lines}").unwrap();
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

    /// Lines of YAML at the top level, such as `limits: {maxContainers: 2}`.
    pub(crate) fn section(mut self, lines: &str) -> Self {
        writeln!(self.sections, "{lines}").unwrap();
        self
    }

    /// A whole configuration; what it says wins.
    pub(super) fn laid_over(mut self, yaml: &str) -> Self {
        self.laid_over = Some(yaml.to_owned());
        self
    }

    /// Everything may be forwarded.
    pub(crate) fn forwarding(self) -> Self {
        let all = ["local", "remote", "socket", "agent", "x11"].map(|what| format!("{what}: enable"));
        self.section(&format!("policy: {{forwarding: {{{}}}}}", all.join(", ")))
    }

    /// `ulimit -n`.
    pub(crate) fn descriptors_max(mut self, count: u32) -> Self {
        self.descriptors_max = Some(count);
        self
    }

    /// The name of `auth.authorizedKeysFile` in the test's folder; `%u` stands for the username.
    pub(crate) fn authorized_keys(mut self, name: &'static str) -> Self {
        self.authorized_keys = name;
        self
    }

    /// No `auth.authorizedKeysFile` at all.
    pub(crate) fn no_authorized_keys(self) -> Self {
        self.authorized_keys("")
    }

    /// The section `log`; `FOLDER` stands for the test's folder.
    pub(crate) fn log(mut self, section: &str) -> Self {
        section.clone_into(&mut self.log);
        self
    }

    /// The log comes to this file in the test's folder, whoever writes it.
    pub(crate) fn log_file(mut self, name: &str) -> Self {
        self.log_file = Some(name.to_owned());
        self
    }

    /// A file in the test's folder that is to be there before the server starts, for its owner alone.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// No other test runs meanwhile: for what is measured in milliseconds.
    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// The test has a server already, which stays for longer than this one.
    pub(crate) fn beside(mut self, _other: &TestServer) -> Self {
        self.beside = true;
        self
    }

    /// Starts the server and waits until it says that it listens.
    pub(crate) async fn start(self) -> TestServer {
        let turn = match (self.beside, self.alone) {
            (true, _) => Turn::Within,
            (false, true) => Turn::alone().await,
            (false, false) => Turn::shared().await,
        };
        let folder = TempDir::with_prefix("coracle-it-").expect("a temporary folder");
        let keys = Keys::generate(folder.path());
        let mut yaml = self.yaml(folder.path());
        if let Some(above) = &self.laid_over {
            yaml = merged(&yaml, above);
        }
        std::fs::write(folder.path().join("config.yaml"), yaml).expect("a writable folder");
        for (name, text) in &self.files {
            let parent = folder.path().join(name);
            std::fs::create_dir_all(parent.parent().expect("a name in the folder"))
                .expect("a writable folder");
            std::fs::write(folder.path().join(name), text).expect("a writable folder");
            let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(folder.path().join(name), own).expect("a file of ours");
        }
        let log_file = self.log_file.map(|name| folder.path().join(name));
        let (environment, descriptors_max) = (self.environment, self.descriptors_max);
        let launch = Launch { environment, descriptors_max, log_file };
        let (process, log, address) = launch.run(folder.path()).await;
        let instance = read(&folder.path().join("state/instance-id")).trim().to_owned();
        let target = Target::new(folder.path(), address, keys, log);
        TestServer { target, process, launch, instance, errors_expected: false, folder, _turn: turn }
    }

    /// The suite runs once with each launcher; a test may also ask for one itself.
    fn launcher(&self) -> String {
        if self.docker_config.contains("launcher:") {
            return String::new();
        }
        format!("    launcher: {}\n", launcher())
    }

    fn yaml(&self, folder: &Path) -> String {
        let docker_host = self.docker_host.as_ref().map_or(String::new(), |host| format!("  host: {host}\n"));
        let authorized_keys = match self.authorized_keys {
            "" => String::new(),
            name => format!("  authorizedKeysFile: {}\n", folder.join(name).display()),
        };
        let key = read(&folder.join("client.pub"));
        let env_accept: Vec<_> = self.env_accept.iter().map(|pattern| format!("{pattern:?}")).collect();
        format!(
            "stateDir: {state}\nlog: {log}\nssh:\n  listen: 127.0.0.1:0\n{ssh}\
             auth:\n{authorized_keys}{auth}env: {{accept: [{env_accept}]}}\n\
             {sections}docker:\n{docker_host}  config:\n    container: {{image: {image:?}{container}}}\n    \
             imagePullPolicy: {pull_policy}\n{launcher}{docker_config}",
            launcher = self.launcher(),
            log = self.log.replace("FOLDER", &folder.display().to_string()),
            state = folder.join("state").display(),
            ssh = self.ssh,
            sections = self.sections,
            auth =
                self.auth.replace("FOLDER", &folder.display().to_string()).replace("CLIENT_KEY", key.trim()),
            env_accept = env_accept.join(", "),
            image = self.image,
            container = self.container,
            pull_policy = self.pull_policy,
            docker_config = self.docker_config,
        )
    }
}

/// The launcher that this run of the suite is about.
pub(crate) fn launcher() -> String {
    std::env::var("CORACLE_TEST_LAUNCHER").unwrap_or_else(|_| "exec".to_owned())
}

fn signal(process: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
        // Ended already is what we want.
        kill_process(pid, signal).ok();
    }
}
