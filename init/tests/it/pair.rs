//! An init whose standard input and output are the way to the server.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use coracle_init::{Exit, Failure, FromInit, OutputStream, Start, ToInit, Token, VERSION, WINDOW_BYTES};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::peer::{DEADLINE, encoded};
use crate::server::{binary, end, end_with_programs};

/// An init, and the server's end.
pub(crate) struct Pair {
    pub(crate) child: Child,
    pub(crate) to: Option<ChildStdin>,
    pub(crate) from: ChildStdout,
    inbox: Vec<u8>,
    pub(crate) programs: HashMap<u32, Heard>,
}

/// What has been heard of a program.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) pid: Option<u32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) ends: Vec<OutputStream>,
    pub(crate) exit: Option<Exit>,
    pub(crate) refused: Option<String>,
    pub(crate) failed: Option<Failure>,
    /// Its port and its path, once it listens.
    pub(crate) listening: Option<(u16, String)>,
    pub(crate) knocks: u32,
    /// From which address.
    pub(crate) accepted: Option<String>,
    /// Granted, beside the window.
    pub(crate) credit: u32,
}

impl Heard {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    fn note(&mut self, frame: &FromInit<'_>) {
        match *frame {
            FromInit::Started { pid, .. } => self.pid = Some(pid),
            FromInit::Refused { reason, .. } => {
                self.refused = Some(String::from_utf8(reason.to_vec()).unwrap());
            }
            FromInit::Output { stream: OutputStream::Stdout, bytes, .. } => self.stdout.extend(bytes),
            FromInit::Output { stream: OutputStream::Stderr, bytes, .. } => self.stderr.extend(bytes),
            FromInit::OutputEnd { stream, .. } => self.ends.push(stream),
            FromInit::Exited { exit, .. } => assert_eq!(self.exit.replace(exit), None),
            FromInit::Credit { bytes, .. } => self.credit += bytes,
            FromInit::Listening { port, path, .. } => {
                self.listening = Some((port, String::from_utf8(path.to_vec()).unwrap()));
            }
            FromInit::Knock { .. } => self.knocks += 1,
            FromInit::Accepted { host, .. } => {
                self.accepted = Some(String::from_utf8(host.to_vec()).unwrap());
            }
            FromInit::Failed { failure, .. } => assert_eq!(self.failed.replace(failure), None),
            FromInit::Hello { .. } => {}
        }
    }

    fn is_over(&self) -> bool {
        self.exit.is_some() && self.ends.contains(&OutputStream::Stdout)
    }
}

impl Pair {
    pub(crate) fn start() -> Self {
        Self::of(Command::new(binary()).arg("--frames"))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        let mut pair = Self::unwelcomed(command);
        pair.listen();
        pair.say(&ToInit::Welcome { version: VERSION, orphan_timeout_ms: 60_000, token: [7; 32] });
        pair
    }

    pub(crate) fn unwelcomed(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, to, from, inbox: Vec::new(), programs: HashMap::new() }
    }

    pub(crate) fn say(&mut self, frame: &ToInit<'_>) {
        self.to.as_mut().unwrap().write_all(&encoded(frame)).unwrap();
    }

    pub(crate) fn run(&mut self, process: u32, start: Start) {
        self.say(&ToInit::Start { process, start: Box::new(start) });
    }

    pub(crate) fn feed(&mut self, process: u32, bytes: &[u8]) {
        for bytes in bytes.chunks(30_000) {
            self.say(&ToInit::Stdin { process, bytes });
        }
    }

    pub(crate) fn end_input(&mut self, process: u32) {
        self.say(&ToInit::StdinEnd { process });
    }

    pub(crate) fn grant(&mut self, process: u32, stream: OutputStream, bytes: u32) {
        self.say(&ToInit::Credit { process, stream, bytes });
    }

    /// Takes in one frame.
    pub(crate) fn listen(&mut self) {
        assert!(self.hears_within(DEADLINE.as_secs()), "silence");
        self.take();
    }

    /// Whether something is there to be taken in, or comes.
    pub(crate) fn hears_within(&mut self, seconds: u64) -> bool {
        loop {
            if FromInit::decode(&self.inbox).unwrap().is_some() {
                return true;
            }
            let wait = Timespec { tv_sec: seconds.try_into().unwrap(), tv_nsec: 200_000_000 };
            let mut from = [PollFd::new(&self.from, PollFlags::IN)];
            if poll(&mut from, Some(&wait)).unwrap() == 0 {
                return false;
            }
            let mut bytes = [0; 10_000];
            let count = self.from.read(&mut bytes).unwrap();
            assert!(count > 0, "the init has gone");
            self.inbox.extend(&bytes[..count]);
        }
    }

    fn take(&mut self) {
        let (frame, length) = FromInit::decode(&self.inbox).unwrap().unwrap();
        match frame {
            FromInit::Hello { version_min: 1, version_max: 1, token: NO_TOKEN } => {}
            FromInit::Hello { .. } => panic!("an odd hello"),
            FromInit::Started { process, .. }
            | FromInit::Refused { process, .. }
            | FromInit::Output { process, .. }
            | FromInit::OutputEnd { process, .. }
            | FromInit::Exited { process, .. }
            | FromInit::Listening { listener: process, .. }
            | FromInit::Knock { listener: process }
            | FromInit::Accepted { process, .. }
            | FromInit::Failed { process, .. }
            | FromInit::Credit { process, .. } => self.programs.entry(process).or_default().note(&frame),
        }
        self.inbox.drain(..length);
    }

    /// Listens until something is true of a program.
    pub(crate) fn until(&mut self, process: u32, condition: impl Fn(&Heard) -> bool) -> &Heard {
        let began = Instant::now();
        while !condition(self.programs.entry(process).or_default()) {
            assert!(began.elapsed() < DEADLINE, "not in time");
            self.listen();
        }
        &self.programs[&process]
    }

    /// Listens until a program and its standard output have ended. Grants nothing: for what fits a window.
    pub(crate) fn finish(&mut self, process: u32) -> &Heard {
        self.until(process, Heard::is_over)
    }

    /// The connection ends without a further frame.
    pub(crate) fn breaks(&mut self, what: &str) {
        let mut rest = Vec::new();
        let mut from = [PollFd::new(&self.from, PollFlags::IN)];
        let deadline = Timespec::try_from(DEADLINE).unwrap();
        assert_eq!(poll(&mut from, Some(&deadline)).unwrap(), 1, "{what}");
        self.from.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"", "{what}");
        assert_eq!(end(&mut self.child).code(), Some(0), "{what}");
    }
}

const NO_TOKEN: Token = [0; 32];

impl Drop for Pair {
    fn drop(&mut self) {
        end_with_programs(&mut self.child);
    }
}

/// How much may be on its way.
pub(crate) const WINDOW: usize = WINDOW_BYTES as usize;
