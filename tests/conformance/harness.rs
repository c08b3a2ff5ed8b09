//! One engine, containers on it, programs in them; a deadline on everything.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::forwards::narrow;
use crate::remote::Wire;
use coracle::engine::docker::{Config, Docker, Endpoint, ImagePullPolicy, Launcher, SignalPath};
use coracle::engine::fake::FakeEngine;
use coracle::engine::{
    Container, ContainerSpec, Engine, EngineError, ExitStatus, LABEL_CONNECTION, LABEL_INSTANCE,
    LaunchFailure, LaunchWatch, Output, Process, ProcessSpec, Program, Terminal, TerminalSize,
};
use coracle::ids::{ConnectionId, InstanceId};
use futures::StreamExt as _;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

/// Nothing here takes that long, even on a machine that builds something else at the same time.
pub(crate) const DEADLINE: Duration = Duration::from_mins(4);

/// An engine under test.
pub(crate) struct Bench {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) instance: InstanceId,
    /// Where inits meet the server.
    folder: Option<TempDir>,
    /// The way to an engine elsewhere.
    _wire: Option<Wire>,
}

pub(crate) fn config(image: &str) -> Config {
    let mut config = Config::default();
    if let Ok(host) = std::env::var("DOCKER_HOST") {
        config.host = host.parse().expect("an endpoint");
    }
    config.config.container.image = Some(image.to_owned());
    config.config.image_pull_policy = ImagePullPolicy::Never;
    config
}

/// The socket of an engine on this machine.
pub(crate) fn socket(config: &Config) -> PathBuf {
    match &config.host {
        Endpoint::Unix(path) => path.clone(),
        other => panic!("a local engine is needed, not `{other}`"),
    }
}

pub(crate) fn bench(config: &Config) -> Bench {
    bench_of(Docker::new(config).expect("a good configuration"))
}

pub(crate) fn bench_by_exec(config: &Config) -> Bench {
    bench_of(Docker::new(config).expect("a good configuration").with_signal_path(SignalPath::Exec))
}

pub(crate) fn bench_of(docker: Docker) -> Bench {
    Bench { engine: Arc::new(docker), instance: InstanceId::random(), folder: None, _wire: None }
}

pub(crate) fn guest() -> Bench {
    bench(&config("coracle/guest:latest"))
}

pub(crate) fn guest_by_exec() -> Bench {
    bench_by_exec(&config("coracle/guest:latest"))
}

pub(crate) fn tiny() -> Bench {
    bench(&config("coracle/tiny:latest"))
}

pub(crate) fn tiny_by_exec() -> Bench {
    bench_by_exec(&config("coracle/tiny:latest"))
}

/// With an init that connects to a socket.
pub(crate) fn guest_by_init() -> Bench {
    by_init("coracle/guest:latest", |_| {})
}

pub(crate) fn tiny_by_init() -> Bench {
    by_init("coracle/tiny:latest", |_| {})
}

/// With an init that is at the end of an attached stream, on an engine elsewhere.
pub(crate) fn guest_by_remote_init() -> Bench {
    by_remote_init("coracle/guest:latest", |_| {})
}

pub(crate) fn tiny_by_remote_init() -> Bench {
    by_remote_init("coracle/tiny:latest", |_| {})
}

/// With programs that the engine starts, and sockets that a helper looks after.
pub(crate) fn guest_by_helper() -> Bench {
    by_helper("coracle/guest:latest", |_| {})
}

pub(crate) fn tiny_by_helper() -> Bench {
    by_helper("coracle/tiny:latest", |_| {})
}

/// The same ways in containers that can do little.
pub(crate) fn narrow_by_helper() -> Bench {
    by_helper("coracle/tiny:latest", narrow)
}

pub(crate) fn narrow_by_init() -> Bench {
    by_init("coracle/tiny:latest", narrow)
}

pub(crate) fn narrow_by_remote_init() -> Bench {
    by_remote_init("coracle/tiny:latest", narrow)
}

fn by_helper(image: &str, change: impl FnOnce(&mut Config)) -> Bench {
    let mut config = config(image);
    change(&mut config);
    bench_forwarding(&config)
}

pub(crate) fn bench_forwarding(config: &Config) -> Bench {
    bench_of(Docker::new(config).expect("a good configuration").with_forwarding(true))
}

fn by_remote_init(image: &str, change: impl FnOnce(&mut Config)) -> Bench {
    let mut config = config(image);
    config.config.launcher = Launcher::Init;
    change(&mut config);
    let wire = Wire::to(socket(&config));
    config.host = wire.endpoint.clone();
    Bench { _wire: Some(wire), ..bench(&config) }
}

fn by_init(image: &str, change: impl FnOnce(&mut Config)) -> Bench {
    let mut config = config(image);
    config.config.launcher = Launcher::Init;
    change(&mut config);
    let folder = TempDir::with_prefix("coracle-conformance-").expect("a temporary folder");
    let docker =
        Docker::new(&config).expect("a good configuration").with_init_folder(folder.path().join("init"));
    Bench { folder: Some(folder), ..bench_of(docker) }
}

/// One with an image that the engine does not have.
pub(crate) fn missing() -> Bench {
    bench(&config("coracle/missing:latest"))
}

pub(crate) fn fake() -> Bench {
    let engine = FakeEngine::new();
    engine.update_image("sha256:1");
    Bench { engine: Arc::new(engine), instance: InstanceId::random(), folder: None, _wire: None }
}

/// Runs a behaviour with a deadline, removes what it left, and fails if it left anything.
pub(crate) async fn on<F: Future<Output = ()> + Send + 'static>(
    bench: Bench,
    behaviour: impl FnOnce(Arc<Bench>) -> F,
) {
    let bench = Arc::new(bench);
    // In a task of its own, so that a failed assertion does not keep its containers.
    #[expect(clippy::disallowed_methods, reason = "it is awaited on the next line")]
    let run = tokio::spawn(timeout(DEADLINE, behaviour(Arc::clone(&bench))));
    let outcome = run.await;
    let left = bench.engine.list_owned(&bench.instance).await.expect("a list of containers");
    for container in &left {
        bench.engine.remove(&container.id).await.expect("to remove what was left");
    }
    match outcome {
        Ok(done) => done.expect("the behaviour within its deadline"),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
    assert!(left.is_empty(), "{} containers were left behind", left.len());
    if let Some(folder) = &bench.folder {
        let rooms = std::fs::read_dir(folder.path().join("init")).expect("a folder of rooms").flatten();
        let rooms = rooms.filter(|entry| entry.path().is_dir()).count();
        assert_eq!(rooms, 0, "rooms were left behind");
    }
}

impl Bench {
    pub(crate) fn spec(&self) -> ContainerSpec {
        let connection = ConnectionId::random();
        ContainerSpec {
            name: format!("coracle-test-{connection}"),
            hostname: connection.short().to_owned(),
            labels: BTreeMap::from([
                (LABEL_INSTANCE.to_owned(), self.instance.to_string()),
                (LABEL_CONNECTION.to_owned(), connection.to_string()),
            ]),
            files: Vec::new(),
        }
    }

    pub(crate) async fn try_launch(&self) -> Result<Arc<dyn Container>, LaunchFailure> {
        self.engine.launch(&self.spec(), &LaunchWatch::default()).await
    }

    pub(crate) async fn launch(&self) -> Arc<dyn Container> {
        self.try_launch().await.expect("a container")
    }

    /// Launches, runs one command, removes.
    pub(crate) async fn run(&self, command: &str) -> Ended {
        let container = self.launch().await;
        let ended = run(&container, &shell(command), b"").await;
        container.remove().await.expect("a removal");
        ended
    }

    pub(crate) async fn containers(&self) -> usize {
        // One through which files get into a volume has no connection, and is gone in a moment.
        let owned = self.engine.list_owned(&self.instance).await.expect("a list");
        owned.iter().filter(|container| container.label(LABEL_CONNECTION).is_some()).count()
    }
}

/// How a program went.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) status: Result<ExitStatus, EngineError>,
}

impl Ended {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    pub(crate) fn code(&self) -> u32 {
        match &self.status {
            Ok(ExitStatus::Exited(code)) => *code,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn program(program: Program) -> ProcessSpec {
    ProcessSpec { program, env: Vec::new(), terminal: None, username: "joe".to_owned() }
}

pub(crate) fn shell(command: &str) -> ProcessSpec {
    program(Program::ShellCommand(command.as_bytes().to_vec()))
}

pub(crate) fn args(arguments: &[&str]) -> ProcessSpec {
    program(Program::Args(arguments.iter().map(|&argument| argument.to_owned()).collect()))
}

/// On a terminal of 100×40.
pub(crate) fn on_terminal(spec: ProcessSpec) -> ProcessSpec {
    let terminal = Terminal {
        term: "xterm-256color".to_owned(),
        size: TerminalSize::from_client(100, 40),
        modes: Vec::new(),
    };
    ProcessSpec { terminal: Some(terminal), ..spec }
}

/// Starts a program, gives it all of `stdin`, and follows it to its end.
pub(crate) async fn run(container: &Arc<dyn Container>, spec: &ProcessSpec, stdin: &[u8]) -> Ended {
    let process = container.exec(spec).await.expect("a program");
    let Process { stdin: mut pipe, mut output, control } = process;
    let feed = async {
        // A program that ends early may leave input unread.
        drop(pipe.write_all(stdin).await);
        drop(pipe.shutdown().await);
        pipe
    };
    let collect = async {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(piece) = output.next().await {
            match piece.expect("sound output") {
                Output::Stdout(piece) => stdout.extend(piece),
                Output::Stderr(piece) => stderr.extend(piece),
            }
        }
        (stdout, stderr)
    };
    let (_pipe, (stdout, stderr)) =
        timeout(DEADLINE, futures::future::join(feed, collect)).await.expect("an end");
    Ended { stdout, stderr, status: control.wait().await }
}

/// A program with its output read as far as needed.
pub(crate) struct Running {
    pub(crate) process: Process,
    seen: Vec<u8>,
}

impl Running {
    pub(crate) async fn start(container: &Arc<dyn Container>, spec: &ProcessSpec) -> Self {
        Self { process: container.exec(spec).await.expect("a program"), seen: Vec::new() }
    }

    pub(crate) async fn say(&mut self, input: &str) {
        self.process.stdin.write_all(input.as_bytes()).await.expect("to write");
        self.process.stdin.flush().await.expect("to flush");
    }

    /// Reads until `text` has come, and forgets everything up to its end.
    pub(crate) async fn expect(&mut self, text: &str) -> String {
        let found = timeout(DEADLINE, async {
            loop {
                if let Some(at) = find(&self.seen, text.as_bytes()) {
                    return self.seen.drain(..at + text.len()).collect::<Vec<_>>();
                }
                match self.process.output.next().await {
                    Some(Ok(Output::Stdout(piece) | Output::Stderr(piece))) => self.seen.extend(piece),
                    other => panic!(
                        "{other:?} instead of {text:?} after {:?}",
                        String::from_utf8_lossy(&self.seen)
                    ),
                }
            }
        });
        let found = found.await.unwrap_or_else(|_| {
            panic!("no {text:?} in time, but {:?}", String::from_utf8_lossy(&self.seen));
        });
        String::from_utf8_lossy(&found).into_owned()
    }

    pub(crate) async fn finish(mut self) -> Ended {
        let rest = timeout(DEADLINE, async {
            while let Some(Ok(Output::Stdout(piece) | Output::Stderr(piece))) =
                self.process.output.next().await
            {
                self.seen.extend(piece);
            }
        });
        rest.await.expect("the output's end");
        let status = self.process.control.wait().await;
        Ended { stdout: self.seen, stderr: Vec::new(), status }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
