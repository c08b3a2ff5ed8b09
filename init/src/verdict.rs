//! Whether a child has connected: it says so once, on a pipe of its own, before anything else.

use std::io as std_io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_init::{Failure, FromInit, REASON_BYTES_MAX};
use rustix::io;

use crate::processes::why;
use crate::relay::{pipe, set_nonblocking};

/// A child looks at the clock itself, unless a name is being looked up, or somebody has stopped it.
const LATE: Duration = Duration::from_millis(200);

/// Longer than any verdict.
const VERDICT_BYTES_MAX: usize = REASON_BYTES_MAX + 64;

/// Why something was not dialled, listened on or taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) reason: String,
}

impl Failed {
    pub(crate) fn new(failure: Failure, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self { failure, reason }
    }

    /// There is no room for one more process.
    pub(crate) fn too_many(what: &str) -> Self {
        Self::new(Failure::Exhausted, format!("there are too many {what} in the container"))
    }

    /// We are on our way out.
    pub(crate) fn ending() -> Self {
        Self::new(Failure::Other, "the container is about to end")
    }

    /// As a frame.
    pub(crate) fn frame(&self, process: u32) -> FromInit<'_> {
        FromInit::Failed { process, failure: self.failure, reason: self.reason.as_bytes() }
    }
}

/// What the system refuses us.
impl From<std_io::Error> for Failed {
    fn from(error: std_io::Error) -> Self {
        let is_scarce = matches!(
            io::Errno::from_io_error(&error),
            Some(
                io::Errno::AGAIN
                    | io::Errno::NOMEM
                    | io::Errno::NOBUFS
                    | io::Errno::MFILE
                    | io::Errno::NFILE
                    | io::Errno::NOSPC
                    | io::Errno::DQUOT
            )
        );
        Self::new(if is_scarce { Failure::Exhausted } else { Failure::Other }, why(&error))
    }
}

impl From<io::Errno> for Failed {
    fn from(error: io::Errno) -> Self {
        std_io::Error::from(error).into()
    }
}

/// What a child has to say.
pub(crate) type Verdict = Result<(), Failed>;

/// Our end of the pipe.
#[derive(Debug)]
pub(crate) struct Awaited {
    from: OwnedFd,
    /// Past this it is taken for one that took too long.
    pub(crate) until: Instant,
}

impl Awaited {
    /// A pipe, and the child's end. `until` is when the child itself gives up.
    pub(crate) fn new(until: Instant) -> io::Result<(Self, OwnedFd)> {
        let (from, to) = pipe()?;
        set_nonblocking(&from)?;
        Ok((Self { from, until: until + LATE }, to))
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }

    /// The verdict, once there is one. A child that has ended without one has failed.
    pub(crate) fn hear(&self) -> Option<Verdict> {
        let mut bytes = [0; VERDICT_BYTES_MAX];
        match io::read(&self.from, &mut bytes[..]) {
            Err(io::Errno::AGAIN | io::Errno::INTR) => None,
            Ok(count) if count > 0 => Some(decode(bytes.get(..count).unwrap_or_default())),
            _ => Some(Err(Failed::new(Failure::Other, "it was ended before it had connected"))),
        }
    }
}

/// What a verdict is when time is up and there is none.
pub(crate) fn too_late() -> Failed {
    Failed::new(Failure::TimedOut, "it took too long")
}

/// Tells ours, in the words that the server gets.
pub(crate) fn tell(verdict: &Verdict, to: impl AsFd) {
    let frame = match verdict {
        Ok(()) => FromInit::Started { process: 0, pid: 0 },
        Err(failed) => failed.frame(0),
    };
    let mut bytes = Vec::new();
    // Neither fails: it is short, and a pipe takes what is short whole.
    frame.encode(&mut bytes).unwrap_or_default();
    io::write(to, &bytes).unwrap_or_default();
}

fn decode(bytes: &[u8]) -> Verdict {
    match FromInit::decode(bytes) {
        Ok(Some((FromInit::Started { .. }, _))) => Ok(()),
        Ok(Some((FromInit::Failed { failure, reason, .. }, _))) => {
            Err(Failed::new(failure, String::from_utf8_lossy(reason)))
        }
        _ => Err(Failed::new(Failure::Other, "it ended before it had connected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_arrives_as_it_was_told() {
        for verdict in [Ok(()), Err(Failed::new(Failure::Unknown, "ä".repeat(REASON_BYTES_MAX)))] {
            let (awaited, to) = Awaited::new(Instant::now()).unwrap();
            assert_eq!(awaited.hear(), None);
            tell(&verdict, &to);
            assert_eq!(awaited.hear(), Some(verdict));
        }
    }

    #[test]
    fn an_end_without_a_verdict_is_one() {
        let (awaited, to) = Awaited::new(Instant::now()).unwrap();
        drop(to);
        assert_eq!(awaited.hear().unwrap().unwrap_err().failure, Failure::Other);
    }
}
