//! Moves bytes between a channel and a socket, each way until that way is over.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, Fuse, StreamExt};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Client, Ending, Tunnel};
use crate::engine::{Output, Process, ProcessControl, Signal};

/// How long a socket may take nothing of what the client had sent before it closed its channel.
const LINGER_PAUSE_MAX: Duration = Duration::from_secs(10);

/// How long a container has to cut a socket before it is left to its end.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

type Outputs = BoxStream<'static, io::Result<Bytes>>;

/// A socket of a container.
pub(super) struct Socket {
    pub(super) stdin: Pin<Box<dyn AsyncWrite + Send>>,
    pub(super) output: Outputs,
    pub(super) control: Arc<dyn ProcessControl>,
}

/// What went through a forward, in bytes, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// From the client into the container.
    pub sent: u64,
    /// From the container to the client.
    pub received: u64,
    /// How it ended.
    pub end: End,
}

/// How a forward ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides had said all.
    Complete,
    /// The client closed the channel, or has gone.
    Closed,
    /// The socket broke, or what came out of it was not what it has to be.
    Broken,
    /// The client sent more than can be kept for somebody who does not read.
    Overflow,
    /// It was ended from our side.
    Cut,
    /// It is not permitted any more.
    Revoked,
}

impl From<Process> for Socket {
    fn from(process: Process) -> Self {
        let output = process.output.map(|chunk| match chunk? {
            Output::Stdout(bytes) | Output::Stderr(bytes) => Ok(bytes),
        });
        Self { stdin: process.stdin, output: output.boxed(), control: process.control }
    }
}

/// Relays until both ways are over, or the channel is; then closes the channel, and cuts the socket if it is still there.
/// What a client sent before it closed its channel is still delivered.
pub async fn relay(process: Process, tunnel: Tunnel) -> Traffic {
    relay_socket(process.into(), tunnel).await
}

pub(super) async fn relay_socket(socket: Socket, tunnel: Tunnel) -> Traffic {
    let Socket { stdin, output, control } = socket;
    // Asked once more after its end, where the client closes later; not every stream bears that.
    let mut output = output.fuse();
    let Tunnel { client, input, ending } = tunnel;
    let (sent, received) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let (hand_over, ready) = oneshot::channel();
    let all_sent = CancellationToken::new();
    let counted = Counted { stdin, count: Arc::clone(&sent), over: all_sent.clone() };
    let counted: Pin<Box<dyn AsyncWrite + Send>> = Box::pin(counted);
    // Fails only where nobody is left to be fed.
    drop(hand_over.send(counted));
    let (over, container_goes) = (ending.over.clone(), ending.container_goes);
    let feed = input.feed(ready);
    tokio::pin!(feed);
    let end = tokio::select! {
        // Between an end and what it follows from, what the client wants comes first.
        biased;
        early = came(ending) => early,
        // Comes back only when the client's bytes cannot be kept.
        () = &mut feed => End::Overflow,
        end = both_ways(&mut output, control.as_ref(), client.as_ref(), &received) => end,
    };
    let is_gone = match end {
        End::Complete => true,
        // As at sshd: a client may say something and close at once.
        End::Closed => tokio::select! {
            biased;
            () = over.cancelled() => container_goes,
            () = &mut feed => false,
            is_gone = linger(output, control.as_ref(), &all_sent, &sent) => is_gone,
        },
        End::Broken | End::Overflow | End::Cut | End::Revoked => false,
    };
    if end != End::Closed {
        client.close().await;
    }
    let goes_anyway = container_goes && over.is_cancelled();
    if !is_gone && !goes_anyway {
        kill(control.as_ref()).await;
    }
    Traffic { sent: sent.load(Ordering::Relaxed), received: received.load(Ordering::Relaxed), end }
}

/// Sends what comes out, then its end, and waits until the other way is over, too: the process ends with both.
async fn both_ways(
    output: &mut Fuse<Outputs>,
    control: &dyn ProcessControl,
    client: &dyn Client,
    received: &AtomicU64,
) -> End {
    while let Some(chunk) = output.next().await {
        let Ok(chunk) = chunk else { return End::Broken };
        received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if client.data(chunk).await.is_err() {
            return End::Closed;
        }
    }
    client.eof().await;
    control.ended().await;
    End::Complete
}

/// Waits until the socket has taken what was left and has gone; `false` where it takes no more.
async fn linger(
    mut output: Fuse<Outputs>,
    control: &dyn ProcessControl,
    all_sent: &CancellationToken,
    sent: &AtomicU64,
) -> bool {
    let rest = async {
        // Input goes no further once nobody has the output.
        tokio::select! {
            () = all_sent.cancelled() => {}
            () = async { while output.next().await.is_some() {} } => {}
        }
        drop(output);
        control.ended().await;
    };
    tokio::pin!(rest);
    let mut before = sent.load(Ordering::Relaxed);
    while timeout(LINGER_PAUSE_MAX, &mut rest).await.is_err() {
        let now = sent.load(Ordering::Relaxed);
        if now == std::mem::replace(&mut before, now) {
            return false;
        }
    }
    true
}

/// Waits for the first reason to end early.
async fn came(ending: Ending) -> End {
    let Ending { closed, overflowed, mut cut, revoked, .. } = ending;
    let cut = async {
        if cut.wait_for(Option::is_some).await.is_err() {
            // The connection's owner has gone; `closed` tells of that.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = closed.cancelled() => End::Closed,
        () = overflowed.cancelled() => End::Overflow,
        () = cut => End::Cut,
        () = revoked => End::Revoked,
    }
}

/// Cuts a socket at once.
pub(super) async fn kill(control: &dyn ProcessControl) {
    match timeout(KILL_DEADLINE, control.signal(Signal::Kill)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "cannot cut a socket"),
        Err(_elapsed) => tracing::debug!("a container takes long to cut a socket"),
    }
}

/// Counts what is written, and tells when there is no more.
struct Counted {
    stdin: Pin<Box<dyn AsyncWrite + Send>>,
    count: Arc<AtomicU64>,
    /// Cancelled when all has been written, or nobody takes it.
    over: CancellationToken,
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.stdin.as_mut().poll_write(cx, bytes));
        match &written {
            Ok(count) => drop(self.count.fetch_add(*count as u64, Ordering::Relaxed)),
            Err(_) => self.over.cancel(),
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = ready!(self.stdin.as_mut().poll_shutdown(cx));
        self.over.cancel();
        Poll::Ready(shut)
    }
}
