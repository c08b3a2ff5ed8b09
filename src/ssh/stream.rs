//! The TCP stream that russh reads and writes: with a kill switch, a bound on stalls, a pace and quick ACKs.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::session::Budget;

/// Reads after which the kernel's delayed ACKs may come back: until then OpenSSH's client runs Nagle's algorithm,
/// and each of its small writes would wait for the ACK of the one before.
const QUICK_ACK_READS: u32 = 40;

/// Read at once while a client is slowed down to a trickle.
const TRICKLE_READ_BYTES: usize = 32 * 1024;

/// How long the peer has to close its side once we have closed ours.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    tcp: TcpStream,
    killed: Pin<Box<WaitForCancellationFutureOwned>>,
    budget: Arc<Budget>,
    reads: u32,
    pause: Option<Pin<Box<Sleep>>>,
    stall: Option<Pin<Box<Sleep>>>,
    stall_after: Duration,
    farewell: Option<Pin<Box<Sleep>>>,
    version: VersionReader,
}

/// Reads along until it has the client's version line (RFC 4253 §4.2).
#[derive(Debug)]
struct VersionReader {
    line: Vec<u8>,
    version: Arc<OnceLock<String>>,
}

/// Longest version line, in bytes, its end included.
const VERSION_BYTES_MAX: usize = 255;

impl VersionReader {
    fn read(&mut self, bytes: &[u8]) {
        if self.version.get().is_some() || self.line.len() >= VERSION_BYTES_MAX {
            return;
        }
        let room = VERSION_BYTES_MAX - self.line.len();
        self.line.extend(bytes.iter().take(room));
        if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(self.line.get(..end).unwrap_or_default());
            let shown: String = line.chars().filter(|letter| !letter.is_control()).collect();
            self.version.get_or_init(|| shown);
        }
    }
}

impl Stream {
    /// `stall_after` bounds how long a peer may take nothing that we write; `version` gets what the client calls itself.
    pub(super) fn new(
        tcp: TcpStream,
        kill: CancellationToken,
        budget: Arc<Budget>,
        stall_after: Duration,
        version: Arc<OnceLock<String>>,
    ) -> Self {
        let killed = Box::pin(kill.cancelled_owned());
        let version = VersionReader { line: Vec::new(), version };
        Self { tcp, killed, budget, reads: 0, pause: None, stall: None, stall_after, farewell: None, version }
    }

    fn check_killed(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.killed.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut"))
            }
            Poll::Pending => Ok(()),
        }
    }

    /// `Pending` while the client is read at a trickle and its next turn has not come.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        Poll::Ready(())
    }

    /// After a read of `bytes`: when the next one may be.
    fn keep_pace(&mut self, bytes: usize) {
        if let Some(pace) = self.budget.pace() {
            let nanoseconds = (bytes as u64).saturating_mul(1_000_000_000) / pace.max(1);
            self.pause = Some(Box::pin(sleep(Duration::from_nanos(nanoseconds))));
        }
    }

    /// Whether we have closed our side for so long that the peer's is taken for closed.
    fn farewell_is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.farewell.as_mut().is_some_and(|farewell| farewell.as_mut().poll(cx).is_ready())
    }

    fn acknowledge_quickly(&mut self) {
        if self.reads < QUICK_ACK_READS {
            self.reads += 1;
            if let Err(error) = SockRef::from(&self.tcp).set_tcp_quickack(true) {
                tracing::trace!(%error, "no quick ACKs");
            }
        }
    }

    /// Passes a write's result on; when it has been pending for too long the peer counts as dead.
    fn bound_stall<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stall = None;
            return result;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(self.stall_after)));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_killed(cx)?;
        std::task::ready!(self.poll_turn(cx));
        let before = buf.filled().len();
        if self.farewell_is_over(cx) {
            return Poll::Ready(Ok(()));
        }
        let result = if self.budget.pace().is_some() && buf.remaining() > TRICKLE_READ_BYTES {
            let mut small = ReadBuf::new(buf.initialize_unfilled_to(TRICKLE_READ_BYTES));
            let result = Pin::new(&mut self.tcp).poll_read(cx, &mut small);
            let filled = small.filled().len();
            buf.advance(filled);
            result
        } else {
            Pin::new(&mut self.tcp).poll_read(cx, buf)
        };
        if result.is_ready() {
            self.acknowledge_quickly();
            self.keep_pace(buf.filled().len() - before);
            self.version.read(buf.filled().get(before..).unwrap_or_default());
        }
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_killed(cx)?;
        let result = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.bound_stall(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_killed(cx)?;
        let result = Pin::new(&mut self.tcp).poll_flush(cx);
        self.bound_stall(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // russh then reads until the peer closes its side, too; one that never does would keep its container.
        self.farewell.get_or_insert_with(|| Box::pin(sleep(FAREWELL_TIMEOUT)));
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
