//! The server's end of a connection.

use std::io::{IoSlice, IoSliceMut, PipeReader, PipeWriter, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use coracle_init::{Exit, FromInit, Program, Start, Terminal, ToInit, Token, VERSION};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Longer than anything here takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A connection from an init.
pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    /// Where the init says what it says, from the welcome on.
    pub(crate) pipe: Option<PipeReader>,
    inbox: Vec<u8>,
    /// What came with the hello.
    pub(crate) terminals: Option<OwnedFd>,
    /// The token of the hello.
    pub(crate) token: Token,
}

impl Peer {
    /// Takes the hello.
    pub(crate) fn greeted(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let mut peer = Self { stream, pipe: None, inbox: Vec::new(), terminals: None, token: [0; 32] };
        let (mut space, mut bytes) = ([MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))], [0; 1000]);
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received =
            recvmsg(&peer.stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags).unwrap();
        peer.inbox.extend(&bytes[..received.bytes]);
        for message in control.drain() {
            let RecvAncillaryMessage::ScmRights(mut rights) = message else { continue };
            peer.terminals = rights.next();
            assert!(rights.next().is_none());
        }
        let Some(FromInit::Hello { version_min: 1, version_max: 1, token }) = peer.next() else {
            panic!("no hello")
        };
        peer.token = token;
        peer
    }

    /// Says welcome, with a pipe.
    pub(crate) fn welcome(&mut self, orphan_timeout: Duration, token: Token) {
        let orphan_timeout_ms = u32::try_from(orphan_timeout.as_millis()).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        self.say_with(&ToInit::Welcome { version: VERSION, orphan_timeout_ms, token }, &[writer.as_fd()]);
        self.pipe = Some(reader);
    }

    pub(crate) fn say(&mut self, frame: &ToInit<'_>) {
        self.stream.write_all(&encoded(frame)).unwrap();
    }

    /// Says a start, with descriptors; the frame may be longer than what goes out at once.
    pub(crate) fn say_with(&mut self, frame: &ToInit<'_>, descriptors: &[BorrowedFd<'_>]) {
        let bytes = encoded(frame);
        let sent = send_with(&self.stream, &bytes[..bytes.len().min(4096)], descriptors);
        self.stream.write_all(&bytes[sent..]).unwrap();
    }

    /// The next frame; `None` at the end. Before the welcome it is one on the socket.
    pub(crate) fn next(&mut self) -> Option<FromInit<'static>> {
        loop {
            // A test may leak what it has received.
            let received: &'static [u8] = Vec::leak(self.inbox.clone());
            if let Some((frame, length)) = FromInit::decode(received).unwrap() {
                self.inbox.drain(..length);
                return Some(frame);
            }
            let mut bytes = [0; 4096];
            let received = match &mut self.pipe {
                Some(pipe) => {
                    let deadline = Timespec::try_from(DEADLINE).unwrap();
                    let mut ready = [PollFd::new(pipe, PollFlags::IN)];
                    assert_eq!(poll(&mut ready, Some(&deadline)).unwrap(), 1, "no frame in time");
                    pipe.read(&mut bytes)
                }
                None => self.stream.read(&mut bytes),
            };
            match received {
                Ok(0) => return None,
                Ok(count) => self.inbox.extend(&bytes[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no frame in time: {error}"),
            }
        }
    }

    /// Starts a program on three pipes.
    pub(crate) fn start(&mut self, process: u32, start: Start) -> Running {
        let (stdin_end, stdin) = std::io::pipe().unwrap();
        let (stdout, stdout_end) = std::io::pipe().unwrap();
        let (stderr, stderr_end) = std::io::pipe().unwrap();
        let ends = [stdin_end.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()];
        self.say_with(&ToInit::Start { process, start: Box::new(start) }, &ends);
        Running { process, stdin: Some(stdin), stdout, stderr }
    }

    pub(crate) fn expect_started(&mut self, process: u32) -> u32 {
        let Some(FromInit::Started { process: started, pid }) = self.next() else { panic!("not started") };
        assert_eq!(started, process);
        pid
    }

    pub(crate) fn expect_exit(&mut self, process: u32) -> Exit {
        match self.next() {
            Some(FromInit::Exited { process: ended, exit }) if ended == process => exit,
            other => panic!("{other:?}"),
        }
    }

    /// Runs a program without input to its end: how it ended, standard output and error.
    pub(crate) fn run(&mut self, process: u32, start: Start) -> (Exit, String, String) {
        let mut running = self.start(process, start);
        running.stdin = None;
        self.expect_started(process);
        let (stdout, stderr) = running.outputs();
        (self.expect_exit(process), stdout, stderr)
    }

    pub(crate) fn signal(&mut self, process: u32, number: u8) {
        self.say(&ToInit::Signal { process, number });
    }
}

/// A program's other ends.
pub(crate) struct Running {
    pub(crate) process: u32,
    pub(crate) stdin: Option<PipeWriter>,
    pub(crate) stdout: PipeReader,
    pub(crate) stderr: PipeReader,
}

impl Running {
    /// Waits for a text on standard output.
    pub(crate) fn expect(&mut self, text: &str) {
        let mut read = String::new();
        while !read.contains(text) {
            let mut bytes = [0; 100];
            let count = self.stdout.read(&mut bytes).unwrap();
            assert!(count > 0, "{read:?} instead of {text:?}");
            read.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    }

    pub(crate) fn outputs(&mut self) -> (String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        (stdout, stderr)
    }
}

pub(crate) fn send_with(stream: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> usize {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors)));
    sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap()
}

pub(crate) fn encoded(frame: &ToInit<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    bytes
}

/// A program of the user who runs the init.
pub(crate) fn program(program: Program) -> Start {
    Start {
        program,
        env: Vec::new(),
        cwd: Vec::new(),
        user: Vec::new(),
        username: b"ann".to_vec(),
        terminal: None,
    }
}

pub(crate) fn shell(command: &str) -> Start {
    program(Program::ShellCommand(command.as_bytes().to_vec()))
}

pub(crate) fn args(args: &[&str]) -> Start {
    program(Program::Args(args.iter().map(|arg| arg.as_bytes().to_vec()).collect()))
}

pub(crate) fn on_terminal(start: Start, modes: &[(u8, u32)]) -> Start {
    Start { terminal: Some(Terminal { columns: 100, rows: 40, modes: modes.to_vec() }), ..start }
}
