//! What a server under test is to be started with.

use std::fmt::Write as _;
use std::path::Path;

use tempfile::TempDir;

use super::keys::Keys;
use super::launch::Launch;
use super::recipe::merged;
use super::server::TestServer;
use super::target::Target;
use super::turn::Turn;
use super::{GUEST, read};

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

impl Default for Builder {
    fn default() -> Self {
        Self {
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
        TestServer { target, process, launch, instance, errors_expected: false, folder, turn }
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
