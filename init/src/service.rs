//! The one loop: waits for the server, for programs and for time to pass.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use coracle_init::{DATA_BYTES_MAX, FromInit, OutputStream, ToInit, Token, VERSION};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal, getpid, set_child_subreaper, set_dumpable_behavior};

use crate::args::Mode;
use crate::connection::{Connection, Over};
use crate::listeners::Listeners;
use crate::processes::Processes;
use crate::reaper::{REAPED_MAX, reap};
use crate::relay::OUTPUTS;
use crate::signals::Signals;
use crate::verdict::too_late;
use crate::{frames, socket};

/// Without a server from the start.
const FIRST_SERVER_DEADLINE: Duration = Duration::from_mins(1);

/// Between two looks whether there is a server: twice as long each time. It may be back at once, or in days.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(1);

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
pub(crate) struct Ending {
    status: u8,
    /// When those programs that are left are killed.
    kill_at: Instant,
    /// When that is done, when we go anyway.
    leave_at: Option<Instant>,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    /// Something has come from the server.
    Frames,
    /// A program may take input.
    Input(u32),
    /// A program has written something, or nobody can any more.
    Output(u32, OutputStream),
    /// Somebody was called, or could not be.
    Verdict(u32),
    /// Somebody waits to be taken in.
    Caller(u32),
}

/// All that there is. `obey.rs` has what it does when told to.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) signals: Signals,
    pub(crate) processes: Processes,
    pub(crate) listeners: Listeners,
    /// Where there is one, else the streams are all that there is.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) connection: Option<Connection>,
    /// Of the last welcome.
    pub(crate) token: Token,
    pub(crate) orphan_timeout: Option<Duration>,
    /// Since when no server has welcomed us.
    pub(crate) alone_since: Option<Instant>,
    next_try: Instant,
    /// From the next loss to the try after it.
    pub(crate) pause: Duration,
    /// More has ended than is reaped at a time.
    reaps_on: bool,
    /// For what is read from programs.
    buffer: Vec<u8>,
    pub(crate) ending: Option<Ending>,
}

/// Serves until there is nobody left to serve; returns the exit status.
///
/// # Errors
/// The system refuses what we cannot do without.
pub(crate) fn run(mode: Mode) -> io::Result<u8> {
    let now = Instant::now();
    // Programs that run as the same user are not to look into us, or to lead us. What pretends to be a kernel may not know
    // it: then they can, and harm nobody but their own container.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap_or_default();
    // Where we are not the first process.
    set_child_subreaper(Some(getpid())).unwrap_or_default();
    let mut service = Service {
        signals: Signals::catch()?,
        processes: Processes::default(),
        listeners: Listeners::default(),
        socket: None,
        connection: None,
        token: Token::default(),
        orphan_timeout: Some(FIRST_SERVER_DEADLINE),
        alone_since: Some(now),
        next_try: now,
        pause: PAUSE_MIN,
        reaps_on: false,
        buffer: vec![0; DATA_BYTES_MAX],
        ending: None,
    };
    match mode {
        Mode::Socket(path) => service.socket = Some(path),
        Mode::Frames => {
            let (input, output) = frames::take_over()?;
            let mut connection = Connection::on_streams(input, output, now);
            if connection.greet(&service.hello()).is_ok() {
                service.connection = Some(connection);
            }
        }
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
            let ready = self.wait(now)?;
            if self.signals.take() {
                self.end(TERMINATED, TERM_GRACE);
            }
            self.reap();
            if self.serve(&ready).is_err() {
                self.lose_connection();
            }
        }
    }

    /// Waits until something has happened, or has to.
    fn wait(&self, now: Instant) -> io::Result<Vec<Ready>> {
        // Signals and room for frames are looked after every time.
        let mut watched = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let mut meanings = vec![None];
        if let Some(connection) = &self.connection {
            if connection.has_unsent() {
                watched.push(PollFd::from_borrowed_fd(connection.output(), PollFlags::OUT));
                meanings.push(None);
            }
            let frames = connection
                .has_room_for_replies()
                .then(|| (Ready::Frames, (connection.input(), PollFlags::IN)));
            let has_room = connection.has_room_for_output();
            let streams = self.processes.relays().flat_map(|(process, relay)| {
                let input = relay.input().map(|watch| (Ready::Input(process), watch));
                let output = move |stream| Some((Ready::Output(process, stream), relay.output(stream)?));
                input.into_iter().chain(OUTPUTS.into_iter().filter(move |_| has_room).filter_map(output))
            });
            let verdicts = self
                .processes
                .verdicts()
                .map(|(process, verdict)| (Ready::Verdict(process), verdict.descriptor()));
            let callers = self.listeners.open().map(|(listener, socket)| (Ready::Caller(listener), socket));
            let sockets = verdicts
                .chain(callers.filter(|_| connection.has_room_for_replies()))
                .map(|(meaning, descriptor)| (meaning, (descriptor, PollFlags::IN)));
            for (meaning, (descriptor, flags)) in frames.into_iter().chain(sockets).chain(streams) {
                watched.push(PollFd::from_borrowed_fd(descriptor, flags));
                meanings.push(Some(meaning));
            }
        }
        let next_event = self.next_event().filter(|_| !self.reaps_on).or(self.reaps_on.then_some(now));
        let timeout = next_event.map(|at| at.saturating_duration_since(now));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) => {
                let ready = watched.iter().zip(meanings).filter(|(watched, _)| !watched.revents().is_empty());
                Ok(ready.filter_map(|(_, meaning)| meaning).collect())
            }
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// When something has to be done without anything happening.
    fn next_event(&self) -> Option<Instant> {
        let is_awaited = |connection: &&Connection| self.socket.is_some() && !connection.is_welcomed;
        let welcome = self.connection.as_ref().filter(is_awaited);
        let ending = self.ending.as_ref();
        [
            ending.map(|ending| ending.leave_at.unwrap_or(ending.kill_at)),
            welcome.map(|connection| connection.began + WELCOME_DEADLINE),
            self.orphaned_at(),
            self.processes.next_look(),
            self.listeners.next_look(),
            (self.connection.is_none() && self.socket.is_some() && ending.is_none()).then_some(self.next_try),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn orphaned_at(&self) -> Option<Instant> {
        self.alone_since.zip(self.orphan_timeout).and_then(|(since, timeout)| since.checked_add(timeout))
    }

    fn watch_over_time(&mut self, now: Instant) {
        if let Some(connection) = &mut self.connection {
            self.processes.watch_over_time(connection, now);
        }
        self.listeners.watch_over_time(now);
        while let Some(process) = self.processes.overdue(now) {
            if let Some(connection) = &mut self.connection {
                connection.say(&too_late().frame(process));
            }
        }
        // Only a socket may have somebody else behind it the next time.
        let silent = self.socket.is_some()
            && self.connection.as_ref().is_some_and(|connection| {
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
        self.listeners.clear();
        self.ending = Some(Ending { status, kill_at: Instant::now() + grace, leave_at: None });
        for signal in [Signal::TERM, Signal::CONT] {
            self.processes.signal_all(signal);
        }
    }

    /// The exit status, once there is nothing left to wait for.
    fn outcome(&self, now: Instant) -> Option<u8> {
        let ending = self.ending.as_ref()?;
        let is_told = !self.connection.as_ref().is_some_and(Connection::has_unsent);
        let is_done = !self.processes.any() && is_told;
        (is_done || ending.leave_at.is_some_and(|at| at <= now)).then_some(ending.status)
    }

    fn connect(&mut self, now: Instant) {
        let Some(path) = self.socket.as_ref().filter(|_| self.connection.is_none()) else { return };
        if self.next_try > now || self.ending.is_some() {
            return;
        }
        let mut connection = socket::connect(path).ok().map(|socket| Connection::on_socket(socket, now));
        let hello = self.hello();
        self.connection = connection.take_if(|connection| connection.greet(&hello).is_ok());
        if self.connection.is_none() {
            self.postpone(now);
        }
    }

    fn postpone(&mut self, now: Instant) {
        self.next_try = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn hello(&self) -> FromInit<'static> {
        FromInit::Hello { version_min: VERSION, version_max: VERSION, token: self.token }
    }

    fn lose_connection(&mut self) {
        let now = Instant::now();
        self.connection = None;
        self.alone_since = self.alone_since.or(Some(now)).filter(|_| self.ending.is_none());
        self.postpone(now);
        self.processes.hang_up();
        self.listeners.clear();
        if self.socket.is_none() {
            // Nobody can come back.
            self.end(ABANDONED, ABANDONED_GRACE);
        }
    }

    fn reap(&mut self) {
        self.reaps_on = false;
        for (count, (pid, exit)) in (1..=REAPED_MAX).zip(std::iter::from_fn(reap)) {
            self.reaps_on = count == REAPED_MAX;
            // What it has said before that comes first.
            if let Some(process) = self.processes.number(pid) {
                self.hear_verdict(process);
            }
            let ended = self.processes.ended(pid, exit);
            if let (Some((process, exit)), Some(connection)) = (ended, &mut self.connection) {
                connection.say(&FromInit::Exited { process, exit });
            }
        }
    }

    /// Says what there is to say, and does what it is told.
    fn serve(&mut self, ready: &[Ready]) -> Result<(), Over> {
        for ready in ready {
            let Some(connection) = &mut self.connection else { return Ok(()) };
            match *ready {
                Ready::Frames => connection.receive()?,
                Ready::Input(process) => self.write_input(process),
                Ready::Output(process, stream) => self.read_output(process, stream),
                Ready::Verdict(process) => self.hear_verdict(process),
                Ready::Caller(listener) => self.knock(listener),
            }
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        connection.flush()?;
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

    fn read_output(&mut self, process: u32, stream: OutputStream) {
        let connection = self.connection.as_mut().filter(|connection| connection.has_room_for_output());
        if let (Some(relay), Some(connection)) = (self.processes.relay(process), connection) {
            relay.read_output(process, stream, connection, &mut self.buffer);
        }
        self.processes.forget_if_done(process);
    }
}
