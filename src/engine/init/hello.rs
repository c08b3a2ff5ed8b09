//! What somebody in a container says first, heard on a thread of its own.
//!
//! Descriptors can come with it, and to close some of them is to wait for as long as whoever made them likes: the last of a
//! connection that lingers, a file of a file system that a program serves. They are closed by the thread that receives
//! them, and so are those that nobody has asked for. It is none of the runtime's: these have to be there for all, and
//! have to end before the server can.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use coracle_init::{FromInit, Malformed, VERSION};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat, fstatfs};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, Shutdown, shutdown};
use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until};

use super::Token;
use super::handshake::HandshakeError;

/// For one peer to say hello.
pub(super) const HELLO_DEADLINE: Duration = Duration::from_secs(5);

/// What a peer gets of it where many have connected at once: an init says it in the same breath.
const HELLO_TIME_MIN: Duration = Duration::from_millis(50);

/// Peers of one room that are listened to at a time. Past it the one that has been silent for longest is cut off.
const PEERS_MAX: usize = 16;

/// A hello has less.
pub(super) const HELLO_BYTES_MAX: usize = 256;

/// Descriptors that fit into what is received: one too many shows.
const DESCRIPTORS_MAX: usize = 2;

/// `f_type` of devpts (`DEVPTS_SUPER_MAGIC` of `linux/magic.h`).
const DEVPTS: u64 = 0x1cd1;

/// What a peer said, and that it can say no more over its socket.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) token: Token,
    /// The folder of its terminals.
    pub(super) folder: Option<OwnedFd>,
    pub(super) socket: Arc<UnixStream>,
}

/// Whoever has connected and not said hello yet, the oldest first.
#[derive(Debug)]
pub(super) struct Peers {
    /// Taken for as long as a thread lives, however long it has to wait.
    places: Arc<Semaphore>,
    /// What each has for its hello when there are no more places.
    time_min: Duration,
    heard: VecDeque<Peer>,
}

/// One that is listened to. Dropped, it is cut off.
#[derive(Debug)]
struct Peer {
    since: Instant,
    socket: Option<Arc<UnixStream>>,
    said: oneshot::Receiver<Result<Hello, HandshakeError>>,
}

impl Peers {
    /// The first is the only one.
    pub(super) fn one() -> Self {
        Self { places: Arc::new(Semaphore::new(1)), time_min: HELLO_DEADLINE, heard: VecDeque::new() }
    }

    /// Anybody may be among them.
    pub(super) fn many() -> Self {
        Self { places: Arc::new(Semaphore::new(PEERS_MAX)), time_min: HELLO_TIME_MIN, ..Self::one() }
    }

    /// What the next of those says who connect to `listener`. Cancel safe.
    pub(super) async fn next(&mut self, listener: &UnixListener) -> Result<Hello, HandshakeError> {
        loop {
            let Self { places, heard, .. } = self;
            let time = if places.available_permits() == 0 { self.time_min } else { HELLO_DEADLINE };
            let until = heard.front().map(|oldest| oldest.since + time);
            let connected = async {
                let place = Arc::clone(places).acquire_owned().await;
                let place = place.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
                listener.accept().await.map(|(socket, _)| (socket, place))
            };
            let cut = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let said = std::future::poll_fn(|cx| poll_said(heard, cx));
            tokio::select! {
                said = said => return said,
                connected = connected => {
                    let (socket, place) = connected?;
                    let peer = Peer::listen(socket.into_std()?, place)?;
                    self.heard.push_back(peer);
                }
                () = cut => {
                    self.heard.pop_front();
                    return Err(HandshakeError::Silent);
                }
            }
        }
    }
}

fn poll_said(heard: &mut VecDeque<Peer>, cx: &mut Context<'_>) -> Poll<Result<Hello, HandshakeError>> {
    for place in 0..heard.len() {
        let Some(peer) = heard.get_mut(place) else { continue };
        if let Poll::Ready(said) = Pin::new(&mut peer.said).poll(cx) {
            peer.socket = None;
            heard.remove(place);
            return Poll::Ready(said.unwrap_or(Err(HandshakeError::Silent)));
        }
    }
    Poll::Pending
}

impl Peer {
    fn listen(socket: UnixStream, place: OwnedSemaphorePermit) -> io::Result<Self> {
        let (tell, said) = oneshot::channel();
        let ours = Arc::new(socket);
        let socket = Some(Arc::clone(&ours));
        aside(move || {
            drop(tell.send(hear(ours)));
            drop(place);
        })?;
        Ok(Self { since: Instant::now(), socket, said })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // Its thread sees that, and closes what is left.
            socket.shutdown(std::net::Shutdown::Both).ok();
        }
    }
}

/// Does what may wait for a container, with nobody waiting for it.
pub(super) fn aside(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("init-hello".to_owned()).spawn(work).map(drop)
}

/// The token of a hello, and its length; `None` when more has to be received first.
pub(super) fn first_words(received: &[u8]) -> Result<Option<(Token, usize)>, HandshakeError> {
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

/// Listens until there is a hello, or the other side of the connection is cut off.
fn hear(socket: Arc<UnixStream>) -> Result<Hello, HandshakeError> {
    let said = listen(&socket);
    // What is on its way yet is taken here: where the socket is closed nothing may come out of it.
    let silenced = silence(&socket);
    let (token, descriptors) = said?;
    silenced?;
    Ok(Hello { token, folder: folder_of_terminals(descriptors)?, socket })
}

fn listen(socket: &UnixStream) -> Result<(Token, Vec<OwnedFd>), HandshakeError> {
    let mut received = Vec::new();
    let mut descriptors = Vec::new();
    loop {
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        match receive(socket, &mut received, &mut descriptors) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Err(HandshakeError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => continue,
            taken => taken?,
        };
        match first_words(&received)? {
            Some((token, length)) if length == received.len() => return Ok((token, descriptors)),
            Some(_) => return Err(Malformed("it says more than hello").into()),
            None => {}
        }
    }
}

/// From here on nothing can be sent to us, and nothing of what was is left.
fn silence(socket: &UnixStream) -> Result<(), HandshakeError> {
    shutdown(socket, Shutdown::Read).map_err(io::Error::from)?;
    let mut surplus = false;
    loop {
        match receive(socket, &mut Vec::new(), &mut Vec::new()) {
            Ok(0) => break,
            Ok(_) | Err(HandshakeError::Malformed(_)) => surplus = true,
            Err(error) => return Err(error),
        }
    }
    if surplus { Err(Malformed("it says more than hello").into()) } else { Ok(()) }
}

fn receive(
    socket: &UnixStream,
    received: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> Result<usize, HandshakeError> {
    let mut bytes = [0; HELLO_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let room = HELLO_BYTES_MAX.saturating_sub(received.len()).max(1);
    let buffer = bytes.get_mut(..room).unwrap_or_default();
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags);
    let message = message.map_err(io::Error::from)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > 1 {
        return Err(Malformed("its hello comes with more than one descriptor").into());
    }
    received.extend(buffer.iter().take(message.bytes));
    Ok(message.bytes)
}

/// What came has to be the folder of a devpts: then a terminal that we open there is one, and ours.
fn folder_of_terminals(mut descriptors: Vec<OwnedFd>) -> Result<Option<OwnedFd>, HandshakeError> {
    match descriptors.pop() {
        Some(folder) if !is_folder_of_terminals(folder.as_fd()) => {
            Err(Malformed("its hello comes with a descriptor that is no folder of terminals").into())
        }
        folder => Ok(folder),
    }
}

fn is_folder_of_terminals(folder: BorrowedFd<'_>) -> bool {
    // A terminal is on the same file system.
    let is_folder = fstat(folder).is_ok_and(|found| FileType::from_raw_mode(found.st_mode).is_dir());
    is_folder
        && fstatfs(folder).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == DEVPTS))
}
