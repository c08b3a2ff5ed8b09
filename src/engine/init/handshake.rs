//! The first words between an init and us, and the only descriptor that is ever taken from a container.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::time::Duration;

use bytes::Buf as _;
use coracle_init::{FromInit, Malformed, ToInit, VERSION};
use rustix::fs::fstatfs;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::stdio::Devices;
use super::wires::{Frames, Road};
use super::{Room, Streams, Token};

/// For one peer to say hello. In a room that stays, others in the container can connect, too.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);

/// A hello has less.
const HELLO_BYTES_MAX: usize = 256;

/// Descriptors that fit into what is received: one too many shows.
const DESCRIPTORS_MAX: usize = 2;

/// `f_type` of devpts (`DEVPTS_SUPER_MAGIC` of `linux/magic.h`).
const DEVPTS: u64 = 0x1cd1;

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
    loop {
        let (socket, _) = room.listener()?.accept().await?;
        let met = timeout(HELLO_DEADLINE, greet(socket, room, orphan_timeout))
            .await
            .unwrap_or(Err(HandshakeError::Silent));
        match met {
            Err(error) if room.stays() => tracing::debug!(%error, "not the container's first process"),
            met => {
                room.close();
                return met;
            }
        }
    }
}

async fn greet(
    socket: UnixStream,
    room: &Room,
    orphan_timeout: Option<Duration>,
) -> Result<Met, HandshakeError> {
    let (shown, folder) = hello(&socket).await?;
    // From here on it can send nothing over the socket: what holds a descriptor that came from a container has to close
    // it one day, and closing some of them waits for whoever made them.
    rustix::net::shutdown(&socket, rustix::net::Shutdown::Read).map_err(io::Error::from)?;
    if aws_lc_rs::constant_time::verify_slices_are_equal(&shown, &room.expected()).is_err() {
        return Err(HandshakeError::Stranger);
    }
    let peer = socket.peer_cred()?;
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(io::Error::from)?;
    let frames = pipe::Receiver::from_owned_fd(ours)?;
    let welcome = welcome(orphan_timeout, room.token())?;
    let sent = send(&socket, &welcome, &[theirs.as_fd()]).await?;
    if sent < welcome.len() {
        return Err(io::Error::from(io::ErrorKind::WriteZero).into());
    }
    let streams = Streams::Descriptors(Devices { folder, uid: peer.uid() });
    Ok(Met { frames: Frames::from_reader(frames), road: Road::Socket(socket), streams })
}

/// Waits for the hello of an init at the end of a stream of bytes. It is as new as its container.
pub(super) async fn attach(
    mut frames: Frames,
    mut writer: Pin<Box<dyn AsyncWrite + Send>>,
    orphan_timeout: Option<Duration>,
) -> Result<Met, HandshakeError> {
    let hello = async {
        loop {
            match first_words(&frames.received)? {
                Some((_token, length)) => return Ok(length),
                None if !frames.more().await? => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                None => {}
            }
        }
    };
    let length = timeout(HELLO_DEADLINE, hello).await.unwrap_or(Err(HandshakeError::Silent))?;
    frames.received.advance(length);
    writer.write_all(&welcome(orphan_timeout, Token::default())?).await?;
    writer.flush().await?;
    Ok(Met { frames, road: Road::Bytes(writer), streams: Streams::Frames })
}

fn welcome(orphan_timeout: Option<Duration>, token: Token) -> Result<Vec<u8>, Malformed> {
    let orphan_timeout_ms =
        orphan_timeout.map_or(0, |span| u32::try_from(span.as_millis()).unwrap_or(u32::MAX).max(1));
    let mut welcome = Vec::new();
    ToInit::Welcome { version: VERSION, orphan_timeout_ms, token }.encode(&mut welcome)?;
    Ok(welcome)
}

/// The token of a hello, and its length; `None` when more has to be received first.
fn first_words(received: &[u8]) -> Result<Option<(Token, usize)>, HandshakeError> {
    match FromInit::decode(received)? {
        Some((FromInit::Hello { version_min, version_max, token }, length)) => {
            if !(version_min..=version_max).contains(&VERSION) {
                return Err(HandshakeError::Version(version_min, version_max));
            }
            Ok(Some((token, length)))
        }
        Some(_) => Err(Malformed("it does not begin with a hello").into()),
        None if received.len() >= HELLO_BYTES_MAX => Err(Malformed("its hello has no end").into()),
        None => Ok(None),
    }
}

/// The hello: the token that the peer shows, and the folder of its terminals.
async fn hello(socket: &UnixStream) -> Result<(Token, Option<OwnedFd>), HandshakeError> {
    let mut received = Vec::new();
    let mut descriptors = Vec::new();
    loop {
        let count =
            socket.async_io(Interest::READABLE, || receive(socket, &mut received, &mut descriptors)).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match first_words(&received)? {
            Some((token, length)) if length == received.len() => {
                return Ok((token, folder_of_terminals(descriptors)?));
            }
            Some(_) => return Err(Malformed("it says more than hello").into()),
            None => {}
        }
    }
}

fn receive(socket: &UnixStream, received: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut bytes = [0; HELLO_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let room = HELLO_BYTES_MAX.saturating_sub(received.len()).max(1);
    let buffer = bytes.get_mut(..room).unwrap_or_default();
    let message =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    received.extend(buffer.iter().take(message.bytes));
    Ok(message.bytes)
}

/// What came has to be the folder of a devpts: then a terminal that we open there is one, and ours.
fn folder_of_terminals(descriptors: Vec<OwnedFd>) -> Result<Option<OwnedFd>, HandshakeError> {
    let mut descriptors = descriptors.into_iter();
    match (descriptors.next(), descriptors.next()) {
        (None, _) => Ok(None),
        (Some(folder), None) if is_devpts(folder.as_fd()) => Ok(Some(folder)),
        (first, second) => {
            let odd: Vec<OwnedFd> = first.into_iter().chain(second).chain(descriptors).collect();
            // Closing it may wait for whoever made it.
            drop(tokio::task::spawn_blocking(move || drop(odd)));
            Err(Malformed("its hello comes with a descriptor that is no folder of terminals").into())
        }
    }
}

fn is_devpts(folder: BorrowedFd<'_>) -> bool {
    fstatfs(folder).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == DEVPTS))
}

/// Sends bytes, with descriptors at the first of them; tells how many were taken. Cancel safe.
pub(super) async fn send(
    socket: &UnixStream,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let once = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?)
    };
    socket.async_io(Interest::WRITABLE, once).await
}
