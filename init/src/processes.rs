//! The programs that were started, by the server's numbers.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use coracle_init::{Exit, Malformed, Start};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, Uid, getuid, ioctl_tiocsctty, kill_process_group};

use crate::launch::Launch;
use crate::signals::Signals;
use crate::{fork, passwd, terminal, users};

/// Programs at a time, those that were hung up and still run included.
pub(crate) const PROCESSES_MAX: usize = 1024;

/// A program, until there is nothing more to say about it.
#[derive(Debug)]
pub(crate) struct Process {
    /// Until it has been reaped; from then on the number may be somebody else's.
    pid: Option<Pid>,
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
    /// Starts a program, or says why not.
    ///
    /// # Errors
    /// The number is taken.
    pub(crate) fn start(
        &mut self,
        number: u32,
        start: Box<Start>,
        stdio: [OwnedFd; 3],
        signals: &Signals,
    ) -> Result<Started, Malformed> {
        if self.served.contains_key(&number) {
            return Err(Malformed("a process has the number of another"));
        }
        if self.served.len() + self.left.len() >= PROCESSES_MAX {
            return Ok(Err("there are too many programs in the container".to_owned()));
        }
        let started = launch(start, stdio, signals);
        if let Ok(pid) = started {
            self.served.insert(number, Process { pid: Some(pid) });
        }
        Ok(started)
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
        let number =
            self.served.iter().find(|(_, process)| process.pid == Some(pid)).map(|(number, _)| *number)?;
        self.served.remove(&number);
        Some((number, exit))
    }

    /// Whether any program runs.
    pub(crate) fn any_runs(&self) -> bool {
        !self.left.is_empty() || self.served.values().any(|process| process.pid.is_some())
    }
}

fn launch(start: Box<Start>, stdio: [OwnedFd; 3], signals: &Signals) -> Started {
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
    let (launch, in_child) = (Launch { start, identity }, signals.in_child());
    let first = move || {
        Arc::clone(&in_child).store(true, Ordering::SeqCst);
        if has_terminal {
            ioctl_tiocsctty(std::io::stdin())?;
        }
        Ok(())
    };
    fork::fork(stdio, first, move || launch.run()).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::AGAIN) => "the container may have no more processes".to_owned(),
        Some(Errno::NOMEM) => "the container has no memory left".to_owned(),
        Some(Errno::MFILE | Errno::NFILE) => "there are too many open files in the container".to_owned(),
        _ => error.to_string(),
    })
}
