//! What happens in a session, as a recording has it.

use std::time::Duration;

use bytes::Bytes;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The client was sent something.
    Output(Stream, Bytes),
    /// The client sent something.
    Input(Bytes),
    /// The client's terminal has another size.
    Resize {
        /// Character cells in a row.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// The client sent a signal; its name without `SIG`.
    Signal(&'static str),
}

/// Which output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Of the program, or its terminal.
    Stdout,
    /// Error output of the program, and ours.
    Stderr,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program ended with this status.
    Exited(u32),
    /// A signal ended the program; its name without `SIG`.
    Signaled(&'static str),
    /// It has no end of its own: why.
    Failed(String),
}

/// What did not get into a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// What an event takes besides what it carries, in bytes: its place in the queue, and an allocation.
pub(super) const EVENT_BYTES: usize = size_of::<Timed>() + 64;

/// An event in the queue.
#[derive(Debug)]
pub(super) struct Timed {
    /// Since the session's start.
    pub(super) at: Duration,
    /// What did not fit right before it.
    pub(super) lost: Lost,
    pub(super) event: Event,
}

impl Event {
    /// What it weighs in the queue, in bytes.
    pub(super) fn weight(&self) -> usize {
        let bytes = match self {
            Self::Output(_, bytes) | Self::Input(bytes) => bytes.len(),
            Self::Resize { .. } | Self::Signal(_) => 0,
        };
        bytes + EVENT_BYTES
    }
}

impl Lost {
    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}
