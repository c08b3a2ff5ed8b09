//! What the init says.

use super::forward::Failure;
use super::limits::{DATA_BYTES_MAX, PATH_BYTES_MAX, REASON_BYTES_MAX};
use super::wire::{Malformed, Raw, Reader, Writer, without_nul};
use super::{Exit, OutputStream, Token};

/// A frame from the init to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromInit<'a> {
    /// The first frame. On a socket a descriptor of the folder `/dev/pts` comes with it, if there is one.
    Hello {
        /// The lowest version that it speaks.
        version_min: u16,
        /// The highest version that it speaks.
        version_max: u16,
        /// The token of the welcome before, or zeros.
        token: Token,
    },
    /// The program has begun, or has written on its standard error why it cannot be run.
    Started {
        /// The program.
        process: u32,
        /// Its process id inside the container.
        pid: u32,
    },
    /// The program could not be started, for a reason that is not the program's.
    Refused {
        /// The program.
        process: u32,
        /// Why: at most [`REASON_BYTES_MAX`], not necessarily UTF-8.
        reason: &'a [u8],
    },
    /// Bytes that it wrote, within the window. In frames only.
    Output {
        /// The program.
        process: u32,
        /// Where it wrote them.
        stream: OutputStream,
        /// At most [`DATA_BYTES_MAX`].
        bytes: &'a [u8],
    },
    /// There is no more of this output. In frames only.
    OutputEnd {
        /// The program.
        process: u32,
        /// Of which output.
        stream: OutputStream,
    },
    /// The program has ended; output may still come.
    Exited {
        /// The program.
        process: u32,
        /// How.
        exit: Exit,
    },
    /// So much more standard input may be sent. In frames only.
    Credit {
        /// The program.
        process: u32,
        /// Bytes.
        bytes: u32,
    },
    /// It listens.
    Listening {
        /// What.
        listener: u32,
        /// The TCP port; 0 for a socket of the file system.
        port: u16,
        /// What was made for it: the socket, or the file with a display's cookie; else empty. At most
        /// [`PATH_BYTES_MAX`], without NUL.
        path: &'a [u8],
    },
    /// Somebody waits there to be taken in. Said again only after the server has tried to.
    Knock {
        /// Where.
        listener: u32,
    },
    /// Somebody was taken in.
    Accepted {
        /// The number that was given for them.
        process: u32,
        /// From which address: IPv4 or IPv6 as text, or empty. At most [`PATH_BYTES_MAX`].
        host: &'a [u8],
        /// And port.
        port: u16,
    },
    /// Something was not dialled, not listened on, or nobody was there to be taken in. The number is of nothing.
    Failed {
        /// Its number.
        process: u32,
        /// Of what kind the reason is.
        failure: Failure,
        /// Why, for people: at most [`REASON_BYTES_MAX`], not necessarily UTF-8.
        reason: &'a [u8],
    },
}

const HELLO: u8 = 65;
const STARTED: u8 = 66;
const REFUSED: u8 = 67;
const OUTPUT: u8 = 68;
const OUTPUT_END: u8 = 69;
const EXITED: u8 = 70;
const CREDIT: u8 = 71;
const LISTENING: u8 = 72;
const KNOCK: u8 = 73;
const ACCEPTED: u8 = 74;
const FAILED: u8 = 75;

/// The first bytes of a hello's body.
const MAGIC: [u8; 8] = *b"coracle\0";

/// The longest body: an output's number and its bytes.
const SAID_BYTES_MAX: usize = DATA_BYTES_MAX + 1;

const STATUS: u8 = 0;
const SIGNAL: u8 = 1;

impl<'a> FromInit<'a> {
    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// It would be longer than a frame may be; `out` is as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let begin = |out, kind, process: &u32| Writer::begin(out, kind, *process);
        let mut to = match self {
            Self::Hello { version_min, version_max, token } => {
                let mut to = begin(out, HELLO, &0);
                to.rest(&MAGIC).u16(*version_min).u16(*version_max).rest(token);
                to
            }
            Self::Started { process, pid } => {
                let mut to = begin(out, STARTED, process);
                to.u32(*pid);
                to
            }
            Self::Refused { process, reason } => {
                let mut to = begin(out, REFUSED, process);
                to.rest(reason);
                to
            }
            Self::Output { process, stream, bytes } => {
                let mut to = begin(out, OUTPUT, process);
                to.u8(stream.number()).rest(bytes);
                to
            }
            Self::OutputEnd { process, stream } => {
                let mut to = begin(out, OUTPUT_END, process);
                to.u8(stream.number());
                to
            }
            Self::Exited { process, exit } => {
                let mut to = begin(out, EXITED, process);
                match exit {
                    Exit::Status(status) => to.u8(STATUS).u8(*status),
                    Exit::Signal(number) => to.u8(SIGNAL).u8(*number),
                };
                to
            }
            Self::Credit { process, bytes } => {
                let mut to = begin(out, CREDIT, process);
                to.u32(*bytes);
                to
            }
            Self::Listening { listener, port, path } => {
                let mut to = begin(out, LISTENING, listener);
                to.u16(*port).rest(path);
                to
            }
            Self::Knock { listener } => begin(out, KNOCK, listener),
            Self::Accepted { process, host, port } => {
                let mut to = begin(out, ACCEPTED, process);
                to.u16(*port).rest(host);
                to
            }
            Self::Failed { process, failure, reason } => {
                let mut to = begin(out, FAILED, process);
                to.u8(failure.number()).rest(reason);
                to
            }
        };
        to.rest(&[]);
        to.end()
    }

    /// The first frame of `received` and how many bytes it takes; `None` when more has to be received first.
    ///
    /// # Errors
    /// That is no frame of ours; the connection is of no more use.
    pub fn decode(received: &'a [u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let Some((raw, length)) = Raw::split(received, SAID_BYTES_MAX)? else { return Ok(None) };
        Self::from_raw(raw).map(|frame| Some((frame, length)))
    }

    fn from_raw(Raw { kind, process, body }: Raw<'a>) -> Result<Self, Malformed> {
        let mut from = Reader(body);
        let frame = match kind {
            HELLO if process != 0 => return Err(Malformed("a hello is none of a program's")),
            HELLO => {
                if from.array()? != MAGIC {
                    return Err(Malformed("a hello is not ours"));
                }
                Self::Hello { version_min: from.u16()?, version_max: from.u16()?, token: from.array()? }
            }
            STARTED => Self::Started { process, pid: from.u32()? },
            REFUSED if body.len() > REASON_BYTES_MAX => return Err(Malformed("a reason is too long")),
            REFUSED => Self::Refused { process, reason: from.rest() },
            OUTPUT => {
                Self::Output { process, stream: OutputStream::from_number(from.u8()?)?, bytes: from.rest() }
            }
            OUTPUT_END => Self::OutputEnd { process, stream: OutputStream::from_number(from.u8()?)? },
            EXITED => {
                let exit = match (from.u8()?, from.u8()?) {
                    (STATUS, status) => Exit::Status(status),
                    (SIGNAL, number) => Exit::Signal(number),
                    _ => return Err(Malformed("a program ended in no known way")),
                };
                Self::Exited { process, exit }
            }
            CREDIT => Self::Credit { process, bytes: from.u32()? },
            LISTENING => Self::Listening { listener: process, port: from.u16()?, path: path(&mut from)? },
            KNOCK => Self::Knock { listener: process },
            ACCEPTED => {
                let port = from.u16()?;
                Self::Accepted { process, host: path(&mut from)?, port }
            }
            FAILED if body.len() > 1 + REASON_BYTES_MAX => return Err(Malformed("a reason is too long")),
            FAILED => {
                Self::Failed { process, failure: Failure::from_number(from.u8()?)?, reason: from.rest() }
            }
            _ => return Err(Malformed("a frame is of no known kind")),
        };
        from.end()?;
        Ok(frame)
    }
}

fn path<'a>(from: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    match without_nul(from.rest())? {
        path if path.len() > PATH_BYTES_MAX => Err(Malformed("a path is too long")),
        path => Ok(path),
    }
}

impl OutputStream {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    pub(crate) fn from_number(number: u8) -> Result<Self, Malformed> {
        match number {
            1 => Ok(Self::Stdout),
            2 => Ok(Self::Stderr),
            _ => Err(Malformed("an output is neither standard output nor standard error")),
        }
    }
}
