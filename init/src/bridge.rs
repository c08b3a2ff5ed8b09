//! A child that owns a socket and stands between it and the two pipes that are the server's: what comes from the one goes to
//! the other, in both directions, until both are over. Each direction ends by itself, as on the socket.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{self, Errno, fcntl_dupfd_cloexec};
use rustix::net::{Shutdown, shutdown};
use rustix::stdio::{dup2_stdin, dup2_stdout, stderr, stdin, stdout};

use crate::dial;
use crate::flow::{Flow, Needs, Over};
use crate::relay::set_nonblocking;

/// How long the socket may take nothing once nobody cares for what comes from it, before the rest is given up.
const DRAIN_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Thrown away at once.
const DISCARD_BYTES: usize = 256 << 10;

/// And so often before the other direction has its turn.
const DISCARDS_MAX: u32 = 32;

/// Away from the standard streams.
const NUMBER_MIN: i32 = 3;

/// The socket and the pipes. What is over is `None`.
#[derive(Debug)]
struct Bridge {
    socket: OwnedFd,
    /// What the server sends.
    up: Option<(OwnedFd, Flow)>,
    /// What the server gets.
    down: Option<(OwnedFd, Flow)>,
    /// Nobody reads what the server gets.
    is_forsaken: bool,
    /// And there may be more of it. It is thrown away: whoever waits for it to be read would read nothing themselves, and a
    /// socket that is closed with something unread in it takes back what it has not sent.
    discards: bool,
    /// When what is on its way to the socket is given up, if it takes none of it before.
    drain_until: Option<Instant>,
}

/// In a child that was given somebody who was taken in.
pub(crate) fn of_a_guest() -> u8 {
    dial::prepare();
    run()
}

/// In a child whose standard input and output are the pipes, and whose standard error is the socket. Returns its exit status.
pub(crate) fn run() -> u8 {
    let bridge = take_over().map(|(socket, input, output)| Bridge::new(socket, input, output));
    u8::from(bridge.and_then(Bridge::run).is_err())
}

/// Takes the standard streams for ourselves: a pipe is closed only when nothing else holds it.
fn take_over() -> io::Result<(OwnedFd, OwnedFd, OwnedFd)> {
    let socket = fcntl_dupfd_cloexec(stderr(), NUMBER_MIN)?;
    let input = fcntl_dupfd_cloexec(stdin(), NUMBER_MIN)?;
    let output = fcntl_dupfd_cloexec(stdout(), NUMBER_MIN)?;
    dup2_stdin(&socket)?;
    dup2_stdout(&socket)?;
    for descriptor in [&socket, &input, &output] {
        set_nonblocking(descriptor)?;
    }
    Ok((socket, input, output))
}

impl Bridge {
    fn new(socket: OwnedFd, input: OwnedFd, output: OwnedFd) -> Self {
        let (up, down) = (Some((input, Flow::new())), Some((output, Flow::new())));
        Self { socket, up, down, is_forsaken: false, discards: false, drain_until: None }
    }

    fn run(mut self) -> io::Result<()> {
        while self.up.is_some() || self.down.is_some() {
            let [socket, input, output] = self.wait()?;
            let ends = PollFlags::HUP | PollFlags::ERR;
            // Nobody reads it, also when there is nothing to write.
            if output.intersects(ends) {
                self.forsake();
            }
            if socket.intersects(ends | PollFlags::IN) || output.contains(PollFlags::OUT) {
                self.move_down();
            }
            if !input.is_empty() || socket.contains(PollFlags::OUT) {
                self.move_up();
            }
            // It takes nothing any more. What it has said is still there.
            if socket.intersects(ends) || self.drain_until.is_some_and(|until| until <= Instant::now()) {
                self.up = None;
            }
            // Also before the end.
            if self.discards {
                self.discard();
            }
        }
        Ok(())
    }

    /// What has happened to the socket, to the input and to the output.
    fn wait(&mut self) -> io::Result<[PollFlags; 3]> {
        let needs = |way: &Option<(OwnedFd, Flow)>| way.as_ref().map(|(_, flow)| flow.needs);
        let (up, down) = (needs(&self.up), needs(&self.down));
        let only_if = |condition, flag| if condition { flag } else { PollFlags::empty() };
        let on_socket = only_if(down == Some(Needs::Source) || self.discards, PollFlags::IN)
            | only_if(up == Some(Needs::Sink), PollFlags::OUT);
        // That it has ended is told again and again: only whoever does something about it may ask. Who reads may be unable
        // to, for want of room.
        let watched = [
            (up.is_some() || !on_socket.is_empty()).then(|| PollFd::new(&self.socket, on_socket)),
            self.up
                .as_ref()
                .filter(|_| up == Some(Needs::Source))
                .map(|(input, _)| PollFd::new(input, PollFlags::IN)),
            self.down
                .as_ref()
                .map(|(output, _)| PollFd::new(output, only_if(down == Some(Needs::Sink), PollFlags::OUT))),
        ];
        let is_watched = watched.each_ref().map(Option::is_some);
        let mut watched: Vec<_> = watched.into_iter().flatten().collect();
        let now = Instant::now();
        let is_draining = self.is_forsaken && up == Some(Needs::Sink);
        self.drain_until = self.drain_until.or(Some(now + DRAIN_PAUSE_MAX)).filter(|_| is_draining);
        let timeout = self.drain_until.map(|until| until.saturating_duration_since(now));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok([PollFlags::empty(); 3]),
            Err(error) => return Err(error),
        }
        let mut happened = watched.iter().map(PollFd::revents);
        Ok(is_watched
            .map(|is_watched| is_watched.then(|| happened.next()).flatten().unwrap_or(PollFlags::empty())))
    }

    fn move_down(&mut self) {
        let Some((output, flow)) = &mut self.down else { return };
        match flow.advance(self.socket.as_fd(), output.as_fd()) {
            Ok(()) => {}
            Err(Over::Ended) => self.down = None,
            Err(Over::SinkFailed) => self.forsake(),
            // It is broken: nothing gets there either.
            Err(Over::SourceFailed) => (self.up, self.down) = (None, None),
        }
    }

    fn move_up(&mut self) {
        self.drain_until = None;
        let Some((input, flow)) = &mut self.up else { return };
        match flow.advance(input.as_fd(), self.socket.as_fd()) {
            Ok(()) => {}
            Err(Over::Ended | Over::SourceFailed) => {
                self.up = None;
                // There may be nobody left whom it could be told.
                shutdown(&self.socket, Shutdown::Write).unwrap_or_default();
            }
            // What was said to us before that is still there.
            Err(Over::SinkFailed) => self.up = None,
        }
    }

    /// Nobody reads what the server gets.
    fn forsake(&mut self) {
        self.down = None;
        (self.is_forsaken, self.discards) = (true, true);
    }

    /// Throws away what is there; more than a socket holds only if it is refilled all the time.
    fn discard(&mut self) {
        let mut buffer = vec![0; DISCARD_BYTES];
        for _ in 0..DISCARDS_MAX {
            match io::read(&self.socket, &mut *buffer) {
                Ok(1..) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Ok(0) | Err(_) => {
                    self.discards = false;
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::Shutdown as Ends;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// A bridge's end and another one.
    fn pair() -> (OwnedFd, UnixStream) {
        let (ours, other) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours.into(), other)
    }

    #[test]
    fn what_cannot_be_spliced_is_copied() {
        // Between two sockets no kernel moves pages.
        let ((socket, other), (input, mut to), (output, mut from)) = (pair(), pair(), pair());
        let bridge = thread::spawn(|| Bridge::new(socket, input, output).run());
        let sent: Vec<u8> =
            (0..3_000_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();

        let (up, down) = thread::scope(|scope| {
            scope.spawn(|| {
                to.write_all(&sent).unwrap();
                to.shutdown(Ends::Write).unwrap();
            });
            scope.spawn(|| {
                (&other).write_all(&sent).unwrap();
                other.shutdown(Ends::Write).unwrap();
            });
            let down = scope.spawn(|| {
                let mut down = Vec::new();
                from.read_to_end(&mut down).unwrap();
                down
            });
            let mut up = Vec::new();
            (&other).read_to_end(&mut up).unwrap();
            (up, down.join().unwrap())
        });

        assert!(up == sent && down == sent, "{} and {} bytes", up.len(), down.len());
        assert_eq!(bridge.join().unwrap(), Ok(()));
    }

    #[test]
    fn a_peer_that_has_gone_ends_what_is_for_them() {
        let ((socket, other), (input, mut to), (output, mut from)) = (pair(), pair(), pair());
        let bridge = thread::spawn(|| Bridge::new(socket, input, output).run());
        (&other).write_all(b"bye").unwrap();

        drop(other);

        let mut heard = String::new();
        from.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "bye");
        assert_eq!(bridge.join().unwrap(), Ok(()));
        assert!(to.write_all(b"x").is_err());
    }
}
