//! Frames and what is in them.

pub(crate) mod forward;
pub(crate) mod from_init;
pub(crate) mod limits;
pub(crate) mod start;
pub(crate) mod to_init;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

/// The version of this protocol.
pub const VERSION: u16 = 1;

/// What a server gives to an init so that it can be known again when the server has been away. All zero: none.
pub type Token = [u8; 32];

/// Which of a program's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error; never with a terminal.
    Stderr,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Status(u8),
    /// The signal of this number ended it.
    Signal(u8),
}
