//! What goes to an init and what comes from it, each in the order in which it was said.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use coracle_init::{FromInit, ToInit};
use futures::stream::{BoxStream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_util::io::ReaderStream;
use tokio_util::sync::PollSender;
use tokio_util::task::TaskTracker;

use super::handshake;
use super::processes::Processes;
use crate::engine::EngineError;

/// Frames that wait for an init that does not read. Past it whoever has one more waits, or drops it.
const PARCELS_PENDING_MAX: usize = 64;

/// From a frame's turn to be left until there is room for it.
const SAY_DEADLINE: Duration = Duration::from_secs(10);

/// Room for what an init says; most of it is a dozen bytes.
const READ_BYTES: usize = 512;

/// A frame to the init, with the descriptors that belong to it.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
    /// Given up once it is sent.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// Where frames to the init are left.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    sender: mpsc::Sender<Parcel>,
    /// Of those who wait for room with what they have promised to say.
    tasks: TaskTracker,
    runtime: Handle,
}

pub(super) type Queue = mpsc::Receiver<Parcel>;

pub(super) fn outbox(tasks: &TaskTracker) -> (Outbox, Queue) {
    let (sender, queue) = mpsc::channel(PARCELS_PENDING_MAX);
    (Outbox { sender, tasks: tasks.clone(), runtime: Handle::current() }, queue)
}

impl Outbox {
    /// Waits for room. Cancel safe: what was not taken is not sent.
    pub(super) async fn send(&self, parcel: Parcel) -> Result<(), EngineError> {
        self.reserve().await.map(|room| room.send(parcel))
    }

    /// Room for one, once there is some. Cancel safe.
    pub(super) async fn reserve(&self) -> Result<mpsc::Permit<'_, Parcel>, EngineError> {
        let gone = |_| EngineError::Gone { reason: "its first process does not listen any more".to_owned() };
        self.sender.reserve().await.map_err(gone)
    }

    /// As [`Outbox::send`], for a frame without descriptors.
    pub(super) async fn say(&self, frame: &ToInit<'_>) -> Result<(), EngineError> {
        self.send(encoded(frame)).await
    }

    /// As [`Outbox::say`], but does not wait for long for an init that does not read.
    pub(super) async fn say_in_time(
        &self,
        frame: &ToInit<'_>,
        action: &'static str,
    ) -> Result<(), EngineError> {
        let timed_out = EngineError::TimedOut { action, after: SAY_DEADLINE };
        timeout(SAY_DEADLINE, self.say(frame)).await.unwrap_or(Err(timed_out))
    }

    /// For whoever has to poll.
    pub(super) fn poll_sender(&self) -> PollSender<Parcel> {
        PollSender::new(self.sender.clone())
    }

    /// Never waits, and is not lost: without room a task waits for it, until nobody talks to the init any more. For what
    /// is said once of a program or a listener, so that there are no more of these tasks than of them.
    pub(super) fn promise(&self, frame: &ToInit<'_>) {
        if let Err(TrySendError::Full(parcel)) = self.sender.try_send(encoded(frame)) {
            let sender = self.sender.clone();
            // Also where something is dropped that runs on no runtime any more.
            self.tasks.spawn_on(async move { sender.send(parcel).await.unwrap_or_default() }, &self.runtime);
        }
    }
}

/// A frame whose data is bounded always fits.
pub(super) fn encoded(frame: &ToInit<'_>) -> Parcel {
    let mut parcel = Parcel::default();
    frame.encode(&mut parcel.bytes).ok();
    parcel
}

/// What frames to an init travel on.
pub(super) enum Road {
    /// With descriptors.
    Socket(UnixStream),
    /// Without.
    Bytes(Pin<Box<dyn AsyncWrite + Send>>),
}

/// Carries both ways until one breaks, and tells why.
pub(super) async fn run(
    frames: Frames,
    road: Road,
    queue: Queue,
    processes: Arc<Processes>,
    outbox: Outbox,
) -> String {
    tokio::select! {
        reason = read(frames, &processes, &outbox) => reason,
        error = write(road, queue) => format!("its first process does not listen any more: {error}"),
    }
}

async fn read(mut frames: Frames, processes: &Processes, outbox: &Outbox) -> String {
    loop {
        loop {
            let taken = match FromInit::decode(&frames.received) {
                Ok(None) => break,
                Ok(Some((frame, length))) => processes.take(&frame, outbox).map(|()| length),
                Err(malformed) => Err(malformed),
            };
            match taken {
                Ok(length) => frames.received.advance(length),
                Err(malformed) => return format!("its first process says what makes no sense: {malformed}"),
            }
        }
        match frames.more().await {
            Ok(true) => {}
            Ok(false) => return "its first process has ended".to_owned(),
            Err(error) => return format!("its first process cannot be heard: {error}"),
        }
    }
}

/// What an init says.
pub(super) struct Frames {
    source: BoxStream<'static, io::Result<Bytes>>,
    pub(super) received: BytesMut,
}

impl Frames {
    pub(super) fn from_stream(source: BoxStream<'static, io::Result<Bytes>>) -> Self {
        Self { source, received: BytesMut::new() }
    }

    pub(super) fn from_reader(reader: impl AsyncRead + Send + 'static) -> Self {
        Self::from_stream(ReaderStream::with_capacity(reader, READ_BYTES).boxed())
    }

    /// Receives more; `false` at the end. Cancel safe.
    pub(super) async fn more(&mut self) -> io::Result<bool> {
        let Some(bytes) = self.source.next().await else { return Ok(false) };
        self.received.extend_from_slice(&bytes?);
        Ok(true)
    }
}

async fn write(mut road: Road, mut queue: Queue) -> io::Error {
    while let Some(parcel) = queue.recv().await {
        let written = match &mut road {
            Road::Socket(socket) => write_to_socket(socket, parcel).await,
            Road::Bytes(writer) => write_bytes(writer, parcel).await,
        };
        if let Err(error) = written {
            return error;
        }
    }
    // Nobody has anything to say, but the init may.
    std::future::pending().await
}

async fn write_bytes(writer: &mut Pin<Box<dyn AsyncWrite + Send>>, parcel: Parcel) -> io::Result<()> {
    writer.write_all(&parcel.bytes).await?;
    writer.flush().await
}

async fn write_to_socket(socket: &UnixStream, parcel: Parcel) -> io::Result<()> {
    let Parcel { bytes, descriptors, place: _place } = parcel;
    let borrowed: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
    let (mut rest, mut with) = (bytes.as_slice(), borrowed.as_slice());
    while !rest.is_empty() {
        match handshake::send(socket, rest, with).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => rest = rest.get(count..).unwrap_or_default(),
        }
        with = &[];
    }
    Ok(())
}
