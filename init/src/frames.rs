//! Standard input and output as the way to the server.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::io::{self, fcntl_dupfd_cloexec};
use rustix::stdio::{dup2_stdin, dup2_stdout, stdin, stdout};

use crate::relay::set_nonblocking;

/// Away from the numbers that mean something.
const NUMBER_MIN: i32 = 10;

/// Takes both for ourselves: what else is done with standard input and output, by us or by a program, never gets there.
pub(crate) fn take_over() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (input, output) = (aside(stdin())?, aside(stdout())?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok((input, output))
}

fn aside(stream: impl std::os::fd::AsFd) -> io::Result<OwnedFd> {
    let stream = fcntl_dupfd_cloexec(stream, NUMBER_MIN)?;
    set_nonblocking(&stream)?;
    Ok(stream)
}
