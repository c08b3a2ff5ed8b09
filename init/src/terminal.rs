//! Terminals: those that the server made, and our own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_init::Terminal;
use rustix::fs::{OFlags, fchown};
use rustix::io::{self, Errno};
use rustix::process::Uid;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Winsize, isatty, tcgetattr, tcsetattr, tcsetwinsize};

use crate::terminal_modes;

/// Makes the program's side of a terminal what the client asked for, before anybody can look.
///
/// # Errors
/// It is no terminal.
pub(crate) fn prepare(slave: &OwnedFd, terminal: &Terminal, uid: Uid) -> io::Result<()> {
    if !isatty(slave) {
        return Err(Errno::NOTTY);
    }
    resize(slave.as_fd(), terminal.columns, terminal.rows);
    if let Ok(mut settings) = tcgetattr(slave)
        && !terminal.modes.is_empty()
    {
        terminal_modes::apply(&terminal.modes, &mut settings);
        // A terminal with other modes is better than none.
        tcsetattr(slave, OptionalActions::Now, &settings).unwrap_or_default();
    }
    // Without that right it is whose it is already: ours, or the server's.
    fchown(slave, Some(uid), None).unwrap_or_default();
    Ok(())
}

/// Tells the size in character cells. A terminal that has gone does not care.
pub(crate) fn resize(terminal: BorrowedFd<'_>, columns: u16, rows: u16) {
    tcsetwinsize(terminal, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 })
        .unwrap_or_default();
}

/// A new terminal: our side, and the program's.
pub(crate) fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    if let Ok(slave) = ioctl_tiocgptpeer(&master, flags) {
        return Ok((master, slave));
    }
    // Kernels before 4.13, and those that play one.
    let path = ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    Ok((master, slave))
}

/// Another descriptor of the same thing.
pub(crate) fn duplicate(descriptor: &OwnedFd) -> io::Result<OwnedFd> {
    io::fcntl_dupfd_cloexec(descriptor, 3)
}
