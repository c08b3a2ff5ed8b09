//! The first words between an init and us, and the only descriptor that is ever taken from a container.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf as _;
use coracle_init::{Malformed, ToInit, VERSION};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sockopt};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::hello::{HELLO_DEADLINE, Hello, Peers, first_words};
use super::stdio::Devices;
use super::wires::{Frames, Road};
use super::{Room, Streams, Token};

/// What may lie in the socket until the init reads it: a few frames, and no more. With each of them there may be descriptors,
/// and the kernel bounds those of all containers together.
const SOCKET_BYTES: usize = 4 << 10;

/// An init that has been greeted.
pub(super) struct Met {
    /// What it says from here on.
    pub(super) frames: Frames,
    /// How it is told anything.
    pub(super) road: Road,
    pub(super) streams: Streams,
}

/// Why an init is not one.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("it speaks versions {0} to {1} of the protocol, and we {VERSION}")]
    Version(u16, u16),
    #[error("it took too long to say hello")]
    Silent,
    #[error("it is not the one that was there before")]
    Stranger,
}

/// Waits for the init of a room. Whoever else connects to a room that stays is turned away.
pub(super) async fn meet(room: &mut Room, orphan_timeout: Option<Duration>) -> Result<Met, HandshakeError> {
    let mut peers = if room.stays() { Peers::many() } else { Peers::one() };
    loop {
        let met = match peers.next(room.listener()?).await {
            Ok(hello) => greet(hello, room, orphan_timeout),
            Err(error) => Err(error),
        };
        match met {
            Err(error) if room.stays() => tracing::debug!(%error, "not the container's first process"),
            met => {
                room.close();
                return met;
            }
        }
    }
}

fn greet(hello: Hello, room: &Room, orphan_timeout: Option<Duration>) -> Result<Met, HandshakeError> {
    if aws_lc_rs::constant_time::verify_slices_are_equal(&hello.token, &room.expected()).is_err() {
        return Err(HandshakeError::Stranger);
    }
    let socket = Arc::into_inner(hello.socket).ok_or(HandshakeError::Silent)?;
    let socket = UnixStream::from_std(socket)?;
    let peer = socket.peer_cred()?;
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(io::Error::from)?;
    let frames = pipe::Receiver::from_owned_fd(ours)?;
    let welcome = welcome(orphan_timeout, room.token())?;
    // Nothing was sent to it yet: there is room.
    let sent = send_now(&socket, &welcome, &[theirs.as_fd()])?;
    if sent < welcome.len() {
        return Err(io::Error::from(io::ErrorKind::WriteZero).into());
    }
    sockopt::set_socket_send_buffer_size(&socket, SOCKET_BYTES).map_err(io::Error::from)?;
    let streams = Streams::Descriptors(Devices { folder: hello.folder, uid: peer.uid() });
    Ok(Met { frames: Frames::from_reader(frames), road: Road::Socket(socket), streams })
}

/// Waits for the hello of an init at the end of a stream of bytes. It is as new as its container.
pub(super) async fn attach(
    mut frames: Frames,
    mut writer: Pin<Box<dyn AsyncWrite + Send>>,
    orphan_timeout: Option<Duration>,
) -> Result<Met, HandshakeError> {
    let greeted = async {
        let length = loop {
            match first_words(&frames.received)? {
                Some((_token, length)) => break length,
                None if !frames.more().await? => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                None => {}
            }
        };
        frames.received.advance(length);
        writer.write_all(&welcome(orphan_timeout, Token::default())?).await?;
        Ok(writer.flush().await?)
    };
    timeout(HELLO_DEADLINE, greeted).await.unwrap_or(Err(HandshakeError::Silent))?;
    Ok(Met { frames, road: Road::Bytes(writer), streams: Streams::Frames })
}

fn welcome(orphan_timeout: Option<Duration>, token: Token) -> Result<Vec<u8>, Malformed> {
    let orphan_timeout_ms =
        orphan_timeout.map_or(0, |span| u32::try_from(span.as_millis()).unwrap_or(u32::MAX).max(1));
    let mut welcome = Vec::new();
    ToInit::Welcome { version: VERSION, orphan_timeout_ms, token }.encode(&mut welcome)?;
    Ok(welcome)
}

/// Sends bytes, with descriptors at the first of them; tells how many were taken. Cancel safe.
pub(super) async fn send(
    socket: &UnixStream,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    socket.async_io(Interest::WRITABLE, || send_now(socket, bytes, descriptors)).await
}

fn send_now(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?)
}
