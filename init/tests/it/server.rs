//! An init and whoever listens for it.

use std::os::unix::net::UnixListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::peer::{DEADLINE, Peer};

/// The binary as it was just built, or another one: as it goes into containers, say.
pub(crate) fn binary() -> String {
    std::env::var("CORACLE_TEST_INIT").unwrap_or_else(|_| env!("CARGO_BIN_EXE_coracle-init").to_owned())
}

/// An init with its socket.
pub(crate) struct Init {
    pub(crate) folder: TempDir,
    listener: UnixListener,
    pub(crate) child: Child,
}

impl Init {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut command = Command::new(binary());
        command.arg("--socket").arg(&path).stdin(Stdio::null());
        change(&mut command);
        let child = command.spawn().unwrap();
        Self { folder, listener, child }
    }

    /// The next connection of the init, greeted.
    pub(crate) fn accept(&self) -> Peer {
        let mut ready = [PollFd::new(&self.listener, PollFlags::IN)];
        let deadline = Timespec::try_from(DEADLINE).unwrap();
        assert_eq!(poll(&mut ready, Some(&deadline)).unwrap(), 1, "nobody connects");
        Peer::greeted(self.listener.accept().unwrap().0)
    }

    /// The same, welcomed.
    pub(crate) fn serve(&self) -> Peer {
        let mut peer = self.accept();
        peer.welcome(DEADLINE, [7; 32]);
        peer
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).unwrap();
    }

    /// How the init ended, within the deadline.
    pub(crate) fn end(&mut self) -> ExitStatus {
        end(&mut self.child)
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        end_with_programs(&mut self.child);
    }
}

/// How a child ended, within the deadline.
pub(crate) fn end(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(began.elapsed() < DEADLINE, "the init does not end");
        pause();
    }
}

/// Ends an init so that it takes its programs along, which it cannot do if it is killed.
pub(crate) fn end_with_programs(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    kill_process(pid(child.id()), Signal::TERM).unwrap_or_default();
    let began = Instant::now();
    while matches!(child.try_wait(), Ok(None)) && began.elapsed() < DEADLINE {
        pause();
    }
    drop(child.kill());
    drop(child.wait());
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "{what}: not in time");
        pause();
    }
}

/// Whether a process runs, zombies not counted.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[expect(clippy::disallowed_methods, reason = "between two looks at a condition")]
fn pause() {
    thread::sleep(Duration::from_millis(5));
}
