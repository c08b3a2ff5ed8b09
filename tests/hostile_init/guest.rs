//! The container's side: a first process that does as it is told by a test.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use coracle_init::{Exit, FromInit, ToInit, Token, VERSION};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// No guest waits longer for the server.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the server.
pub(crate) struct Guest {
    pub(crate) socket: UnixStream,
    /// What it speaks into, once it is welcome.
    pub(crate) pipe: Option<File>,
    pub(crate) descriptors: VecDeque<OwnedFd>,
    inbox: Vec<u8>,
}

/// A program that the server asked for.
pub(crate) struct Asked {
    pub(crate) process: u32,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Guest {
    pub(crate) fn connect(socket: &Path) -> Self {
        let socket = UnixStream::connect(socket).expect("the room's socket");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, pipe: None, descriptors: VecDeque::new(), inbox: Vec::new() }
    }

    /// One that the server welcomes.
    pub(crate) fn welcomed(socket: &Path) -> Self {
        let mut guest = Self::connect(socket);
        guest.greet(Token::default());
        guest.welcome().expect("a welcome");
        guest
    }

    /// Says hello as it should be.
    pub(crate) fn greet(&self, token: Token) {
        self.send(&hello(token), &[terminals().as_fd()]).unwrap();
    }

    pub(crate) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors)));
        let flags = SendFlags::NOSIGNAL;
        Ok(rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, flags)?)
    }

    /// The token of the welcome; `None` when the server hangs up instead.
    pub(crate) fn welcome(&mut self) -> Option<Token> {
        loop {
            if let Some((ToInit::Welcome { token, .. }, length)) = ToInit::decode(&self.inbox).unwrap() {
                self.inbox.drain(..length);
                self.pipe = self.descriptors.pop_front().map(File::from);
                return Some(token);
            }
            self.receive(RecvFlags::empty()).ok().filter(|count| *count > 0)?;
        }
    }

    /// Waits for a program to be asked for.
    pub(crate) fn asked(&mut self) -> Asked {
        loop {
            match ToInit::decode(&self.inbox).unwrap() {
                Some((ToInit::Start { process, start }, length)) => {
                    self.inbox.drain(..length);
                    let count = if start.terminal.is_some() { 1 } else { 3 };
                    let descriptors = self.descriptors.drain(..count).collect();
                    return Asked { process, descriptors };
                }
                Some((_, length)) => drop(self.inbox.drain(..length)),
                None => assert!(self.receive(RecvFlags::empty()).expect("a program is asked for") > 0),
            }
        }
    }

    /// Waits for a frame that means something to the caller, who gets the descriptors that have come as well.
    pub(crate) fn until<T>(&mut self, meaning: impl Fn(&ToInit<'_>) -> Option<T>) -> T {
        loop {
            match ToInit::decode(&self.inbox).unwrap() {
                Some((frame, length)) => {
                    let meant = meaning(&frame);
                    self.inbox.drain(..length);
                    if let Some(meant) = meant {
                        return meant;
                    }
                }
                None => assert!(self.receive(RecvFlags::empty()).expect("to be asked for it") > 0),
            }
        }
    }

    /// How many programs and connections were asked for in what lies there unread.
    pub(crate) fn count_asked(&mut self) -> usize {
        while self.receive(RecvFlags::DONTWAIT).is_ok_and(|count| count > 0) {}
        let mut count = 0;
        while let Some((frame, length)) = ToInit::decode(&self.inbox).unwrap() {
            count += usize::from(matches!(frame, ToInit::Start { .. } | ToInit::Dial { .. }));
            self.inbox.drain(..length);
        }
        count
    }

    pub(crate) fn say(&mut self, frame: &FromInit<'_>) {
        self.say_bytes(&encoded(frame)).expect("the server listens");
    }

    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pipe.as_mut().expect("a welcome").write_all(bytes)
    }

    pub(crate) fn started(&mut self, process: u32) {
        self.say(&FromInit::Started { process, pid: 2 });
    }

    pub(crate) fn exited(&mut self, process: u32) {
        self.say(&FromInit::Exited { process, exit: Exit::Status(0) });
    }

    fn receive(&mut self, flags: RecvFlags) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message =
            rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(came) = message {
                self.descriptors.extend(came);
            }
        }
        self.inbox.extend(&bytes[..message.bytes]);
        Ok(message.bytes)
    }
}

/// Serves as a first process should, for as long as it is asked: each program prints `done` and exits.
pub(crate) fn serve_well(mut guest: Guest) {
    std::thread::spawn(move || {
        loop {
            let asked = guest.asked();
            guest.started(asked.process);
            let [stdin, stdout, stderr] = asked.descriptors.try_into().expect("three streams");
            File::from(stdout).write_all(b"done").ok();
            drop((stdin, stderr));
            guest.exited(asked.process);
        }
    });
}

pub(crate) fn encoded(frame: &FromInit<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    bytes
}

pub(crate) fn hello(token: Token) -> Vec<u8> {
    encoded(&FromInit::Hello { version_min: VERSION, version_max: VERSION, token })
}

/// The folder of this machine's terminals.
pub(crate) fn terminals() -> OwnedFd {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/dev/pts", flags, Mode::empty()).expect("this machine has terminals")
}
