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

use crate::disposition;

/// Those that do nothing here, as to any first process, even where we are not it. The runtime sees to `SIGPIPE`.
const UNHEARD: [c_int; 9] = [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2];

/// What has arrived.
#[derive(Debug)]
pub(crate) struct Signals {
    wake: UnixStream,
    term: Arc<AtomicBool>,
}

impl Signals {
    /// From here on signals are caught.
    pub(crate) fn catch() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        disposition::leave_faults_to_the_kernel();
        for signal in UNHEARD {
            flag::register(signal, Arc::default())?;
        }
        let term = Arc::default();
        flag::register(SIGTERM, Arc::clone(&term))?;
        pipe::register(SIGTERM, waker.try_clone()?)?;
        pipe::register(SIGCHLD, waker)?;
        disposition::unblock_all()?;
        Ok(Self { wake, term })
    }

    /// Forgets what woke us; true when we were asked to end.
    pub(crate) fn take(&self) -> bool {
        let mut bytes = [0; 64];
        while matches!((&self.wake).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        self.term.swap(false, Ordering::SeqCst)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
