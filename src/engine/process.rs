//! A program in a container: how it is described, talked to and how it ends.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::io::AsyncWrite;

use super::EngineError;

/// What to start (after the OCI runtime specification's `process`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// The program.
    pub program: Program,
    /// Variables on top of the image's own.
    pub env: Vec<(String, String)>,
    /// The terminal, if the program gets one.
    pub terminal: Option<Terminal>,
    /// `USER` for a program whose user has no entry in the image's passwd.
    pub username: String,
}

/// Which program: the launcher knows how each is started in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// The login shell of the container's user, else `/bin/sh`, as a login shell.
    LoginShell,
    /// `-c COMMAND` of the login shell, else of `/bin/sh`. Bytes, since a path need not be UTF-8. No NUL inside.
    ShellCommand(Vec<u8>),
    /// Exactly this program with these arguments; never empty.
    Args(Vec<String>),
}

/// A pseudo-terminal as the client asked for it (RFC 4254 §6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// `TERM`: printable ASCII, at most 64 bytes.
    pub term: String,
    /// Its size.
    pub size: TerminalSize,
    /// Encoded terminal modes (RFC 4254 §8).
    pub modes: Vec<TerminalMode>,
}

/// A size in character cells; never zero, at most 4096 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    columns: u16,
    rows: u16,
}

impl TerminalSize {
    /// Past this no terminal emulator goes, and programs begin to allocate screens of gigabytes.
    const CELLS_MAX: u32 = 4096;

    /// Takes what a client said: 0 means "unknown" (RFC 4254 §6.2) and becomes 80×24, absurd values the maximum.
    #[must_use]
    pub fn from_client(columns: u32, rows: u32) -> Self {
        let sane = |cells: u32, unknown: u16| match cells {
            0 => unknown,
            cells => u16::try_from(cells.min(Self::CELLS_MAX)).unwrap_or(unknown),
        };
        Self { columns: sane(columns, 80), rows: sane(rows, 24) }
    }

    /// Character cells in a row.
    #[must_use]
    pub fn columns(self) -> u16 {
        self.columns
    }

    /// Rows.
    #[must_use]
    pub fn rows(self) -> u16 {
        self.rows
    }
}

/// One encoded terminal mode: opcode and argument of RFC 4254 §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalMode {
    /// Opcode, 1 to 159.
    pub opcode: u8,
    /// Its argument: 0 or 1 for flags, a character code or 255 (off) for characters, bits per second for speeds.
    pub argument: u32,
}

/// A started process.
pub struct Process {
    /// Its standard input. Shutting it down is end-of-file, where the launcher can express that.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it writes, in order, until nobody holds its output open any more.
    pub output: BoxStream<'static, io::Result<Output>>,
    /// Everything else.
    pub control: Arc<dyn ProcessControl>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("control", &self.control).finish_non_exhaustive()
    }
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// From standard output, or from the terminal.
    Stdout(Bytes),
    /// From standard error; never with a terminal.
    Stderr(Bytes),
}

/// Handles of a running process other than its streams.
#[async_trait]
pub trait ProcessControl: fmt::Debug + Send + Sync {
    /// Tells the terminal's new size (`SIGWINCH`). Without a terminal it does nothing.
    async fn resize(&self, size: TerminalSize) -> Result<(), EngineError>;

    /// Sends a signal to the process group.
    async fn signal(&self, signal: Signal) -> Result<(), EngineError>;

    /// Returns when the program has ended, even while its output waits to be read. Meant for when output is
    /// held up, since some engines cut what is unread a little after the end. Cancel safe.
    async fn ended(&self);

    /// How it ended. To be called once the output has ended.
    async fn wait(&self) -> Result<ExitStatus, EngineError>;
}

/// How a program ended (RFC 4254 §6.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this status.
    Exited(u32),
    /// A signal ended it.
    Signaled(Signal),
}

/// The signals of RFC 4254 §6.10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of POSIX")]
pub enum Signal {
    Abrt,
    Alrm,
    Fpe,
    Hup,
    Ill,
    Int,
    Kill,
    Pipe,
    Quit,
    Segv,
    Term,
    Usr1,
    Usr2,
}

impl Signal {
    const ALL: [(Self, &'static str, i32); 13] = [
        (Self::Abrt, "ABRT", 6),
        (Self::Alrm, "ALRM", 14),
        (Self::Fpe, "FPE", 8),
        (Self::Hup, "HUP", 1),
        (Self::Ill, "ILL", 4),
        (Self::Int, "INT", 2),
        (Self::Kill, "KILL", 9),
        (Self::Pipe, "PIPE", 13),
        (Self::Quit, "QUIT", 3),
        (Self::Segv, "SEGV", 11),
        (Self::Term, "TERM", 15),
        (Self::Usr1, "USR1", 10),
        (Self::Usr2, "USR2", 12),
    ];

    /// From a name without `SIG`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(signal, ..)| *signal)
    }

    /// The name without `SIG`.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(signal, ..)| *signal == self).map_or("TERM", |(_, name, _)| name)
    }

    /// From its number on Linux.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.iter().find(|(.., known)| *known == number).map(|(signal, ..)| *signal)
    }

    /// The number on Linux.
    #[must_use]
    pub fn number(self) -> i32 {
        Self::ALL.iter().find(|(signal, ..)| *signal == self).map_or(15, |(.., number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P10
    #[test]
    fn a_terminal_size_is_always_sane() {
        let size = |columns, rows| {
            let size = TerminalSize::from_client(columns, rows);
            (size.columns(), size.rows())
        };

        assert_eq!(size(100, 40), (100, 40));
        assert_eq!(size(0, 0), (80, 24));
        assert_eq!(size(65_535, 65_535), (4096, 4096));
        assert_eq!(size(u32::MAX, 1), (4096, 1));
    }

    #[test]
    fn signals_have_their_posix_names_and_linux_numbers() {
        assert_eq!(Signal::from_name("KILL"), Some(Signal::Kill));
        assert_eq!(Signal::from_name("SIGKILL"), None);
        assert_eq!((Signal::Usr1.name(), Signal::Usr1.number()), ("USR1", 10));
    }
}
