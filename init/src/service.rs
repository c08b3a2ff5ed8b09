//! The one loop: waits for the server, for programs and for time to pass.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use coracle_init::{FromInit, Malformed, Start, ToInit, Token, VERSION};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal, getpid, set_child_subreaper, set_dumpable_behavior};

use crate::args::Mode;
use crate::connection::{Connection, Over};
use crate::processes::Processes;
use crate::reaper::{REAPED_MAX, reap};
use crate::signals::Signals;
use crate::socket;
use crate::terminal::duplicate;

/// Without a server from the start.
const FIRST_SERVER_DEADLINE: Duration = Duration::from_mins(1);

/// Between two looks whether there is a server.
const PAUSE: Duration = Duration::from_millis(200);

/// From a connection to the server's welcome.
const WELCOME_DEADLINE: Duration = Duration::from_secs(10);

/// From a request to end, ours or the engine's, to the end.
const ABANDONED_GRACE: Duration = Duration::from_secs(2);
const TERM_GRACE: Duration = Duration::from_secs(5);

/// From the last signal to the end, however that went.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// Exit statuses.
const ABANDONED: u8 = 0;
const TERMINATED: u8 = 143;

/// On the way out.
#[derive(Debug)]
struct Ending {
    status: u8,
    /// When those programs that are left are killed.
    kill_at: Instant,
    /// When that is done, when we go anyway.
    leave_at: Option<Instant>,
}

#[derive(Debug)]
struct Service {
    signals: Signals,
    processes: Processes,
    /// Where there is one, else the streams are all that there is.
    socket: Option<PathBuf>,
    connection: Option<Connection>,
    /// Of the last welcome.
    token: Token,
    orphan_timeout: Option<Duration>,
    /// Since when no server has welcomed us.
    alone_since: Option<Instant>,
    next_try: Instant,
    ending: Option<Ending>,
}

/// Serves until there is nobody left to serve; returns the exit status.
///
/// # Errors
/// The system refuses what we cannot do without.
pub(crate) fn run(mode: Mode) -> io::Result<u8> {
    let now = Instant::now();
    // Programs that run as the same user must not look into us, or lead us.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Where we are not the first process.
    set_child_subreaper(Some(getpid()))?;
    let mut service = Service {
        signals: Signals::catch()?,
        processes: Processes::default(),
        socket: None,
        connection: None,
        token: Token::default(),
        orphan_timeout: Some(FIRST_SERVER_DEADLINE),
        alone_since: Some(now),
        next_try: now,
        ending: None,
    };
    match mode {
        Mode::Socket(path) => service.socket = Some(path),
        Mode::Frames => return Err(io::ErrorKind::Unsupported.into()),
    }
    service.run()
}

impl Service {
    fn run(&mut self) -> io::Result<u8> {
        loop {
            let now = Instant::now();
            self.connect(now);
            self.watch_over_time(now);
            if let Some(status) = self.outcome(now) {
                return Ok(status);
            }
            self.wait(now)?;
            if self.signals.take() {
                self.end(TERMINATED, TERM_GRACE);
            }
            self.reap();
            if self.serve().is_err() {
                self.lose_connection();
            }
        }
    }

    /// Waits until something has happened, or has to.
    fn wait(&self, now: Instant) -> io::Result<()> {
        let mut watched = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let Some(connection) = &self.connection {
            if connection.has_room_for_replies() {
                watched.push(PollFd::from_borrowed_fd(connection.input(), PollFlags::IN));
            }
            if connection.has_unsent() {
                watched.push(PollFd::from_borrowed_fd(connection.output(), PollFlags::OUT));
            }
        }
        let timeout = self.next_event().map(|at| at.saturating_duration_since(now));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// When something has to be done without anything happening.
    fn next_event(&self) -> Option<Instant> {
        let welcome = self.connection.as_ref().filter(|connection| !connection.is_welcomed);
        let ending = self.ending.as_ref();
        [
            ending.map(|ending| ending.leave_at.unwrap_or(ending.kill_at)),
            welcome.map(|connection| connection.began + WELCOME_DEADLINE),
            self.orphaned_at(),
            (self.connection.is_none() && ending.is_none()).then_some(self.next_try),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn orphaned_at(&self) -> Option<Instant> {
        self.alone_since.zip(self.orphan_timeout).and_then(|(since, timeout)| since.checked_add(timeout))
    }

    fn watch_over_time(&mut self, now: Instant) {
        let silent = self.connection.as_ref().is_some_and(|connection| {
            !connection.is_welcomed && now.saturating_duration_since(connection.began) >= WELCOME_DEADLINE
        });
        if silent {
            self.lose_connection();
        }
        if self.orphaned_at().is_some_and(|at| at <= now) {
            self.alone_since = None;
            self.end(ABANDONED, ABANDONED_GRACE);
        }
        if let Some(ending) = self.ending.as_mut()
            && ending.leave_at.is_none()
            && ending.kill_at <= now
        {
            ending.leave_at = Some(now + KILL_GRACE);
            self.processes.signal_all(Signal::KILL);
        }
    }

    /// Ends the programs, and then us.
    fn end(&mut self, status: u8, grace: Duration) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Ending { status, kill_at: Instant::now() + grace, leave_at: None });
        for signal in [Signal::TERM, Signal::CONT] {
            self.processes.signal_all(signal);
        }
    }

    /// The exit status, once there is nothing left to wait for.
    fn outcome(&self, now: Instant) -> Option<u8> {
        let ending = self.ending.as_ref()?;
        let is_told = !self.connection.as_ref().is_some_and(Connection::has_unsent);
        let is_done = !self.processes.any_runs() && is_told;
        (is_done || ending.leave_at.is_some_and(|at| at <= now)).then_some(ending.status)
    }

    fn connect(&mut self, now: Instant) {
        let Some(path) = self.socket.as_ref().filter(|_| self.connection.is_none()) else { return };
        if self.next_try > now || self.ending.is_some() {
            return;
        }
        self.next_try = now + PAUSE;
        let Ok(socket) = socket::connect(path) else { return };
        let mut connection = Connection::on_socket(socket, now);
        let hello = FromInit::Hello { version_min: VERSION, version_max: VERSION, token: self.token };
        if connection.greet(&hello).is_ok() {
            self.connection = Some(connection);
        }
    }

    fn lose_connection(&mut self) {
        let now = Instant::now();
        self.connection = None;
        self.alone_since = self.alone_since.or(Some(now)).filter(|_| self.ending.is_none());
        self.next_try = now + PAUSE;
        self.processes.hang_up();
    }

    fn reap(&mut self) {
        for (pid, exit) in std::iter::from_fn(reap).take(REAPED_MAX) {
            let ended = self.processes.ended(pid, exit);
            if let (Some((process, exit)), Some(connection)) = (ended, &mut self.connection) {
                connection.say(&FromInit::Exited { process, exit });
            }
        }
    }

    /// Says what there is to say, and does what it is told.
    fn serve(&mut self) -> Result<(), Over> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        connection.flush()?;
        if connection.has_room_for_replies() {
            connection.receive()?;
        }
        // Out of there while its frames are looked at.
        let mut inbox = std::mem::take(&mut connection.inbox);
        while self.connection.as_ref().is_some_and(Connection::has_room_for_replies) {
            let Some((frame, length)) = ToInit::decode(inbox.front())? else { break };
            self.obey(frame)?;
            inbox.consume(length);
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        connection.inbox = inbox;
        if connection.has_strays() {
            return Err(Over);
        }
        connection.flush()
    }

    fn obey(&mut self, frame: ToInit<'_>) -> Result<(), Malformed> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if connection.is_welcomed == matches!(frame, ToInit::Welcome { .. }) {
            return Err(Malformed("a welcome comes first, and once"));
        }
        match frame {
            ToInit::Welcome { version, orphan_timeout_ms, token } => {
                if version != VERSION {
                    return Err(Malformed("the server speaks another version"));
                }
                if let Some(fd) = connection.descriptors.pop_front() {
                    rustix::io::ioctl_fionbio(&fd, true).ok();
                    connection.set_output(fd);
                }
                connection.is_welcomed = true;
                self.alone_since = None;
                self.token = token;
                let timeout = Duration::from_millis(orphan_timeout_ms.into());
                self.orphan_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
                Ok(())
            }
            ToInit::Start { process, start } => self.start(process, start),
            ToInit::Signal { process, number } => {
                self.processes.signal(process, number);
                Ok(())
            }
            // The server has the terminal itself.
            ToInit::Resize { .. } => Ok(()),
            ToInit::Stdin { .. }
            | ToInit::StdinEnd { .. }
            | ToInit::Credit { .. }
            | ToInit::Release { .. } => Err(Malformed("streams do not travel in frames here")),
        }
    }

    fn start(&mut self, process: u32, start: Box<Start>) -> Result<(), Malformed> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let mut next =
            || connection.descriptors.pop_front().ok_or(Malformed("a program comes without its streams"));
        let first = next()?;
        let stdio = if start.terminal.is_some() {
            duplicate(&first).and_then(|second| Ok([duplicate(&first)?, second, first]))
        } else {
            Ok([first, next()?, next()?])
        };
        let started = match stdio {
            _ if self.ending.is_some() => Err("the container is about to end".to_owned()),
            Ok(stdio) => self.processes.start(process, start, stdio, &self.signals)?,
            Err(error) => Err(error.to_string()),
        };
        match started {
            Ok(pid) => {
                let pid = pid.as_raw_nonzero().get().unsigned_abs();
                connection.say(&FromInit::Started { process, pid });
            }
            Err(reason) => connection.say(&FromInit::Refused { process, reason: reason.as_bytes() }),
        }
        Ok(())
    }
}
