//! Whatever ends in the container and has nobody else ends up here.

use coracle_init::Exit;
use rustix::process::{Pid, WaitOptions, wait};

/// Ended processes that are taken in at a time; others wait a moment, so that nobody can keep us busy with them.
pub(crate) const REAPED_MAX: usize = 256;

/// Some process that has ended; it is gone after that.
pub(crate) fn reap() -> Option<(Pid, Exit)> {
    let (pid, status) = wait(WaitOptions::NOHANG).ok()??;
    let byte = |number: Option<i32>| number.and_then(|number| u8::try_from(number).ok());
    let exit = byte(status.terminating_signal()).map(Exit::Signal);
    let exit = exit.or_else(|| byte(status.exit_status()).map(Exit::Status));
    Some((pid, exit.unwrap_or(Exit::Status(u8::MAX))))
}
