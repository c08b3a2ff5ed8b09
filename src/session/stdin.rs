//! What the client sends to a program, kept while the program does not read.
//!
//! The transport cannot hold a single channel back (it grants window on receipt), so whoever takes bytes from it
//! must never wait. Bytes therefore queue here: a little in memory, the rest on disk, all of it counted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use super::backlog::{Backlog, BacklogError};
use super::budget::{Budget, InFlight};

/// Messages moved from the queue to the backlog in one go; also the size of one write to disk.
const BATCH: usize = 64;

/// The transport's end of the queue. Dropping it without [`StdinSender::end`] is no end of input.
#[derive(Debug)]
pub struct StdinSender {
    queue: UnboundedSender<Message>,
    budget: Arc<Budget>,
    ended: AtomicBool,
}

/// The session's end of the queue.
#[derive(Debug)]
pub struct StdinQueue {
    queue: UnboundedReceiver<Message>,
    backlog: Backlog,
}

/// The client sent more than may be kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

#[derive(Debug)]
enum Message {
    Bytes(InFlight),
    End,
}

/// What is fed.
pub type Stdin = Pin<Box<dyn AsyncWrite + Send>>;

/// A queue for one channel of the connection that `budget` belongs to.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the sender cannot wait; its bytes are counted, and refused past `Budget::IN_FLIGHT_BYTES_MAX`"
)]
pub fn stdin_queue(budget: &Arc<Budget>) -> (StdinSender, StdinQueue) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let backlog = Backlog::new(Arc::clone(budget));
    (
        StdinSender { queue: sender, budget: Arc::clone(budget), ended: AtomicBool::new(false) },
        StdinQueue { queue: receiver, backlog },
    )
}

impl StdinSender {
    /// Queues bytes; never waits.
    ///
    /// # Errors
    /// [`Overflow`] when the connection has more in flight than memory is meant for.
    pub fn push(&self, bytes: &[u8]) -> Result<(), Overflow> {
        // Data after EOF is against RFC 4254 §5.3, and nobody would take it off the queue.
        if bytes.is_empty() || self.ended.load(Ordering::Relaxed) {
            return Ok(());
        }
        let taken = self.budget.take_in(bytes).ok_or(Overflow)?;
        // An error means that the session is over: what comes late goes nowhere.
        drop(self.queue.send(Message::Bytes(taken)));
        Ok(())
    }

    /// The client will send no more (`SSH_MSG_CHANNEL_EOF`).
    pub fn end(&self) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            // An error means that the session is over.
            drop(self.queue.send(Message::End));
        }
    }
}

impl StdinQueue {
    /// Feeds the program once there is one. Comes back only when the input cannot be kept: the end of input is not
    /// the end of the session.
    pub async fn feed(mut self, mut ready: oneshot::Receiver<Stdin>) {
        let mut stdin: Option<Stdin> = None;
        let mut awaiting = true;
        let mut input = Input::Open;
        let mut unflushed = false;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let front = if stdin.is_some() { self.front(&mut stdin).await } else { None };
            if input == Input::Ended
                && front.is_none()
                && let Some(stdin) = stdin.as_mut()
            {
                close(stdin).await;
                input = Input::Closed;
            }
            tokio::select! {
                // Writing comes first: what the program takes at once never needs to be kept.
                biased;
                written = write(&mut stdin, front.as_deref()), if front.is_some() || unflushed => {
                    if let Ok(count) = written {
                        unflushed = count > 0;
                        self.backlog.advance(count);
                    } else {
                        unflushed = false;
                        stdin = None;
                        self.backlog.discard();
                    }
                }
                program = &mut ready, if awaiting => {
                    awaiting = false;
                    stdin = program.ok();
                }
                // Cancel safe: nothing is taken before it is ready. It is kept after the select, where nothing cuts.
                taken = self.queue.recv_many(&mut batch, BATCH), if input == Input::Open => {
                    if taken == 0 {
                        input = Input::Closed;
                    }
                }
                else => std::future::pending().await,
            }
            // A program that has closed its stdin wants no more: then bytes are only counted off.
            let wanted = awaiting || stdin.is_some();
            if !batch.is_empty()
                && let Err(error) = self.keep(&mut batch, &mut input, wanted).await
            {
                tracing::warn!(%error, "a session is ended");
                return;
            }
        }
    }

    async fn front(&mut self, stdin: &mut Option<Stdin>) -> Option<Bytes> {
        match self.backlog.front().await {
            Ok(front) => front,
            Err(error) => {
                tracing::warn!(%error, "cannot read a program's kept input back");
                *stdin = None;
                None
            }
        }
    }

    async fn keep(
        &mut self,
        batch: &mut Vec<Message>,
        input: &mut Input,
        wanted: bool,
    ) -> Result<(), BacklogError> {
        let mut chunks = Vec::with_capacity(batch.len());
        for message in batch.drain(..) {
            match message {
                Message::Bytes(bytes) => chunks.push(bytes),
                Message::End => *input = Input::Ended,
            }
        }
        if wanted { self.backlog.push(chunks).await } else { Ok(()) }
    }
}

/// Writes once, or flushes what was written (0) when there is no more: an encrypted stream may hold some of it.
/// Cancel safe: bytes leave the backlog only after they were taken.
async fn write(stdin: &mut Option<Stdin>, front: Option<&[u8]>) -> io::Result<usize> {
    match (stdin, front) {
        (Some(stdin), Some(front)) => match stdin.write(front).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => Ok(count),
        },
        (Some(stdin), None) => stdin.flush().await.map(|()| 0),
        _ => std::future::pending().await,
    }
}

/// Tells the program that there is no more. A program that has closed its stdin first needs no telling.
async fn close(stdin: &mut Stdin) {
    if let Err(error) = stdin.shutdown().await {
        tracing::trace!(%error, "stdin was closed already");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// More may come.
    Open,
    /// The client has sent all.
    Ended,
    /// The program knows, or nobody is there to send.
    Closed,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, BufWriter, duplex};
    use tokio::time::timeout;

    use super::*;
    use crate::session::Budgets;
    use crate::session::config::StdinLimits;

    #[tokio::test]
    async fn a_stream_that_holds_bytes_back_is_flushed() {
        let budget = Budgets::new(StdinLimits::default(), std::env::temp_dir()).of_connection();
        let (sender, queue) = stdin_queue(&budget);
        let (ours, mut programs) = duplex(64);
        let (ready, stdin) = oneshot::channel::<Stdin>();
        assert!(ready.send(Box::pin(BufWriter::new(ours))).is_ok());
        sender.push(b"ls\n").unwrap();

        let mut received = [0; 3];
        let arrival = timeout(Duration::from_secs(10), programs.read_exact(&mut received));
        tokio::select! {
            read = arrival => read.expect("bytes in time").map(drop).unwrap(),
            () = queue.feed(stdin) => panic!("the input cannot be kept"),
        }

        assert_eq!(&received, b"ls\n");
    }
}
