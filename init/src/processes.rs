//! The programs that were started, by the server's numbers.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use coracle_init::{Exit, Start};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, Uid, getuid, ioctl_tiocsctty, kill_process_group};

use crate::connection::Connection;
use crate::dial::Call;
use crate::forward::Pipes;
use crate::launch::Launch;
use crate::relay::Relay;
use crate::verdict::{Awaited, Failed};
use crate::{bridge, fork, passwd, terminal, users};

const KILL: u8 = 9;

/// Programs at a time, those that were hung up and still run included.
pub(crate) const PROCESSES_MAX: usize = 1024;

/// A program, until there is nothing more to say about it.
#[derive(Debug)]
struct Process {
    /// Until it has been reaped; from then on the number may be somebody else's.
    pid: Option<Pid>,
    /// Where its streams travel in frames.
    relay: Option<Relay>,
    /// For a socket, until it is connected.
    verdict: Option<Awaited>,
}

impl Process {
    /// Whether it has ended and has no more output.
    fn is_done(&self) -> bool {
        self.pid.is_none() && self.relay.as_ref().is_none_or(Relay::is_done)
    }
}

/// What became of a start.
pub(crate) type Started = Result<Pid, String>;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    served: BTreeMap<u32, Process>,
    /// Those of a server that has gone.
    left: Vec<Pid>,
}

impl Processes {
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.served.contains_key(&number)
    }

    fn has_room(&self) -> bool {
        self.served.len() + self.left.len() < PROCESSES_MAX
    }

    /// Starts a program, or says why not.
    pub(crate) fn start(
        &mut self,
        number: u32,
        start: Box<Start>,
        (stdio, relay): ([OwnedFd; 3], Option<Relay>),
    ) -> Started {
        if !self.has_room() {
            return Err("there are too many programs in the container".to_owned());
        }
        let started = launch(start, stdio);
        if let Ok(pid) = started {
            self.served.insert(number, Process { pid: Some(pid), relay, verdict: None });
        }
        started
    }

    /// Starts to dial somebody. What comes of it is a verdict.
    pub(crate) fn dial(
        &mut self,
        number: u32,
        call: Call,
        ([input, output], relay): Pipes,
    ) -> Result<(), Failed> {
        if !self.has_room() {
            return Err(Failed::too_many("programs"));
        }
        let (verdict, to) = Awaited::new(call.until)?;
        let pid = fork::fork([input, output, to], || Ok(()), move || call.run())?;
        self.served.insert(number, Process { pid: Some(pid), relay, verdict: Some(verdict) });
        Ok(())
    }

    /// Gives a connected socket to a child.
    pub(crate) fn bridge(
        &mut self,
        number: u32,
        socket: OwnedFd,
        ([input, output], relay): Pipes,
    ) -> Result<(), Failed> {
        if !self.has_room() {
            return Err(Failed::too_many("programs"));
        }
        let pid = fork::fork([input, output, socket], || Ok(()), bridge::of_a_guest)?;
        self.served.insert(number, Process { pid: Some(pid), relay, verdict: None });
        Ok(())
    }

    /// What came of a call, once there is something: its process id, or why there is nothing any more.
    pub(crate) fn verdict(&mut self, number: u32) -> Option<Result<u32, Failed>> {
        let process = self.served.get_mut(&number)?;
        let verdict = process.verdict.as_ref()?.hear()?;
        let pid = process.pid.map(|pid| pid.as_raw_nonzero().get().unsigned_abs()).unwrap_or_default();
        process.verdict = None;
        Some(verdict.map(|()| pid).inspect_err(|_| self.abandon(number)))
    }

    /// A call that takes too long. It is ended.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<u32> {
        let is_overdue =
            |process: &Process| process.verdict.as_ref().is_some_and(|verdict| verdict.until <= now);
        let (number, _) = self.served.iter().find(|(_, process)| is_overdue(process))?;
        Some(*number).inspect(|number| {
            self.signal(*number, KILL);
            self.abandon(*number);
        })
    }

    /// Nobody waits for it any more.
    fn abandon(&mut self, number: u32) {
        let pid = self.served.remove(&number).and_then(|process| process.pid);
        self.left.extend(pid);
    }

    /// Where verdicts come from.
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = (u32, &Awaited)> {
        self.served.iter().filter_map(|(number, process)| Some((*number, process.verdict.as_ref()?)))
    }

    /// The number of a process that has not been reaped.
    pub(crate) fn number(&self, pid: Pid) -> Option<u32> {
        self.served.iter().find(|(_, process)| process.pid == Some(pid)).map(|(number, _)| *number)
    }

    /// Signals a program's group. One that has ended takes anything.
    pub(crate) fn signal(&self, number: u32, signal: u8) {
        let signal = Signal::from_named_raw(i32::from(signal));
        let pid = self.served.get(&number).and_then(|process| process.pid);
        if let (Some(pid), Some(signal)) = (pid, signal) {
            // It may run as somebody else by now.
            kill_process_group(pid, signal).unwrap_or_default();
        }
    }

    /// Signals all programs' groups.
    pub(crate) fn signal_all(&self, signal: Signal) {
        for pid in self.served.values().filter_map(|process| process.pid).chain(self.left.iter().copied()) {
            kill_process_group(pid, signal).unwrap_or_default();
        }
    }

    /// Their server has gone.
    pub(crate) fn hang_up(&mut self) {
        let pids = std::mem::take(&mut self.served).into_values().filter_map(|process| process.pid);
        for pid in pids {
            for signal in [Signal::HUP, Signal::CONT] {
                kill_process_group(pid, signal).unwrap_or_default();
            }
            self.left.push(pid);
        }
    }

    /// Takes note of an ended process; if it was a program that somebody waits for, which.
    pub(crate) fn ended(&mut self, pid: Pid, exit: Exit) -> Option<(u32, Exit)> {
        self.left.retain(|left| *left != pid);
        let number = self.number(pid)?;
        let process = self.served.get_mut(&number)?;
        process.pid = None;
        if let Some(relay) = &mut process.relay {
            relay.linger(Instant::now());
        }
        self.forget_if_done(number);
        Some((number, exit))
    }

    /// Forgets a program that has ended and has no more output.
    pub(crate) fn forget_if_done(&mut self, number: u32) {
        if self.served.get(&number).is_some_and(Process::is_done) {
            self.served.remove(&number);
        }
    }

    /// A program's streams, if they travel in frames and there are any left.
    pub(crate) fn relay(&mut self, number: u32) -> Option<&mut Relay> {
        self.served.get_mut(&number)?.relay.as_mut()
    }

    /// All of those, but for sockets that are not known to be connected: nothing is said of these before that.
    pub(crate) fn relays(&self) -> impl Iterator<Item = (u32, &Relay)> {
        let known = self.served.iter().filter(|(_, process)| process.verdict.is_none());
        known.filter_map(|(number, process)| Some((*number, process.relay.as_ref()?)))
    }

    /// Ends the outputs of programs that have ended, when it is time to.
    pub(crate) fn watch_over_time(&mut self, connection: &mut Connection, now: Instant) {
        for (number, process) in &mut self.served {
            if let (None, Some(relay)) = (process.pid, &mut process.relay) {
                relay.watch_over_time(*number, connection, now);
            }
        }
        self.served.retain(|_, process| !process.is_done());
    }

    /// When to do that again, if nothing happens before.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        let verdicts = self.verdicts().map(|(_, verdict)| verdict.until);
        self.relays().filter_map(|(_, relay)| relay.next_look()).chain(verdicts).min()
    }

    /// Nobody cares for a program's streams any more. Input that has come still gets there.
    pub(crate) fn release(&mut self, number: u32) {
        if let Some(process) = self.served.get_mut(&number) {
            process.relay = process.relay.take().and_then(Relay::release);
        }
        self.forget_if_done(number);
    }

    /// Whether any program runs, or has output that was not sent.
    pub(crate) fn any(&self) -> bool {
        !self.left.is_empty() || !self.served.is_empty()
    }
}

fn launch(start: Box<Start>, stdio: [OwnedFd; 3]) -> Started {
    let identity = if start.user.is_empty() {
        None
    } else {
        let (passwd, group) = (passwd::read(Path::new("/etc/passwd")), passwd::read(Path::new("/etc/group")));
        users::resolve(&start.user, &passwd, &group)
            .map_err(|why| format!("`{}`: {why}", String::from_utf8_lossy(&start.user)))?
    };
    let has_terminal = start.terminal.is_some();
    if let (Some(asked_for), [slave, ..]) = (&start.terminal, &stdio) {
        let uid = identity.as_ref().map_or_else(getuid, |identity| Uid::from_raw(identity.uid));
        terminal::prepare(slave, asked_for, uid)
            .map_err(|error| format!("the terminal is not usable: {error}"))?;
    }
    let launch = Launch { start, identity };
    let first = move || {
        if has_terminal {
            ioctl_tiocsctty(std::io::stdin())?;
        }
        Ok(())
    };
    fork::fork(stdio, first, move || launch.run()).map_err(|error| why(&error))
}

/// Why something could not be made, for people.
pub(crate) fn why(error: &std::io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN) => "the container may have no more processes".to_owned(),
        Some(Errno::NOMEM) => "the container has no memory left".to_owned(),
        Some(Errno::MFILE | Errno::NFILE) => "there are too many open files in the container".to_owned(),
        _ => error.to_string(),
    }
}
