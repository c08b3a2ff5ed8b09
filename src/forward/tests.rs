//! Forwards on the double, with a client that this file plays.

mod callers;
mod displays;
mod doors_tests;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Client, End, Ending, Traffic, Tunnel, relay};
use crate::engine::fake::{FakeEngine, Service};
use crate::engine::{Address, Container, ContainerSpec, DialSpec, Engine, LaunchWatch, Process};
use crate::session::config::StdinLimits;
use crate::session::{Budgets, Cut, StdinSender, stdin_queue};
use crate::value::ByteSize;

const DEADLINE: Duration = Duration::from_secs(20);

/// A client, by what it saw, in order.
pub(super) struct Seen {
    seen: Mutex<Vec<u8>>,
    window: Semaphore,
}

#[async_trait]
impl Client for Seen {
    async fn data(&self, chunk: Bytes) -> io::Result<()> {
        self.window.acquire().await.map_err(io::Error::other)?.forget();
        self.seen.lock().unwrap().extend_from_slice(&chunk);
        Ok(())
    }

    async fn eof(&self) {
        self.seen.lock().unwrap().extend_from_slice(b"<eof>");
    }

    async fn close(&self) {
        self.seen.lock().unwrap().extend_from_slice(b"<close>");
    }
}

/// A channel of a client that we play.
pub(super) struct Channel {
    client: Arc<Seen>,
    input: StdinSender,
    closed: CancellationToken,
    cut: watch::Sender<Option<Cut>>,
    revoked: CancellationToken,
}

impl Channel {
    fn with(limits: StdinLimits, window: usize) -> (Self, Tunnel) {
        let budget = Budgets::new(limits, std::env::temp_dir()).of_connection();
        let (input, queue) = stdin_queue(&budget);
        let client = Arc::new(Seen { seen: Mutex::default(), window: Semaphore::new(window) });
        let (closed, revoked) = (CancellationToken::new(), CancellationToken::new());
        let (cut, cut_receiver) = watch::channel(None);
        let ending = Ending {
            closed: closed.clone(),
            overflowed: CancellationToken::new(),
            cut: cut_receiver,
            revoked: Box::pin(revoked.clone().cancelled_owned()),
            over: CancellationToken::new(),
            container_goes: true,
        };
        let tunnel = Tunnel { client: Arc::clone(&client) as Arc<dyn Client>, input: queue, ending };
        (Self { client, input, closed, cut, revoked }, tunnel)
    }

    fn open() -> (Self, Tunnel) {
        Self::with(StdinLimits::default(), 1000)
    }

    fn close(&self) {
        self.input.end();
        self.closed.cancel();
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.client.seen.lock().unwrap()).into_owned()
    }

    async fn sees(&self, expected: &str) {
        until(|| self.seen() == expected, || format!("{:?} instead of {expected:?}", self.seen())).await;
    }
}

pub(super) async fn until(condition: impl Fn() -> bool, what: impl Fn() -> String) {
    let poll = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(DEADLINE, poll).await.is_ok(), "{}", what());
}

pub(super) async fn container() -> (FakeEngine, Arc<dyn Container>) {
    let engine = FakeEngine::new();
    let labels = std::iter::empty().collect();
    let spec = ContainerSpec { name: "c".into(), hostname: "c".into(), labels, files: Vec::new() };
    let container = engine.launch(&spec, &LaunchWatch::default()).await.unwrap();
    (engine, container)
}

async fn dialled(service: Service) -> Process {
    let (engine, container) = container().await;
    let to = Address::Tcp { host: "web".to_owned(), port: 80 };
    engine.serve(&to, service);
    container.dial(&DialSpec { to, spares_neighbours: true }).await.unwrap()
}

/// Somebody whom this file plays, too.
async fn played() -> (DuplexStream, Process) {
    let (sender, mut callers) = mpsc::channel(1);
    let process = dialled(Service::Played(sender)).await;
    (callers.recv().await.unwrap(), process)
}

#[expect(clippy::disallowed_methods, reason = "the test owns the task by its handle")]
fn relayed(process: Process, tunnel: Tunnel) -> JoinHandle<Traffic> {
    tokio::spawn(relay(process, tunnel))
}

async fn result(relay: JoinHandle<Traffic>) -> Traffic {
    timeout(DEADLINE, relay).await.expect("the forward must end").unwrap()
}

/// F1
#[tokio::test]
async fn what_is_said_comes_back_then_the_end_then_the_close() {
    let (channel, tunnel) = Channel::open();
    let relay = relayed(dialled(Service::Echo).await, tunnel);

    channel.input.push(b"hello ").unwrap();
    channel.input.push(b"there").unwrap();
    channel.input.end();

    let traffic = result(relay).await;
    assert_eq!(channel.seen(), "hello there<eof><close>");
    assert_eq!(traffic, Traffic { sent: 11, received: 11, end: End::Complete });
}

/// F5
#[tokio::test]
async fn either_side_may_end_first_and_still_listen() {
    let (mut web, process) = played().await;
    let (channel, tunnel) = Channel::open();
    let relay = relayed(process, tunnel);
    channel.input.push(b"ask").unwrap();
    channel.input.end();
    let mut asked = String::new();
    web.read_to_string(&mut asked).await.unwrap();
    assert_eq!(asked, "ask");
    web.write_all(b"answer").await.unwrap();
    channel.sees("answer").await;
    web.shutdown().await.unwrap();
    assert_eq!(result(relay).await.end, End::Complete);
    assert_eq!(channel.seen(), "answer<eof><close>");

    let (mut web, process) = played().await;
    let (channel, tunnel) = Channel::open();
    let relay = relayed(process, tunnel);
    web.write_all(b"greeting").await.unwrap();
    web.shutdown().await.unwrap();
    channel.sees("greeting<eof>").await;
    channel.input.push(b"late").unwrap();
    channel.input.end();
    let mut heard = String::new();
    web.read_to_string(&mut heard).await.unwrap();

    assert_eq!(heard, "late");
    assert_eq!(result(relay).await.end, End::Complete);
    assert_eq!(channel.seen(), "greeting<eof><close>");
}

/// F5
#[tokio::test]
async fn a_client_may_close_without_an_end_after_it_has_heard_all() {
    let (mut web, process) = played().await;
    let (channel, tunnel) = Channel::open();
    let relay = relayed(process, tunnel);
    web.write_all(b"greeting").await.unwrap();
    web.shutdown().await.unwrap();
    channel.sees("greeting<eof>").await;

    channel.close();

    assert_eq!(web.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(result(relay).await.end, End::Closed);
}

/// F5
#[tokio::test]
async fn what_a_client_does_not_read_waits_where_it_is() {
    let (mut web, process) = played().await;
    let (channel, tunnel) = Channel::with(StdinLimits::default(), 0);
    let relay = relayed(process, tunnel);
    let flood = vec![b'x'; 8 << 20];

    let stuck = timeout(Duration::from_millis(300), web.write_all(&flood)).await;

    assert!(stuck.is_err(), "somewhere 8 MiB were kept for a client that reads nothing");
    channel.close();
    assert_eq!(result(relay).await.end, End::Closed);
}

/// F5
#[tokio::test]
async fn a_channel_that_its_client_closes_cuts_the_socket() {
    let (mut web, process) = played().await;
    let control = Arc::clone(&process.control);
    let (channel, tunnel) = Channel::open();
    let relay = relayed(process, tunnel);

    channel.close();

    assert_eq!(result(relay).await.end, End::Closed);
    assert_eq!(channel.seen(), "", "nobody is there to be told");
    timeout(DEADLINE, control.ended()).await.expect("the socket must go");
    assert_eq!(web.read(&mut [0; 8]).await.unwrap(), 0);
}

/// F5
#[tokio::test]
async fn what_was_said_before_the_close_arrives_and_what_nobody_takes_is_given_up() {
    let (mut web, process) = played().await;
    let (channel, tunnel) = Channel::open();
    let relay = relayed(process, tunnel);
    let words = vec![b'x'; 3 << 20];

    channel.input.push(&words).unwrap();
    channel.close();

    let mut heard = Vec::new();
    timeout(DEADLINE, web.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard.len(), words.len());
    drop(web);
    assert_eq!(result(relay).await.sent, 3 << 20);

    tokio::time::pause();
    let (deaf, process) = played().await;
    let control = Arc::clone(&process.control);
    let (channel, tunnel) = Channel::open();
    let relay = relayed(process, tunnel);
    channel.input.push(&words).unwrap();
    channel.close();
    assert_eq!(timeout(DEADLINE * 2, relay).await.unwrap().unwrap().end, End::Closed);
    timeout(DEADLINE, control.ended()).await.expect("the socket must go");
    drop(deaf);
}

#[tokio::test]
async fn whatever_ends_it_from_our_side_closes_the_channel_and_cuts_the_socket() {
    let size: ByteSize = "64KiB".parse().unwrap();
    let small = StdinLimits { memory: size, spill: size, cap: size, total: size, ..StdinLimits::default() };
    for end in [End::Cut, End::Revoked, End::Overflow] {
        let process = dialled(Service::Silent).await;
        let control = Arc::clone(&process.control);
        let (channel, tunnel) = Channel::with(small.clone(), 1000);
        let relay = relayed(process, tunnel);

        match end {
            End::Cut => drop(channel.cut.send_replace(Some(Cut::Draining))),
            End::Revoked => channel.revoked.cancel(),
            _ => (0..40).for_each(|_| channel.input.push(&vec![0; 20_000]).unwrap()),
        }

        assert_eq!(result(relay).await.end, end);
        assert_eq!(channel.seen(), "<close>");
        timeout(DEADLINE, control.ended()).await.expect("the socket must go");
    }
}

/// F5
#[tokio::test]
async fn who_does_not_read_holds_only_its_own_channel_up() {
    let (slow, slow_tunnel) = Channel::open();
    let stuck = relayed(dialled(Service::Silent).await, slow_tunnel);
    (0..200).for_each(|_| slow.input.push(&vec![0; 30_000]).unwrap());

    let (quick, quick_tunnel) = Channel::open();
    let echo = relayed(dialled(Service::Echo).await, quick_tunnel);
    quick.input.push(b"ping").unwrap();
    quick.input.end();

    assert_eq!(result(echo).await.end, End::Complete);
    assert_eq!(quick.seen(), "ping<eof><close>");
    assert!(!stuck.is_finished());
    stuck.abort();
}
