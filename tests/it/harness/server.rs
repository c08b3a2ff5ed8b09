//! The server under test: one process per test, with its own configuration, keys, state and label.

use std::ops::Deref;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::builder::Builder;
use super::docker::{docker, docker_blocking};
use super::keys::Keys;
use super::launch::Launch;
use super::poll_until;
use super::target::Target;
use super::turn::Turn;

/// SIGTERM to exit; sessions that still run are cut within it.
const STOP: Duration = Duration::from_secs(20);
/// How long containers may still be on their way out after their clients have left: how soon they go is for tests of that.
const REMOVAL: Duration = Duration::from_mins(1);

/// A running server. Derefs to the [`Target`] that clients connect to.
#[derive(Debug)]
pub(crate) struct TestServer {
    pub(super) target: Target,
    pub(super) process: Child,
    pub(super) launch: Launch,
    pub(super) instance: String,
    pub(super) errors_expected: bool,
    pub(super) folder: TempDir,
    #[expect(dead_code, reason = "held, not read")]
    pub(super) turn: Turn,
}

impl TestServer {
    /// One with the defaults of the suite.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    pub(crate) fn builder() -> Builder {
        Builder::default()
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

    /// All of them go, however busy the engine is, and each by whoever had it: the reaper finds nothing.
    pub(crate) async fn assert_all_given_back(&self) {
        self.assert_all_gone_within(REMOVAL).await;
        assert!(!self.log.text().contains(r#""message":"reaped""#), "{}", self.log.text());
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

fn signal(process: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
        // Ended already is what we want.
        kill_process(pid, signal).ok();
    }
}
