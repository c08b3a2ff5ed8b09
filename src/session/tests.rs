//! Sessions on the double, with a client that this file plays.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::config::StdinLimits;
use super::{Budgets, Client, Cut, Ending, Remains, Session, SessionError, StdinSender, stdin_queue};
use crate::engine::fake::{Call, FakeEngine, Fault, Step};
use crate::engine::{
    self, ContainerSpec, Engine, EngineError, ExitStatus, LaunchStage, LaunchWatch, PullProgress, Signal,
    TerminalSize,
};
use crate::identity::Identity;
use crate::ids::Username;
use crate::policy::{self, Rules, Start, StartRequest};
use crate::pool::LaunchState;
use crate::value::ByteSize;

const DEADLINE: Duration = Duration::from_secs(20);

/// A client with a window of `credit` chunks.
struct Terminal {
    seen: Mutex<Vec<u8>>,
    credit: Semaphore,
    blocked: Notify,
}

impl Terminal {
    fn with_window(chunks: usize) -> Arc<Self> {
        Arc::new(Self { seen: Mutex::default(), credit: Semaphore::new(chunks), blocked: Notify::new() })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }
}

#[async_trait]
impl Client for Terminal {
    async fn stdout(&self, chunk: Bytes) -> io::Result<()> {
        if self.credit.available_permits() == 0 {
            self.blocked.notify_one();
        }
        self.credit.acquire().await.map_err(io::Error::other)?.forget();
        self.seen.lock().unwrap().extend_from_slice(&chunk);
        Ok(())
    }

    async fn stderr(&self, chunk: Bytes) -> io::Result<()> {
        self.stdout(chunk).await
    }
}

struct Running {
    engine: FakeEngine,
    client: Arc<Terminal>,
    stdin: StdinSender,
    signals: mpsc::Sender<Signal>,
    _sizes: watch::Sender<TerminalSize>,
    state: watch::Sender<LaunchState>,
    ending: Ending,
    cut: watch::Sender<Option<Cut>>,
    session: JoinHandle<Result<ExitStatus, SessionError>>,
}

impl Running {
    fn prepare(command: &str, client: Arc<Terminal>, limits: StdinLimits) -> Self {
        Self::prepare_on(None, command, client, limits)
    }

    fn prepare_on(
        terminal: Option<engine::Terminal>,
        command: &str,
        client: Arc<Terminal>,
        limits: StdinLimits,
    ) -> Self {
        let rules = Rules::default();
        let identity = Identity::proven(Username::parse("alice").unwrap());
        let here = SocketAddr::from(([127, 0, 0, 1], 22));
        let start = Start::Exec(command.as_bytes().to_vec());
        let request = StartRequest { start, env: Vec::new(), terminal, client: here, server: here };
        let permit = policy::decide(&rules, &identity, request).unwrap();
        let budget = Budgets::new(limits, std::env::temp_dir()).of_connection();
        let (stdin, queue) = stdin_queue(&budget);
        let (signals, signal_receiver) = mpsc::channel(4);
        let (sizes, size_receiver) = watch::channel(TerminalSize::from_client(80, 24));
        let (state, container) = watch::channel(LaunchState::InProgress(LaunchStage::Preparing));
        let (cut, cut_receiver) = watch::channel(None);
        let ending = Ending {
            channel_closed: CancellationToken::new(),
            remains: Remains::Go(CancellationToken::new()),
            cut: cut_receiver,
            overflowed: CancellationToken::new(),
            revoked: CancellationToken::new(),
        };
        let session = Session {
            permit,
            container,
            client: Arc::clone(&client) as Arc<dyn Client>,
            provision: None,
            stdin: queue,
            sizes: size_receiver,
            signals: signal_receiver,
            ending: ending.clone(),
        };
        #[expect(clippy::disallowed_methods, reason = "the test owns the task by its handle")]
        let session = tokio::spawn(session.run());
        Self { engine: FakeEngine::new(), client, stdin, signals, _sizes: sizes, state, ending, cut, session }
    }

    async fn open_container(&self) {
        let spec = ContainerSpec {
            name: "c".into(),
            hostname: "c".into(),
            labels: std::iter::empty().collect(),
            files: Vec::new(),
        };
        let container = self.engine.launch(&spec, &LaunchWatch::default()).await.unwrap();
        self.state.send_replace(LaunchState::Ready(container));
    }

    async fn start(command: &str, window: usize) -> Self {
        let running = Self::prepare(command, Terminal::with_window(window), StdinLimits::default());
        running.open_container().await;
        running
    }

    async fn result(self) -> (Result<ExitStatus, SessionError>, String) {
        let result = timeout(DEADLINE, self.session).await.expect("the session must end").unwrap();
        (result, self.client.text())
    }
}

/// E1, E2
#[tokio::test]
async fn output_comes_before_the_status() {
    let (result, text) = Running::start("echo hello; exit 7", 100).await.result().await;

    assert_eq!(result.unwrap(), ExitStatus::Exited(7));
    assert_eq!(text, "hello\n");
}

/// E6
#[tokio::test]
async fn input_that_came_before_the_program_reaches_it_and_so_does_its_end() {
    let running = Running::prepare("cat; echo done", Terminal::with_window(100), StdinLimits::default());
    running.stdin.push(b"early ").unwrap();

    running.open_container().await;
    running.stdin.push(b"late ").unwrap();
    running.stdin.end();

    let (result, text) = running.result().await;
    assert_eq!(result.unwrap(), ExitStatus::Exited(0));
    assert_eq!(text, "early late done\n");
}

/// D3
#[tokio::test]
async fn input_past_the_memory_bound_reaches_the_program_by_way_of_the_disk() {
    let limits = StdinLimits { memory: "1KiB".parse().unwrap(), ..StdinLimits::default() };
    let running = Running::prepare("cat", Terminal::with_window(100_000), limits);
    let sent: Vec<u8> = (0..500_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    for piece in sent.chunks(10_000) {
        running.stdin.push(piece).unwrap();
    }
    running.stdin.end();

    running.open_container().await;

    let (result, text) = running.result().await;
    assert_eq!(result.unwrap(), ExitStatus::Exited(0));
    assert!(text.as_bytes() == sent, "{} bytes of {}", text.len(), sent.len());
}

#[tokio::test]
async fn input_past_the_cap_ends_the_session_and_says_so() {
    let size: ByteSize = "64KiB".parse().unwrap();
    let limits = StdinLimits { memory: size, spill: size, cap: size, total: size, ..StdinLimits::default() };
    let running = Running::prepare("sleep 100", Terminal::with_window(1), limits);
    running.open_container().await;

    for _ in 0..20 {
        running.stdin.push(&vec![0; 20_000]).unwrap();
    }

    assert!(matches!(running.result().await.0, Err(SessionError::Overflow)));
}

/// I2
#[tokio::test]
async fn a_person_who_waits_for_a_pull_sees_how_far_it_is_and_a_script_does_not() {
    let progress = PullProgress { image: "big:1".to_owned(), layers_total: 3, ..PullProgress::default() };
    let pulling = LaunchState::InProgress(LaunchStage::Pulling(progress));
    let size = TerminalSize::from_client(80, 24);
    let terminal = engine::Terminal { term: "xterm".to_owned(), size, modes: Vec::new() };
    let limits = StdinLimits::default;
    let person = Running::prepare_on(Some(terminal), "echo x", Terminal::with_window(9), limits());
    let script = Running::prepare("echo x", Terminal::with_window(9), limits());

    person.state.send_replace(pulling.clone());
    script.state.send_replace(pulling);
    until(|| person.client.text().contains("pulling big:1: 0 of 3 layers")).await;
    script.open_container().await;

    assert_eq!(script.result().await.1, "x\n");
}

/// L12
#[tokio::test]
async fn a_program_whose_channel_closes_is_hung_up() {
    let running = Running::start("echo up; sleep 1000", 100).await;
    until(|| running.client.text().contains("up")).await;

    running.ending.channel_closed.cancel();

    assert!(matches!(running.result().await.0, Err(SessionError::Closed)));
}

/// L9
#[tokio::test]
async fn a_session_whose_own_container_is_lost_says_so() {
    let running = Running::start("echo up; sleep 1000", 100).await;
    until(|| running.client.text().contains("up")).await;

    running.state.send_replace(LaunchState::Lost("it was removed".to_owned()));

    let result = running.result().await.0;
    assert!(matches!(result, Err(SessionError::Cut(Cut::ContainerLost(_)))), "{result:?}");
}

/// G1
#[tokio::test]
async fn a_signal_reaches_the_program() {
    let running = Running::start("echo up; sleep 1000", 100).await;
    until(|| running.client.text().contains("up")).await;

    running.signals.send(Signal::Term).await.unwrap();

    let status = running.result().await.0.unwrap();
    assert!(matches!(status, ExitStatus::Signaled(Signal::Term) | ExitStatus::Exited(143)), "{status:?}");
}

/// D4
#[tokio::test]
async fn output_waits_for_the_clients_window() {
    let running = Running::start("echo one; echo two; exit 3", 0).await;
    let client = Arc::clone(&running.client);

    timeout(DEADLINE, client.blocked.notified()).await.unwrap();
    assert_eq!(client.text(), "");
    client.credit.add_permits(1000);

    let (result, text) = running.result().await;
    assert_eq!(result.unwrap(), ExitStatus::Exited(3));
    assert_eq!(text, "one\ntwo\n");
}

#[tokio::test]
async fn a_failed_exec_and_a_failed_wait_are_told() {
    for step in [Step::Exec, Step::Wait] {
        let running = Running::prepare("echo x", Terminal::with_window(9), StdinLimits::default());
        let gone = || EngineError::Gone { reason: "no such container".to_owned() };
        running.engine.break_step(step, Fault::fail(gone));

        running.open_container().await;

        let error = running.result().await.0.unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }
}

/// L7
#[tokio::test]
async fn a_drain_ends_a_session_that_waits_and_one_that_runs() {
    let waiting = Running::prepare("echo x", Terminal::with_window(9), StdinLimits::default());
    waiting.cut.send_replace(Some(Cut::Draining));
    assert!(matches!(waiting.result().await.0, Err(SessionError::Cut(Cut::Draining))));

    let running = Running::start("echo up; sleep 1000", 9).await;
    until(|| running.client.text().contains("up")).await;
    running.cut.send_replace(Some(Cut::Draining));
    assert!(matches!(running.result().await.0, Err(SessionError::Cut(Cut::Draining))));
}

#[tokio::test]
async fn the_container_is_asked_for_one_program_per_session() {
    let running = Running::start("exit 0", 9).await;
    let engine = running.engine.clone();

    running.result().await.0.unwrap();

    let execs = engine.calls().into_iter().filter(|call| matches!(call, Call::Exec(..))).count();
    assert_eq!(execs, 1);
}

async fn until(condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, poll).await.expect("within the deadline");
}
