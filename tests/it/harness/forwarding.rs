//! Both ends of what is forwarded: callers and a listener on this machine, and the same inside, where Perl plays them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Mutex;

use super::client::{Client, Output, Running};
use super::multiplex::Master;
use super::poll_until;
use super::ports::free_port;
use super::target::Target;

/// `tests/it/clients/inside.pl`
const INSIDE: &str = include_str!("../clients/inside.pl");
/// For all that is said over one forwarded connection.
const PATIENCE: Duration = Duration::from_mins(3);

/// A refusal that takes longer is a time-out of somebody's.
const SOON: Duration = Duration::from_secs(25);

/// Says `words` and that there is no more, and gives all that comes back.
async fn exchange(peer: impl AsyncRead + AsyncWrite, words: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(peer);
    let say = async {
        // Whoever refuses closes before all is said.
        if writer.write_all(words).await.is_ok() {
            writer.shutdown().await.ok();
        }
    };
    let mut heard = Vec::new();
    // A reset is an end like any other.
    let hear = async { reader.read_to_end(&mut heard).await.ok() };
    tokio::time::timeout(PATIENCE, async { tokio::join!(say, hear) }).await.expect("an end of the exchange");
    heard
}

/// The same with whoever listens on a port of this machine.
pub(crate) async fn exchange_at(port: u16, words: &[u8]) -> Vec<u8> {
    exchange(TcpStream::connect(("127.0.0.1", port)).await.expect("a listening client"), words).await
}

/// The same with a socket of this machine's file system.
pub(crate) async fn exchange_by(path: &Path, words: &[u8]) -> Vec<u8> {
    // A socket whose queue is full says so instead of letting its callers wait.
    let peer =
        poll_until("a place in the client's queue", SOON, async || UnixStream::connect(path).await.ok());
    exchange(peer.await, words).await
}

/// Listens on this machine and says everything back; for as long as the test runs.
pub(crate) async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let SocketAddr::V4(address) = listener.local_addr().expect("a bound socket") else { unreachable!() };
    tokio::spawn(async move {
        while let Ok((caller, _)) = listener.accept().await {
            tokio::spawn(say_back(caller));
        }
    });
    address.port()
}

/// The same on a socket of the file system.
pub(crate) fn echo_by(path: &Path) {
    let listener = UnixListener::bind(path).expect("a writable folder");
    tokio::spawn(async move {
        while let Ok((caller, _)) = listener.accept().await {
            tokio::spawn(say_back(caller));
        }
    });
}

async fn say_back(caller: impl AsyncRead + AsyncWrite) {
    let (mut reader, mut writer) = tokio::io::split(caller);
    // Half-closes like what it says back.
    if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
        writer.shutdown().await.ok();
    }
}

/// As an argument for a shell inside.
pub(crate) fn inside(arguments: &[&str]) -> String {
    format!("exec perl -e '{INSIDE}' {}", arguments.join(" "))
}

impl Target {
    /// OpenSSH's client, which says more than errors: forwards that fail are none to it.
    pub(crate) fn talkative_ssh(&self, arguments: &[&str]) -> Client {
        self.ssh(arguments).arg("-v")
    }
}

impl Master<'_> {
    /// `-O forward`, with `-L` and so on.
    pub(crate) async fn forward(&self, how: &str, what: &str) -> Output {
        self.control("forward", how, what).await
    }

    /// `-O cancel`
    pub(crate) async fn cancel(&self, how: &str, what: &str) -> Output {
        self.control("cancel", how, what).await
    }

    async fn control(&self, request: &str, how: &str, what: &str) -> Output {
        self.ssh(&[]).args(["-O", request]).args([how, what]).output().await
    }

    /// Listens inside, as `tests/it/clients/inside.pl` knows it; gives the port, which is 0 for a path.
    pub(crate) async fn listen_inside(&self, at: &str, how: &str) -> (Running, u16) {
        listening(self.ssh(&[&inside(&["listen", at, how])]).spawn()).await
    }

    /// Listens inside on the loopback, where whoever calls waits for good.
    pub(crate) async fn hole_inside(&self) -> (Running, u16) {
        listening(self.ssh(&[&inside(&["hole", "127.0.0.1:0"])]).spawn()).await
    }

    /// Calls somebody inside: its input goes there.
    pub(crate) fn dial_inside(&self, to: &str) -> Client {
        self.ssh(&[&inside(&["dial", to])])
    }
}

/// Waits until it says that it listens, and where.
async fn listening(mut server: Running) -> (Running, u16) {
    let said = server.wait_for("\n").await;
    let port = said.trim().rsplit(' ').next().and_then(|port| port.parse().ok());
    (server, port.unwrap_or_else(|| panic!("no port: {said}")))
}

/// A client that shows why a forward fails, for asking one after the other over one connection.
#[derive(Debug)]
pub(crate) struct Talker {
    client: Client,
    running: Mutex<Running>,
    port: u16,
    _folder: TempDir,
}

impl Talker {
    /// By `client`, a `ssh` without a command.
    pub(crate) async fn start(client: Client) -> Self {
        let folder = TempDir::with_prefix("coracle-it-talker-").expect("a temporary folder");
        let socket = folder.path().join("master").display().to_string();
        let client = client.args(["-S", &socket]);
        let running = client.clone().args(["-v", "-N", "-M"]).spawn();
        poll_until("the control master", SOON, async || Path::new(&socket).exists().then_some(())).await;
        Self { client, running: Mutex::new(running), port: free_port(), _folder: folder }
    }

    /// A channel of its own.
    pub(crate) fn ssh(&self, arguments: &[&str]) -> Client {
        self.client.clone().then(arguments)
    }

    /// Dials `HOST:PORT` or a path, where nobody is, and gives the reason that comes.
    pub(crate) async fn dial(&self, to: &str) -> String {
        let what = format!("{}:{to}", self.port);
        self.control("forward", "-L", &what).await.assert_success();
        let mut running = self.running.lock().await;
        running.forget_errors();
        let begun = Instant::now();
        assert_eq!(exchange_at(self.port, b"words").await, b"", "{to}");
        let said = running.wait_for_error_line(" open failed: ").await;
        assert!(begun.elapsed() < SOON, "{to} took {:?}: {said}", begun.elapsed());
        self.control("cancel", "-L", &what).await.assert_success();
        said.split_once(" open failed: ").expect("what it waited for").1.to_owned()
    }

    /// Whether it may be listened on.
    pub(crate) async fn listens(&self, what: &str) -> bool {
        self.control("forward", "-R", what).await.code() == 0
    }

    async fn control(&self, request: &str, how: &str, what: &str) -> Output {
        self.client.clone().args(["-O", request, how, what]).output().await
    }

    /// Ends the connection in good order.
    pub(crate) async fn end(self) {
        self.client.clone().args(["-O", "exit"]).output().await.assert_success();
        self.running.into_inner().end().await;
    }
}
