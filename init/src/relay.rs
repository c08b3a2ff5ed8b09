//! A program's streams where they travel in frames: our ends of its pipes, or of its terminal.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use coracle_init::{DATA_BYTES_MAX, FromInit, Malformed, OutputStream};
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{self, Errno};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::connection::Connection;
use crate::credit::{Credit, Window};
use crate::queue::Queue;
use crate::terminal::{self, duplicate};

/// Both outputs of a program.
pub(crate) const OUTPUTS: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

/// Our ends. What is closed is `None`.
#[derive(Debug)]
pub(crate) struct Relay {
    stdin: Option<OwnedFd>,
    /// Input on its way: within the window.
    waiting: Queue,
    window: Window,
    has_ended: bool,
    is_terminal: bool,
    stdout: Option<Outlet>,
    stderr: Option<Outlet>,
}

#[derive(Debug)]
struct Outlet {
    from: OwnedFd,
    credit: Credit,
}

impl Relay {
    /// Three pipes, and the program's ends.
    pub(crate) fn on_pipes() -> io::Result<(Self, [OwnedFd; 3])> {
        let [(input, stdin), (stdout, output), (stderr, errors)] = [pipe()?, pipe()?, pipe()?];
        let relay = Self::new(stdin, stdout, Some(stderr))?;
        Ok((relay, [input, output, errors]))
    }

    /// A terminal, and the program's side of it, three times.
    pub(crate) fn on_terminal() -> io::Result<(Self, [OwnedFd; 3])> {
        let (master, slave) = terminal::open()?;
        let relay = Self { is_terminal: true, ..Self::new(duplicate(&master)?, master, None)? };
        Ok((relay, [duplicate(&slave)?, duplicate(&slave)?, slave]))
    }

    fn new(stdin: OwnedFd, stdout: OwnedFd, stderr: Option<OwnedFd>) -> io::Result<Self> {
        for ours in [&stdin, &stdout].into_iter().chain(&stderr) {
            set_nonblocking(ours)?;
        }
        let outlet = |from| Outlet { from, credit: Credit::new() };
        Ok(Self {
            stdin: Some(stdin),
            waiting: Queue::default(),
            window: Window::new(),
            has_ended: false,
            is_terminal: false,
            stdout: Some(outlet(stdout)),
            stderr: stderr.map(outlet),
        })
    }

    /// Whether all output has been sent.
    pub(crate) fn is_done(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// What to wait for, to write input.
    pub(crate) fn input(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let stdin = self.stdin.as_ref().filter(|_| !self.waiting.is_empty())?;
        Some((stdin.as_fd(), PollFlags::OUT))
    }

    /// What to wait for, to read an output. Nothing while there is no credit: its end comes behind its bytes.
    pub(crate) fn output(&self, stream: OutputStream) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let outlet = match stream {
            OutputStream::Stdout => &self.stdout,
            OutputStream::Stderr => &self.stderr,
        };
        let outlet = outlet.as_ref().filter(|outlet| outlet.credit.left() > 0)?;
        Some((outlet.from.as_fd(), PollFlags::IN))
    }

    fn outlet(&mut self, stream: OutputStream) -> &mut Option<Outlet> {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    /// The server grants more of an output. Of one that has ended it may not know yet.
    pub(crate) fn grant(&mut self, stream: OutputStream, bytes: u32) {
        if let Some(outlet) = self.outlet(stream) {
            outlet.credit.add(bytes);
        }
    }

    /// Input for the program.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.has_ended {
            return Err(Malformed("there is more standard input after its end"));
        }
        self.window.receive(bytes.len())?;
        self.waiting.back().extend_from_slice(bytes);
        Ok(())
    }

    /// There is no more input. A terminal has no such thing.
    pub(crate) fn end_input(&mut self) {
        self.has_ended = true;
    }

    /// Writes what input can be written now, and grants more.
    pub(crate) fn write_input(&mut self, process: u32, connection: &mut Connection) {
        let mut taken = 0;
        while let Some(stdin) = self.stdin.as_ref().filter(|_| !self.waiting.is_empty()) {
            match io::write(stdin, self.waiting.front()) {
                Err(Errno::INTR) => {}
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(count) => {
                    taken += count;
                    self.waiting.consume(count);
                }
                Err(_) => self.stdin = None,
            }
        }
        if self.stdin.is_none() {
            // Nobody reads it. It goes nowhere, so that the server does not wait for ever.
            taken += self.waiting.len();
            self.waiting.consume(usize::MAX);
        }
        if self.has_ended && self.waiting.is_empty() && !self.is_terminal {
            self.stdin = None;
        }
        if let Some(bytes) = self.window.take(taken).filter(|_| !self.has_ended) {
            connection.say(&FromInit::Credit { process, bytes });
        }
    }

    /// Reads what output there is, a piece at a time.
    pub(crate) fn read_output(
        &mut self,
        process: u32,
        stream: OutputStream,
        connection: &mut Connection,
        buffer: &mut [u8],
    ) {
        let outlet = self.outlet(stream);
        let Some(open) = outlet else { return };
        let most = open.credit.left().min(DATA_BYTES_MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return };
        match io::read(&open.from, &mut *buffer) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal that nobody has open any more fails to be read.
            Ok(0) | Err(_) => {
                *outlet = None;
                connection.say(&FromInit::OutputEnd { process, stream });
            }
            Ok(count) => {
                open.credit.spend(count);
                let bytes = buffer.get(..count).unwrap_or_default();
                connection.say(&FromInit::Output { process, stream, bytes });
            }
        }
    }

    /// Tells a terminal's new size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        if let Some(master) = self.stdin.as_ref().filter(|_| self.is_terminal) {
            terminal::resize(master.as_fd(), columns, rows);
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC)
}

/// Of the descriptor's open file, which others may share.
pub(crate) fn set_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    fcntl_setfl(descriptor, fcntl_getfl(descriptor)? | OFlags::NONBLOCK)
}
