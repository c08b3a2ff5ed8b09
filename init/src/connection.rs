//! A connection to the server: frames come and go, without ever waiting.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use coracle_init::{FromInit, Malformed};
use rustix::io::{self, Errno};

use crate::queue::Queue;
use crate::socket;

/// Read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Past this no program's output is read until the server has taken some.
const OUTPUT_BYTES_MAX: usize = 256 << 10;

/// Past this nothing the server says is heard until it has taken some: each of its frames may make one of ours.
const REPLIES_BYTES_MAX: usize = 512 << 10;

/// There is no connection any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Over;

impl From<Malformed> for Over {
    fn from(_: Malformed) -> Self {
        Self
    }
}

/// Both directions of it.
#[derive(Debug)]
pub(crate) struct Connection {
    input: OwnedFd,
    /// On a socket, the same until the welcome.
    output: Option<OwnedFd>,
    is_socket: bool,
    /// What has come and has not been understood yet.
    pub(crate) inbox: Queue,
    outbox: Queue,
    /// What has come with it.
    pub(crate) descriptors: VecDeque<OwnedFd>,
    pub(crate) began: Instant,
    pub(crate) is_welcomed: bool,
    chunk: Vec<u8>,
}

impl Connection {
    /// On a socket.
    pub(crate) fn on_socket(socket: OwnedFd, now: Instant) -> Self {
        Self {
            input: socket,
            output: None,
            is_socket: true,
            inbox: Queue::default(),
            outbox: Queue::default(),
            descriptors: VecDeque::new(),
            began: now,
            is_welcomed: false,
            chunk: vec![0; CHUNK_BYTES],
        }
    }

    /// On a pair of streams, which must not block.
    pub(crate) fn on_streams(input: OwnedFd, output: OwnedFd, now: Instant) -> Self {
        Self { output: Some(output), is_socket: false, ..Self::on_socket(input, now) }
    }

    /// Queues the first frame; on a socket, sends it, with what the server needs to make terminals.
    pub(crate) fn greet(&mut self, hello: &FromInit<'_>) -> Result<(), Over> {
        hello.encode(self.outbox.back())?;
        if self.output.is_some() {
            return Ok(());
        }
        let terminals = socket::terminals();
        let descriptor = terminals.as_ref().map(OwnedFd::as_fd);
        // A new connection has room for it.
        let sent = socket::send(self.input.as_fd(), self.outbox.front(), descriptor).map_err(|_| Over)?;
        self.outbox.consume(sent);
        Ok(())
    }

    pub(crate) fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    /// With the welcome on a socket comes a pipe for all that we say from here on.
    pub(crate) fn take_road(&mut self) -> Result<(), Malformed> {
        if self.is_socket {
            let pipe = self.descriptors.pop_front().ok_or(Malformed("a welcome comes without a pipe"))?;
            io::ioctl_fionbio(&pipe, true).map_err(|_| Malformed("a welcome comes with what is no pipe"))?;
            self.output = Some(pipe);
        }
        Ok(())
    }

    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        self.output.as_ref().unwrap_or(&self.input).as_fd()
    }

    /// Queues a frame.
    pub(crate) fn say(&mut self, frame: &FromInit<'_>) {
        // None of ours is too long: reasons and data are cut before.
        frame.encode(self.outbox.back()).unwrap_or_default();
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(crate) fn has_room_for_output(&self) -> bool {
        self.outbox.len() < OUTPUT_BYTES_MAX
    }

    pub(crate) fn has_room_for_replies(&self) -> bool {
        self.outbox.len() < REPLIES_BYTES_MAX
    }

    /// Sends what can be sent now.
    pub(crate) fn flush(&mut self) -> Result<(), Over> {
        while !self.outbox.is_empty() {
            let bytes = self.outbox.front();
            let sent = match &self.output {
                Some(output) => io::write(output, bytes),
                None => socket::send(self.input.as_fd(), bytes, None),
            };
            match sent {
                Ok(sent) => self.outbox.consume(sent),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Over),
            }
        }
        Ok(())
    }

    /// Takes in what has come, a piece at a time.
    pub(crate) fn receive(&mut self) -> Result<(), Over> {
        let chunk = self.chunk.as_mut_slice();
        let received = if self.is_socket {
            socket::receive(&self.input, chunk, &mut self.descriptors)
        } else {
            io::read(&self.input, &mut *chunk)
        };
        match received {
            Ok(0) => Err(Over),
            Ok(count) => {
                self.inbox.back().extend_from_slice(chunk.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => Err(Over),
        }
    }

    /// Whether descriptors have come that belong to no frame that is still on its way.
    pub(crate) fn has_strays(&self) -> bool {
        self.inbox.is_empty() && !self.descriptors.is_empty()
    }
}
