//! Bounds on who asks: how many at a time, how much they may say, and how long they may take.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at a time. Past it others wait until one of them is closed.
const CONNECTIONS_MAX: usize = 32;

/// What may come before something is answered, in bytes: a request has a few hundred. Past it the connection is closed.
pub(super) const REQUEST_BYTES_MAX: usize = 16 << 10;

/// From the connection to the end of the first request's head, and for the answer as long as nothing of it is taken.
/// Longer than any of our answers takes us.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(10);

/// The same for further requests: whoever scrapes every minute may keep the connection.
const KEPT_TIME: Duration = Duration::from_secs(75);

/// After a connection could not be accepted: what it lacked, such as descriptors, others have to give back.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct BoundedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl BoundedListener {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // Nobody closes it, so there is always one.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((tcp, address)) => return (BoundedStream::new(tcp, place), address),
                Err(error) => {
                    tracing::warn!(%error, "a connection to `metrics.listen` could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

pub(super) struct BoundedStream {
    tcp: TcpStream,
    /// What came since something was last answered.
    unanswered_bytes: usize,
    deadline: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl BoundedStream {
    fn new(tcp: TcpStream, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { tcp, unanswered_bytes: 0, deadline: Box::pin(sleep(REQUEST_TIME)), _place: place }
    }

    fn unless_late<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn sent(&mut self) {
        self.unanswered_bytes = 0;
        self.deadline.as_mut().reset(Instant::now() + KEPT_TIME);
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.tcp).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                this.unanswered_bytes += buf.filled().len() - before;
                if this.unanswered_bytes > REQUEST_BYTES_MAX {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "too long a request",
                    )));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.unless_late(cx),
        }
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.tcp).poll_write(cx, buf) {
            Poll::Ready(sent) => {
                this.sent();
                Poll::Ready(sent)
            }
            Poll::Pending => this.unless_late(cx),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}
