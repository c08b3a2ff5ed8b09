//! One direction of a socket's traffic: from here to there, without ever waiting.

use std::os::fd::BorrowedFd;

use rustix::io::{self, Errno};
use rustix::pipe::{SpliceFlags, splice};

use crate::queue::Queue;

/// Moved by one call: more than a pipe holds.
const SPLICE_BYTES: usize = 1 << 20;

/// Read at once where bytes are copied.
const COPY_BYTES: usize = 64 << 10;

/// Calls before the other direction has its turn.
const ROUNDS_MAX: u32 = 16;

/// Both ends were ready, one after the other, and nothing moved: so often it may be chance.
const VAIN_MAX: u32 = 3;

/// What has to be ready before there is anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Something to read.
    Source,
    /// Room to write.
    Sink,
}

/// Why there is no more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// All that there was has been written.
    Ended,
    /// It cannot be read any more.
    SourceFailed,
    /// Nobody takes it any more.
    SinkFailed,
}

/// How far it is.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) needs: Needs,
    /// What was read and not written yet; `None` while the kernel moves pages itself.
    copied: Option<Queue>,
    /// Calls since something moved.
    in_vain: u32,
}

impl Flow {
    pub(crate) fn new() -> Self {
        Self { needs: Needs::Source, copied: None, in_vain: 0 }
    }

    /// Moves what can be moved now.
    ///
    /// # Errors
    /// There is no more to do.
    pub(crate) fn advance(&mut self, source: BorrowedFd<'_>, sink: BorrowedFd<'_>) -> Result<(), Over> {
        for _ in 0..ROUNDS_MAX {
            let goes_on = match &mut self.copied {
                Some(copied) => {
                    let step = copy(copied, source, sink);
                    self.needs = if copied.is_empty() { Needs::Source } else { Needs::Sink };
                    step?
                }
                None => self.splice(source, sink)?,
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Whether there may be more to move at once.
    fn splice(&mut self, source: BorrowedFd<'_>, sink: BorrowedFd<'_>) -> Result<bool, Over> {
        match splice(source, None, sink, None, SPLICE_BYTES, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(0) => Err(Over::Ended),
            Ok(_) => {
                (self.needs, self.in_vain) = (Needs::Source, 0);
                Ok(true)
            }
            Err(Errno::INTR) => Ok(true),
            // Which end is not ready it does not say: we ask the one, then the other.
            Err(Errno::AGAIN) if self.in_vain < VAIN_MAX => {
                if self.in_vain > 0 {
                    self.needs = match self.needs {
                        Needs::Source => Needs::Sink,
                        Needs::Sink => Needs::Source,
                    };
                }
                self.in_vain += 1;
                Ok(false)
            }
            // Not everybody's kernel can do this; copying tells what is really wrong.
            Err(_) => {
                self.copied = Some(Queue::default());
                Ok(true)
            }
        }
    }
}

/// Reads or writes once; whether there may be more to do at once.
fn copy(copied: &mut Queue, source: BorrowedFd<'_>, sink: BorrowedFd<'_>) -> Result<bool, Over> {
    if copied.is_empty() {
        let buffer = copied.back();
        buffer.resize(COPY_BYTES, 0);
        let read = io::read(source, buffer.as_mut_slice());
        buffer.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => return Err(Over::Ended),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(true),
            Err(Errno::AGAIN) => return Ok(false),
            Err(_) => return Err(Over::SourceFailed),
        }
    }
    match io::write(sink, copied.front()) {
        Ok(count) => {
            copied.consume(count);
            Ok(true)
        }
        Err(Errno::INTR) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(_) => Err(Over::SinkFailed),
    }
}
