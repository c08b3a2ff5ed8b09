//! Signals to the init itself.

use std::ffi::c_int;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// Those that whoever started us may have ignored, which programs would inherit: what has a handler is back to its
/// default once a program runs. The rest of the time they do nothing here, as to any first process.
const HANDLED: [c_int; 11] =
    [SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2];

/// What has arrived.
#[derive(Debug)]
pub(crate) struct Signals {
    wake: UnixStream,
    term: Arc<AtomicBool>,
    in_child: Arc<AtomicBool>,
}

impl Signals {
    /// From here on signals are caught.
    pub(crate) fn catch() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let (term, in_child) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in HANDLED {
            // First, so that a child's signals do not wake us through the pipe that it shares with us.
            flag::register_conditional_default(signal, Arc::clone(&in_child))?;
        }
        flag::register(SIGTERM, Arc::clone(&term))?;
        pipe::register(SIGTERM, waker.try_clone()?)?;
        pipe::register(SIGCHLD, waker)?;
        Ok(Self { wake, term, in_child })
    }

    /// Forgets what woke us; true when we were asked to end.
    pub(crate) fn take(&self) -> bool {
        let mut bytes = [0; 64];
        while matches!((&self.wake).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        self.term.swap(false, Ordering::SeqCst)
    }

    /// Set in a child, signals do what they do by default even before its program runs.
    pub(crate) fn in_child(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.in_child)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
