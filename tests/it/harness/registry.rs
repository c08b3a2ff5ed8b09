//! An image registry of a test's own: Debian's `docker-registry` on a free port, with an access log to count pulls.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::docker::{docker, docker_blocking};
use super::poll_until;
use super::ports::free_port;
use super::target::Log;
use super::turn::Turn;

/// `tester` with the password `correct`.
const HTPASSWD: &str = "tester:$2y$05$Zi3mUMehAUYnHmyoMc6Utu8XiHNqWZAcxHuOORQEkyn5A8vA8R9yG\n";

/// A registry, and the tags that it made the engine know.
#[derive(Debug)]
pub(crate) struct Registry {
    process: Child,
    pub(crate) host: String,
    log: Log,
    tags: Vec<String>,
    _folder: TempDir,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// One that wants a name and a password.
    pub(crate) async fn start_closed() -> Self {
        Self::start_with("auth: {htpasswd: {realm: test, path: HTPASSWD}}\n").await
    }

    async fn start_with(extra: &str) -> Self {
        // Not beside somebody who measures milliseconds.
        let _turn = Turn::shared().await;
        let folder = TempDir::with_prefix("coracle-it-registry-").expect("a temporary folder");
        let host = format!("127.0.0.1:{}", free_port());
        let htpasswd = folder.path().join("htpasswd");
        std::fs::write(&htpasswd, HTPASSWD).expect("a writable folder");
        let extra = extra.replace("HTPASSWD", &htpasswd.display().to_string());
        let config = folder.path().join("config.yml");
        let storage = folder.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{host}'}}\n{extra}",
            storage.display()
        );
        std::fs::write(&config, text).expect("a writable folder");
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let log = Log::default();
        let (stdout, writer) = (process.stdout.take().expect("a pipe"), log.clone());
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| writer.push(line));
        });
        let registry = Self { process, host: host.clone(), log, tags: Vec::new(), _folder: folder };
        poll_until("the registry listens", Duration::from_secs(10), async || {
            TcpStream::connect(&host).await.ok()
        })
        .await;
        registry
    }

    /// Pushes `image` as `name` (with a tag) and gives the full reference; the engine keeps a copy under it.
    pub(crate) async fn push(&mut self, image: &str, name: &str) -> String {
        let _turn = Turn::shared().await;
        let reference = self.reference(name);
        docker(&["tag", image, &reference]).await;
        self.tags.push(reference.clone());
        docker(&["push", "-q", &reference]).await;
        reference
    }

    /// `host:port/name`; the engine's copy of it is removed at the end.
    pub(crate) fn reference(&mut self, name: &str) -> String {
        let reference = format!("{}/{name}", self.host);
        self.tags.push(reference.clone());
        reference
    }

    /// How many times a manifest was asked for: at least once per pull, never without one.
    pub(crate) fn manifests_served(&self) -> usize {
        self.log
            .lines()
            .iter()
            .filter(|line| line.starts_with("127.0.0.1") && line.contains("/manifests/"))
            .count()
    }

    /// From here on nobody listens.
    pub(crate) fn stop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
        for tag in &self.tags {
            // A test may have removed it, or never pulled it.
            drop(docker_blocking(&["rmi", tag]));
        }
    }
}
