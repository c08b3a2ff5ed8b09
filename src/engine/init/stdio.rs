//! A program's standard streams: made by us, one end of each given to the init. The ends are descriptions of their own,
//! so nothing that a container does to its end makes ours block.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::{Mode, OFlags, ResolveFlags, Uid, openat2};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use tokio::io::AsyncWrite;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;

use super::output::LocalOutput;

/// What an output's pipe holds, in bytes. The kernel's default is 64 KiB; more lets a program run ahead of us.
const PIPE_BYTES: usize = 256 << 10;

/// What comes from a socket waits in a pipe of this size, in bytes. The kernel counts in pages and puts up to eight of a
/// socket's into the place of one: with more the memory of many stalled sockets would be a burden, with the default of
/// 64 KiB whoever fills the pipe and whoever empties it wake each other all the time.
const SOCKET_PIPE_BYTES: usize = 128 << 10;

/// The mode of what we make and cannot give to its user.
const FOR_ANYBODY: Mode = Mode::from_raw_mode(0o666);

/// Where terminals are opened, and for whom.
#[derive(Debug)]
pub(super) struct Devices {
    /// The container's `/dev/pts`, if it has one.
    pub(super) folder: Option<OwnedFd>,
    /// Whom programs run as, as seen from here.
    pub(super) uid: u32,
}

/// Both ends.
pub(super) struct Stdio {
    pub(super) stdin: Pin<Box<dyn AsyncWrite + Send>>,
    pub(super) output: LocalOutput,
    pub(super) terminal: Option<Arc<Master>>,
    /// For the program, in the order of the protocol.
    pub(super) theirs: Vec<OwnedFd>,
}

/// Both ends of a connection.
pub(super) struct Pipes {
    pub(super) input: PipeInput,
    pub(super) output: LocalOutput,
    /// For the init, in the order of the protocol.
    pub(super) theirs: Vec<OwnedFd>,
}

/// Our end of a terminal.
#[derive(Debug)]
pub(super) struct Master(AsyncFd<OwnedFd>);

/// Three pipes.
pub(super) fn pipes(devices: &Devices) -> io::Result<Stdio> {
    let (their_stdin, our_stdin) = pipe_with(PipeFlags::CLOEXEC)?;
    let (our_stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (our_stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    for end in [&our_stdin, &our_stdout, &our_stderr] {
        rustix::io::ioctl_fionbio(end, true)?;
    }
    for end in [&our_stdin, &our_stdout] {
        // A user may have only so many pages in pipes; the default is enough to work with.
        fcntl_setpipe_size(end, PIPE_BYTES).ok();
    }
    for end in [&their_stdin, &their_stdout, &their_stderr] {
        devices.give(end.as_fd())?;
    }
    let output = LocalOutput::of_pipes(
        pipe::Receiver::from_owned_fd(our_stdout)?,
        pipe::Receiver::from_owned_fd(our_stderr)?,
    );
    Ok(Stdio {
        stdin: Box::pin(PipeInput(Some(pipe::Sender::from_owned_fd(our_stdin)?))),
        output,
        terminal: None,
        theirs: vec![their_stdin, their_stdout, their_stderr],
    })
}

/// Two pipes, for a connection. Nobody opens these by a name, and of their size there are many.
pub(super) fn connection() -> io::Result<Pipes> {
    let (their_input, our_input) = pipe_with(PipeFlags::CLOEXEC)?;
    let (our_output, their_output) = pipe_with(PipeFlags::CLOEXEC)?;
    for end in [&our_input, &our_output] {
        rustix::io::ioctl_fionbio(end, true)?;
    }
    // As above: it may be refused.
    fcntl_setpipe_size(&our_output, SOCKET_PIPE_BYTES).ok();
    Ok(Pipes {
        input: PipeInput(Some(pipe::Sender::from_owned_fd(our_input)?)),
        output: LocalOutput::of_pipe(pipe::Receiver::from_owned_fd(our_output)?),
        theirs: vec![their_input, their_output],
    })
}

/// A terminal of the container's own devpts, so that its programs find it by its name.
pub(super) fn terminal(devices: &Devices) -> io::Result<Stdio> {
    let unsupported = || io::Error::new(io::ErrorKind::Unsupported, "the container has no /dev/pts");
    let folder = devices.folder.as_ref().ok_or_else(unsupported)?;
    let master = open_master(folder)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    devices.give(slave.as_fd())?;
    let master = Arc::new(Master::new(master)?);
    Ok(Stdio {
        stdin: Box::pin(TerminalInput(Arc::clone(&master))),
        output: LocalOutput::of_terminal(Arc::clone(&master)),
        terminal: Some(master),
        theirs: vec![slave],
    })
}

/// Opens a new terminal in a devpts. A container that may mount could have put anything over its `ptmx`, of which the
/// mere opening waits: the kernel is told not to go there.
fn open_master(folder: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let inside = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match openat2(folder, "ptmx", flags, Mode::empty(), inside) {
        // Kernels before 5.6, and filters that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(folder, "ptmx", flags, Mode::empty()),
        opened => opened,
    }
}

impl Devices {
    /// Lets the programs' user open it by its name, as `/dev/stdout` or `/dev/pts/0`.
    fn give(&self, end: BorrowedFd<'_>) -> io::Result<()> {
        if rustix::process::geteuid().as_raw() == self.uid {
            return Ok(());
        }
        if rustix::fs::fchown(end, Some(Uid::from_raw(self.uid)), None).is_err() {
            // We are not root, and it is not ours to give away. Only the container's processes can find it.
            rustix::fs::fchmod(end, FOR_ANYBODY)?;
        }
        Ok(())
    }
}

impl Master {
    #[expect(deprecated, reason = "what makes it unsound cannot be done with a descriptor that is owned")]
    fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self(AsyncFd::new(descriptor)?))
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }

    /// Reads once into `buffer`; 0 when nobody has the terminal open any more.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            match guard.try_io(|inner| Ok(rustix::io::read(inner.get_ref(), &mut *buffer)?)) {
                // That is how Linux tells it.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(0));
                }
                Ok(read) => return Poll::Ready(read),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(written) = guard.try_io(|inner| Ok(rustix::io::write(inner.get_ref(), bytes)?)) {
                return Poll::Ready(written);
            }
        }
    }
}

/// Input of a terminal, which has no end but the terminal's.
struct TerminalInput(Arc<Master>);

impl AsyncWrite for TerminalInput {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Input of a pipe. Shutting it down closes it, which is how a pipe ends.
pub(super) struct PipeInput(Option<pipe::Sender>);

impl AsyncWrite for PipeInput {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Some(sender) => Pin::new(sender).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::fstat;
    use rustix::process::geteuid;

    use super::*;

    /// Nobody on most machines.
    const SOMEBODY: u32 = 54_321;

    fn devices(uid: u32) -> Devices {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open("/dev/pts", flags, Mode::empty()).unwrap();
        Devices { folder: Some(folder), uid }
    }

    #[tokio::test]
    async fn what_is_made_for_another_user_is_theirs_or_everybodys() {
        let devices = devices(SOMEBODY);
        for made in [pipes(&devices).unwrap(), terminal(&devices).unwrap()] {
            assert!(!made.theirs.is_empty());
            for end in &made.theirs {
                let found = fstat(end).unwrap();
                let is_open = found.st_mode & 0o666 == 0o666;
                assert!(found.st_uid == SOMEBODY || is_open, "{:o} of {}", found.st_mode, found.st_uid);
                assert!(geteuid().is_root() == (found.st_uid == SOMEBODY));
            }
        }
    }

    #[tokio::test]
    async fn what_is_made_for_ourselves_is_nobody_elses() {
        for end in pipes(&devices(geteuid().as_raw())).unwrap().theirs {
            assert_eq!(fstat(end).unwrap().st_mode & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn what_is_read_and_written_here_never_blocks_whatever_is_done_to_the_other_end() {
        let devices = devices(geteuid().as_raw());
        let made = terminal(&devices).unwrap();
        rustix::io::ioctl_fionbio(&made.theirs[0], false).unwrap();

        let master = made.terminal.unwrap();

        let read = rustix::io::read(master.descriptor(), &mut [0; 1]);
        assert_eq!(read.unwrap_err(), Errno::AGAIN);
    }

    #[tokio::test]
    async fn a_terminal_is_opened_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/pts/ptmx", folder.path().join("ptmx")).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let odd = rustix::fs::open(folder.path(), flags, Mode::empty()).unwrap();

        assert!(terminal(&Devices { folder: Some(odd), uid: 0 }).is_err());
        assert!(terminal(&Devices { folder: None, uid: 0 }).is_err());
    }
}
