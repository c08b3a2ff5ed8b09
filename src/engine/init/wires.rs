//! What goes to an init and what comes from it, each in the order in which it was said.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use coracle_init::{FromInit, ToInit};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::handshake;
use super::processes::Processes;
use crate::engine::EngineError;

/// Frames that wait for an init that does not read. Past it whoever has one more waits, or drops it.
const PARCELS_PENDING_MAX: usize = 64;

/// Room for what an init says; most of it is a dozen bytes.
const READ_BYTES: usize = 512;

/// A frame to the init, with the descriptors that belong to it.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Where frames to the init are left.
#[derive(Clone, Debug)]
pub(super) struct Outbox(mpsc::Sender<Parcel>);

pub(super) type Queue = mpsc::Receiver<Parcel>;

pub(super) fn outbox() -> (Outbox, Queue) {
    let (sender, queue) = mpsc::channel(PARCELS_PENDING_MAX);
    (Outbox(sender), queue)
}

impl Outbox {
    /// Waits for room. Cancel safe: what was not taken is not sent.
    pub(super) async fn send(&self, parcel: Parcel) -> Result<(), EngineError> {
        let gone = |_| EngineError::Gone { reason: "its first process does not listen any more".to_owned() };
        self.0.send(parcel).await.map_err(gone)
    }

    /// As [`Outbox::send`], for a frame without descriptors.
    pub(super) async fn say(&self, frame: &ToInit<'_>) -> Result<(), EngineError> {
        self.send(encoded(frame)).await
    }

    /// Never waits; for what may be lost.
    pub(super) fn try_say(&self, frame: &ToInit<'_>) {
        drop(self.0.try_send(encoded(frame)));
    }
}

/// A frame of fixed length always fits.
fn encoded(frame: &ToInit<'_>) -> Parcel {
    let mut parcel = Parcel::default();
    frame.encode(&mut parcel.bytes).ok();
    parcel
}

/// Carries both ways until one breaks, and tells why.
pub(super) async fn run(
    frames: impl AsyncRead + Send + Unpin,
    socket: UnixStream,
    queue: Queue,
    processes: Arc<Processes>,
    outbox: Outbox,
) -> String {
    tokio::select! {
        reason = read(frames, &processes, &outbox) => reason,
        error = write(&socket, queue) => format!("its first process does not listen any more: {error}"),
    }
}

async fn read(mut frames: impl AsyncRead + Send + Unpin, processes: &Processes, outbox: &Outbox) -> String {
    let mut received = BytesMut::with_capacity(READ_BYTES);
    loop {
        match frames.read_buf(&mut received).await {
            Ok(0) => return "its first process has ended".to_owned(),
            Ok(_) => {}
            Err(error) => return format!("its first process cannot be heard: {error}"),
        }
        loop {
            let taken = match FromInit::decode(&received) {
                Ok(None) => break,
                Ok(Some((frame, length))) => processes.take(&frame, outbox).map(|()| length),
                Err(malformed) => Err(malformed),
            };
            match taken {
                Ok(length) => received.advance(length),
                Err(malformed) => return format!("its first process says what makes no sense: {malformed}"),
            }
        }
    }
}

async fn write(socket: &UnixStream, mut queue: Queue) -> io::Error {
    while let Some(Parcel { bytes, descriptors }) = queue.recv().await {
        let borrowed: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
        let mut rest = bytes.as_slice();
        let mut with = borrowed.as_slice();
        while !rest.is_empty() {
            match handshake::send(socket, rest, with).await {
                Ok(0) => return io::ErrorKind::WriteZero.into(),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    with = &[];
                }
                Err(error) => return error,
            }
        }
    }
    // Nobody has anything to say, but the init may.
    std::future::pending().await
}
