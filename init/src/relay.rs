//! A program's streams where they travel in frames: our ends of its pipes, or of its terminal.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use coracle_init::{DATA_BYTES_MAX, FromInit, Malformed, OutputStream};
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{self, Errno};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::connection::Connection;
use crate::credit::{Credit, Window};
use crate::linger::Linger;
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
    /// Nobody reads the outputs, or writes more input.
    is_released: bool,
    is_terminal: bool,
    stdout: Option<Outlet>,
    stderr: Option<Outlet>,
    /// From the program's end until it is known what the rest of its output is.
    linger: Option<Linger>,
}

#[derive(Debug)]
struct Outlet {
    from: OwnedFd,
    credit: Credit,
    /// How much is to come yet, once that is known.
    rest: Option<u64>,
}

impl Relay {
    /// Three pipes, and the program's ends.
    pub(crate) fn on_pipes() -> io::Result<(Self, [OwnedFd; 3])> {
        let [(input, stdin), (stdout, output), (stderr, errors)] = [pipe()?, pipe()?, pipe()?];
        let relay = Self::new(stdin, stdout, Some(stderr))?;
        Ok((relay, [input, output, errors]))
    }

    /// Two pipes, and the ends of somebody who has no standard error.
    pub(crate) fn on_two_pipes() -> io::Result<(Self, [OwnedFd; 2])> {
        let [(input, stdin), (stdout, output)] = [pipe()?, pipe()?];
        Ok((Self::new(stdin, stdout, None)?, [input, output]))
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
        let outlet = |from| Outlet { from, credit: Credit::new(), rest: None };
        Ok(Self {
            stdin: Some(stdin),
            waiting: Queue::default(),
            window: Window::new(),
            has_ended: false,
            is_released: false,
            is_terminal: false,
            stdout: Some(outlet(stdout)),
            stderr: stderr.map(outlet),
            linger: None,
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
    pub(crate) fn grant(&mut self, stream: OutputStream, bytes: u32, now: Instant) {
        self.pass_time(now, true);
        if let Some(outlet) = self.outlet(stream) {
            outlet.credit.add(bytes);
        }
    }

    /// Nobody cares for the outputs any more, and there is no more input. What has come of that still gets there; what is
    /// left for that is told.
    pub(crate) fn release(self) -> Option<Self> {
        let is_done = self.is_terminal || self.stdin.is_none() || self.waiting.is_empty();
        let released =
            Self { stdout: None, stderr: None, linger: None, has_ended: true, is_released: true, ..self };
        (!is_done).then_some(released)
    }

    /// Input for the program.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.is_released {
            return Ok(());
        }
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
        let rest = open.rest.map_or(usize::MAX, |rest| usize::try_from(rest).unwrap_or(usize::MAX));
        let most = open.credit.left().min(DATA_BYTES_MAX).min(buffer.len()).min(rest);
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return };
        match io::read(&open.from, &mut *buffer) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal that nobody has open any more fails to be read.
            Ok(0) | Err(_) => {
                *outlet = None;
                connection.say(&FromInit::OutputEnd { process, stream });
            }
            Ok(count) => {
                open.spend(count);
                let bytes = buffer.get(..count).unwrap_or_default();
                connection.say(&FromInit::Output { process, stream, bytes });
                self.linger.iter_mut().for_each(|linger| linger.break_silence(Instant::now()));
            }
        }
    }

    /// The program has ended; others may still write.
    pub(crate) fn linger(&mut self, now: Instant) {
        self.linger = Some(Linger::new(now));
    }

    /// When to look at the output again, if nothing happens before.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.linger.as_ref()?.next_look()
    }

    /// Once the program has ended, ends what has been written for too long, or not been for long enough. What is there is
    /// still sent.
    pub(crate) fn watch_over_time(&mut self, process: u32, connection: &mut Connection, now: Instant) {
        self.pass_time(now, connection.has_room_for_output());
        let has_output = self.outlets().any(Outlet::has_output);
        if self.linger.take_if(|linger| linger.is_over(now, has_output)).is_some() {
            for outlet in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
                outlet.rest = Some(outlet.waiting());
            }
        }
        for stream in OUTPUTS {
            let outlet = self.outlet(stream);
            // If it was to come and is not there, somebody else has read it.
            let is_over =
                |outlet: &mut Outlet| outlet.rest.is_some_and(|rest| rest == 0 || !outlet.has_output());
            if outlet.take_if(is_over).is_some() {
                connection.say(&FromInit::OutputEnd { process, stream });
            }
        }
    }

    /// Counts the time; before there is more credit, or more room.
    fn pass_time(&mut self, now: Instant, has_room: bool) {
        let is_held_up = |outlet: &Outlet| (outlet.credit.left() == 0 || !has_room) && outlet.has_output();
        if self.linger.is_some() {
            let is_held_up = self.outlets().any(is_held_up);
            self.linger.iter_mut().for_each(|linger| linger.pass(now, is_held_up));
        }
    }

    fn outlets(&self) -> impl Iterator<Item = &Outlet> {
        self.stdout.iter().chain(&self.stderr)
    }

    /// Tells a terminal's new size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        if let Some(master) = self.stdin.as_ref().filter(|_| self.is_terminal) {
            terminal::resize(master.as_fd(), columns, rows);
        }
    }
}

impl Outlet {
    /// How much can be read now.
    fn waiting(&self) -> u64 {
        io::ioctl_fionread(&self.from).unwrap_or_default()
    }

    fn has_output(&self) -> bool {
        self.waiting() > 0
    }

    /// So much was read.
    fn spend(&mut self, count: usize) {
        self.credit.spend(count);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.rest = self.rest.map(|rest| rest.saturating_sub(count));
    }
}

/// Its reading end and its writing end, for us alone.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC)
}

/// Of the descriptor's open file, which others may share.
pub(crate) fn set_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    fcntl_setfl(descriptor, fcntl_getfl(descriptor)? | OFlags::NONBLOCK)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::time::Duration;

    use super::*;

    /// What was told, output by output, and which of them are over.
    fn told(mut bytes: &[u8]) -> (Vec<u8>, Vec<OutputStream>) {
        let (mut output, mut ends) = (Vec::new(), Vec::new());
        while let Some((frame, length)) = FromInit::decode(bytes).unwrap() {
            match frame {
                FromInit::Output { process: 1, stream: OutputStream::Stdout, bytes } => output.extend(bytes),
                FromInit::OutputEnd { process: 1, stream } => ends.push(stream),
                other => panic!("{other:?}"),
            }
            bytes = &bytes[length..];
        }
        (output, ends)
    }

    #[test]
    fn when_time_is_up_what_is_there_is_still_sent_and_no_more() {
        let (from_init, to_server) = std::io::pipe().unwrap();
        let (to_init, _server) = std::io::pipe().unwrap();
        let now = Instant::now();
        let mut connection = Connection::on_streams(to_init.into(), to_server.into(), now);
        let (mut relay, [_stdin, stdout, _stderr]) = Relay::on_pipes().unwrap();
        let mut writer = std::fs::File::from(stdout);
        let mut buffer = vec![0; DATA_BYTES_MAX];
        writer.write_all(&vec![1; 40_000]).unwrap();

        relay.linger(now);
        relay.watch_over_time(1, &mut connection, now + Duration::from_secs(2));
        writer.write_all(&[2; 1000]).unwrap();
        for _ in 0..3 {
            relay.read_output(1, OutputStream::Stdout, &mut connection, &mut buffer);
            relay.watch_over_time(1, &mut connection, now + Duration::from_secs(2));
        }

        connection.flush().unwrap();
        drop(connection);
        let mut bytes = Vec::new();
        (&from_init).read_to_end(&mut bytes).unwrap();
        let (output, ends) = told(&bytes);
        assert!(output == vec![1; 40_000], "{} bytes", output.len());
        assert_eq!(ends, [OutputStream::Stderr, OutputStream::Stdout]);
        assert!(relay.is_done());
        assert!(writer.write_all(b"x").is_err());
    }

    #[test]
    fn what_was_sent_before_the_release_still_gets_there() {
        let (_from_init, to_server) = std::io::pipe().unwrap();
        let (to_init, _server) = std::io::pipe().unwrap();
        let mut connection = Connection::on_streams(to_init.into(), to_server.into(), Instant::now());
        let (mut relay, [stdin, stdout]) = Relay::on_two_pipes().unwrap();
        let (sent, mut read) = (vec![7; 100_000], Vec::new());
        relay.feed(&sent).unwrap();
        relay.write_input(1, &mut connection);

        let mut released = relay.release().expect("some is on its way");
        released.feed(b"late").unwrap();
        assert!(released.is_done(), "nobody waits for output");
        assert!(std::fs::File::from(stdout).write_all(b"x").is_err());
        let mut program = std::fs::File::from(stdin);
        while released.input().is_some() {
            let mut piece = vec![0; 50_000];
            let count = program.read(&mut piece).unwrap();
            read.extend_from_slice(&piece[..count]);
            released.write_input(1, &mut connection);
        }
        program.read_to_end(&mut read).unwrap();

        assert!(read == sent, "{} bytes", read.len());
        assert!(released.release().is_none());
    }

    #[test]
    fn what_somebody_else_has_read_is_not_waited_for() {
        let (_from_init, to_server) = std::io::pipe().unwrap();
        let (to_init, _server) = std::io::pipe().unwrap();
        let now = Instant::now();
        let mut connection = Connection::on_streams(to_init.into(), to_server.into(), now);
        let (mut relay, [_stdin, stdout, _stderr]) = Relay::on_pipes().unwrap();
        let mut writer = std::fs::File::from(stdout);
        writer.write_all(&[1; 1000]).unwrap();
        relay.linger(now);
        relay.watch_over_time(1, &mut connection, now + Duration::from_secs(2));
        assert!(!relay.is_done());

        let thief = relay.stdout.as_ref().unwrap().from.try_clone().unwrap();
        assert_eq!(io::read(&thief, &mut [0; 2000][..]), Ok(1000));
        relay.watch_over_time(1, &mut connection, now + Duration::from_secs(2));

        assert!(relay.is_done());
    }
}
