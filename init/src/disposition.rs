//! What signals do to a process, by system calls of our own: a libc keeps some of them to itself, and whoever started us
//! may have ignored or blocked any.
//!
//! `unsafe`: there is no other way to the kernel for this. No handler is set in here.

#![expect(unsafe_code, reason = "system calls that no safe function stands for")]

use std::io;
use std::ptr::null_mut;

use libc::{
    SIG_DFL, SIG_IGN, SIG_SETMASK, SIGBUS, SIGPIPE, SIGSEGV, SYS_rt_sigaction, SYS_rt_sigprocmask, c_int,
    sighandler_t,
};

/// As the kernel counts them, those for libraries included.
const SIGNALS: std::ops::RangeInclusive<c_int> = 1..=64;

/// One bit for each.
type SignalSet = u64;

/// The kernel's `struct sigaction`: what to do comes first; no flags, no mask.
type Action = [usize; 4];

/// From here on signals wait.
pub(crate) fn block_all() -> io::Result<()> {
    set_mask(SignalSet::MAX)
}

/// None waits any more, whatever waited when we began.
pub(crate) fn unblock_all() -> io::Result<()> {
    set_mask(0)
}

/// Back to what each does by default. In a child: it is the end of all handlers.
pub(crate) fn reset_all() {
    for signal in SIGNALS {
        // Two of them cannot do anything else.
        act(signal, SIG_DFL).unwrap_or_default();
    }
}

/// The runtime's handlers of faults have a small stack of their own, on which signals that come on top do not fit. Without
/// a handler the kernel lets nobody inside send these to a first process.
pub(crate) fn leave_faults_to_the_kernel() {
    for signal in [SIGSEGV, SIGBUS] {
        act(signal, SIG_DFL).unwrap_or_default();
    }
}

/// Writing where nobody reads is an error, and not the end.
pub(crate) fn ignore_broken_pipes() {
    act(SIGPIPE, SIG_IGN).unwrap_or_default();
}

fn set_mask(mask: SignalSet) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as it is told that there are, and writes none.
    let result = unsafe {
        libc::syscall(
            SYS_rt_sigprocmask,
            SIG_SETMASK,
            &raw const mask,
            null_mut::<SignalSet>(),
            size_of::<SignalSet>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn act(signal: c_int, what: sighandler_t) -> io::Result<()> {
    let action: Action = [what, 0, 0, 0];
    // SAFETY: as above; both actions that are given to this are the kernel's own, and run no code of ours.
    let result = unsafe {
        libc::syscall(
            SYS_rt_sigaction,
            signal,
            &raw const action,
            null_mut::<Action>(),
            size_of::<SignalSet>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
