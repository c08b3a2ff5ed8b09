//! What the server says.

use super::forward::{Dial, Listen};
use super::limits::{BODY_BYTES_MAX, DATA_BYTES_MAX};
use super::start::Start;
use super::wire::{Malformed, Raw, Reader, Writer};
use super::{OutputStream, Token};

/// A frame from the server to the init. Numbers of processes and listeners are the server's choice and are never used twice,
/// also not by the other kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToInit<'a> {
    /// The answer to a hello: the version that both speak, and what to do without a server. On a socket the writing end of
    /// a pipe comes with it, for all that the init says from here on: descriptors cannot be sent over that.
    Welcome {
        /// The version that is spoken from here on.
        version: u16,
        /// How long to live on without a server, in milliseconds; 0: for ever.
        orphan_timeout_ms: u32,
        /// What to show to the next server.
        token: Token,
    },
    /// Start a program. On a socket the descriptors come with the frame: standard input, output and error, or the
    /// terminal.
    Start {
        /// Its number from here on.
        process: u32,
        /// What to start.
        start: Box<Start>,
    },
    /// Send a signal to its process group.
    Signal {
        /// The program.
        process: u32,
        /// The signal's number on Linux.
        number: u8,
    },
    /// Its terminal has another size.
    Resize {
        /// The program.
        process: u32,
        /// Character cells in a row.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Bytes for its standard input, within the window. In frames only.
    Stdin {
        /// The program.
        process: u32,
        /// At most [`DATA_BYTES_MAX`].
        bytes: &'a [u8],
    },
    /// There is no more standard input. In frames only.
    StdinEnd {
        /// The program.
        process: u32,
    },
    /// So much more of an output may be sent. In frames only.
    Credit {
        /// The program.
        process: u32,
        /// Of which output.
        stream: OutputStream,
        /// Bytes.
        bytes: u32,
    },
    /// Nobody reads its output or feeds it any more: close what it has of the init. In frames only.
    Release {
        /// The program.
        process: u32,
    },
    /// Dial somebody; what they say is its output, and its input is for them. On a socket two pipes come with the frame: for
    /// input and output. It is a process from here on, and can be killed.
    Dial {
        /// Its number from here on.
        process: u32,
        /// Whom.
        dial: Box<Dial>,
    },
    /// Listen.
    Listen {
        /// The number of what listens from here on.
        listener: u32,
        /// On what.
        listen: Box<Listen>,
    },
    /// Take in the first who waits. As [`ToInit::Dial`].
    Accept {
        /// Its number from here on.
        process: u32,
        /// Where it waits.
        listener: u32,
    },
    /// Listen no more, and remove what was made for it. Those who were taken in stay.
    Unlisten {
        /// What listens.
        listener: u32,
    },
}

const WELCOME: u8 = 1;
const START: u8 = 2;
const SIGNAL: u8 = 3;
const RESIZE: u8 = 4;
const STDIN: u8 = 5;
const STDIN_END: u8 = 6;
const CREDIT: u8 = 7;
const RELEASE: u8 = 8;
const DIAL: u8 = 9;
const LISTEN: u8 = 10;
const ACCEPT: u8 = 11;
const UNLISTEN: u8 = 12;

impl<'a> ToInit<'a> {
    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// It would be longer than a frame may be; `out` is as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let begin = |out, kind, process: &u32| Writer::begin(out, kind, *process);
        let mut to = match self {
            Self::Welcome { version, orphan_timeout_ms, token } => {
                let mut to = begin(out, WELCOME, &0);
                to.u16(*version).u32(*orphan_timeout_ms).rest(token);
                to
            }
            Self::Start { process, start } => {
                let mut to = begin(out, START, process);
                start.write(&mut to);
                to
            }
            Self::Signal { process, number } => {
                let mut to = begin(out, SIGNAL, process);
                to.u8(*number);
                to
            }
            Self::Resize { process, columns, rows } => {
                let mut to = begin(out, RESIZE, process);
                to.u16(*columns).u16(*rows);
                to
            }
            Self::Stdin { process, bytes } => {
                let mut to = begin(out, STDIN, process);
                to.rest(bytes);
                to
            }
            Self::StdinEnd { process } => begin(out, STDIN_END, process),
            Self::Credit { process, stream, bytes } => {
                let mut to = begin(out, CREDIT, process);
                to.u8(stream.number()).u32(*bytes);
                to
            }
            Self::Release { process } => begin(out, RELEASE, process),
            Self::Dial { process, dial } => {
                let mut to = begin(out, DIAL, process);
                dial.write(&mut to);
                to
            }
            Self::Listen { listener, listen } => {
                let mut to = begin(out, LISTEN, listener);
                listen.write(&mut to);
                to
            }
            Self::Accept { process, listener } => {
                let mut to = begin(out, ACCEPT, process);
                to.u32(*listener);
                to
            }
            Self::Unlisten { listener } => begin(out, UNLISTEN, listener),
        };
        to.rest(&[]);
        to.end()
    }

    /// The first frame of `received` and how many bytes it takes; `None` when more has to be received first.
    ///
    /// # Errors
    /// That is no frame of ours; the connection is of no more use.
    pub fn decode(received: &'a [u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let Some((raw, length)) = Raw::split(received, BODY_BYTES_MAX)? else { return Ok(None) };
        Self::from_raw(raw).map(|frame| Some((frame, length)))
    }

    fn from_raw(Raw { kind, process, body }: Raw<'a>) -> Result<Self, Malformed> {
        let mut from = Reader(body);
        let frame = match kind {
            WELCOME if process != 0 => return Err(Malformed("a welcome is none of a program's")),
            WELCOME => {
                Self::Welcome { version: from.u16()?, orphan_timeout_ms: from.u32()?, token: from.array()? }
            }
            START => Self::Start { process, start: Box::new(Start::read(&mut from)?) },
            SIGNAL => Self::Signal { process, number: from.u8()? },
            RESIZE => Self::Resize { process, columns: from.u16()?, rows: from.u16()? },
            STDIN if body.len() > DATA_BYTES_MAX => return Err(Malformed("a frame is too long")),
            STDIN => Self::Stdin { process, bytes: from.rest() },
            STDIN_END => Self::StdinEnd { process },
            CREDIT => {
                Self::Credit { process, stream: OutputStream::from_number(from.u8()?)?, bytes: from.u32()? }
            }
            RELEASE => Self::Release { process },
            DIAL => Self::Dial { process, dial: Box::new(Dial::read(&mut from)?) },
            LISTEN => Self::Listen { listener: process, listen: Box::new(Listen::read(&mut from)?) },
            ACCEPT => Self::Accept { process, listener: from.u32()? },
            UNLISTEN => Self::Unlisten { listener: process },
            _ => return Err(Malformed("a frame is of no known kind")),
        };
        from.end()?;
        Ok(frame)
    }
}
