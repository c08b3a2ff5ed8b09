//! The server's words for sockets inside.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use coracle_init::{Address, Dial, Exit, Failure, FromInit, Listen, ToInit};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use crate::pair::Pair;
use crate::peer::Peer;

/// The other ends of a socket's pipes.
pub(crate) struct Socket {
    pub(crate) input: Option<PipeWriter>,
    pub(crate) output: PipeReader,
}

pub(crate) fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.into(), port }
}

pub(crate) fn unix(path: &Path) -> Address {
    Address::Unix { path: path.to_str().unwrap().into() }
}

/// Bytes that are not all alike.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let byte = |at: u32| at.wrapping_mul(2_654_435_761).to_be_bytes()[0];
    (0..u32::try_from(count).unwrap()).map(byte).collect()
}

pub(crate) fn within(to: Address, within_ms: u32) -> Dial {
    Dial { to, within_ms, spares_neighbours: false }
}

fn with_pipes(peer: &mut Peer, frame: &ToInit<'_>) -> Socket {
    let (input_end, input) = std::io::pipe().unwrap();
    let (output, output_end) = std::io::pipe().unwrap();
    peer.say_with(frame, &[input_end.as_fd(), output_end.as_fd()]);
    Socket { input: Some(input), output }
}

impl Peer {
    pub(crate) fn dial(&mut self, process: u32, dial: Dial) -> Socket {
        with_pipes(self, &ToInit::Dial { process, dial: Box::new(dial) })
    }

    pub(crate) fn listen(&mut self, listener: u32, listen: Listen) {
        self.say(&ToInit::Listen { listener, listen: Box::new(listen) });
    }

    pub(crate) fn unlisten(&mut self, listener: u32) {
        self.say(&ToInit::Unlisten { listener });
    }

    pub(crate) fn accept(&mut self, process: u32, listener: u32) -> Socket {
        with_pipes(self, &ToInit::Accept { process, listener })
    }

    pub(crate) fn expect_failure(&mut self, process: u32) -> Failure {
        match self.next() {
            Some(FromInit::Failed { process: failed, failure, .. }) if failed == process => failure,
            other => panic!("{other:?}"),
        }
    }

    /// Its port and its path.
    pub(crate) fn expect_listening(&mut self, listener: u32) -> (u16, String) {
        match self.next() {
            Some(FromInit::Listening { listener: listening, port, path }) if listening == listener => {
                (port, String::from_utf8(path.to_vec()).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn expect_knock(&mut self, listener: u32) {
        assert_eq!(self.next(), Some(FromInit::Knock { listener }));
    }

    /// The caller's address and port.
    pub(crate) fn expect_accepted(&mut self, process: u32) -> (String, u16) {
        match self.next() {
            Some(FromInit::Accepted { process: accepted, host, port }) if accepted == process => {
                (String::from_utf8(host.to_vec()).unwrap(), port)
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Pair {
    pub(crate) fn dial(&mut self, process: u32, dial: Dial) {
        self.say(&ToInit::Dial { process, dial: Box::new(dial) });
    }

    pub(crate) fn accept(&mut self, process: u32, listener: u32) {
        self.say(&ToInit::Accept { process, listener });
    }

    pub(crate) fn start_listening(&mut self, listener: u32, listen: Listen) {
        self.say(&ToInit::Listen { listener, listen: Box::new(listen) });
    }
}

/// Long enough for what does not take long.
pub(crate) const SOON_MS: u32 = 10_000;

/// Processor time of somebody who has nothing to do, in hundredths of a second.
const IDLE_TICKS_MAX: u64 = 3;

pub(crate) fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A socket that was dialled, the other end of it, and the child between.
pub(crate) fn dialled(peer: &mut Peer, process: u32) -> (Socket, TcpStream, u32) {
    let (listener, port) = listener();
    let socket = peer.dial(process, within(tcp("127.0.0.1", port), SOON_MS));
    let pid = peer.expect_started(process);
    (socket, listener.accept().unwrap().0, pid)
}

fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A child that has nothing to do does nothing.
#[expect(clippy::disallowed_methods, reason = "what is measured takes time")]
pub(crate) fn assert_idle(pid: u32) {
    let before = ticks(pid);
    thread::sleep(Duration::from_millis(500));
    let spent = ticks(pid) - before;
    assert!(spent < IDLE_TICKS_MAX, "{spent} ticks");
}

/// Nobody takes in who waits there, and there is room for one.
pub(crate) fn busy_listener() -> (OwnedFd, u16) {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&socket, 0).unwrap();
    let address: SocketAddr = rustix::net::getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address.port())
}

pub(crate) const COOKIE: &[u8] = &[0, 1, 2, 253, 254, 255, 10, 13, 0, 9, 8, 7, 6, 5, 4, 3];

pub(crate) fn display() -> Listen {
    Listen::Display { protocol: b"MIT-MAGIC-COOKIE-1".to_vec(), cookie: COOKIE.to_vec() }
}

/// Anybody who was taken in and the one who took them in hear each other, and both ends are heard.
pub(crate) fn assert_connected(
    peer: &mut Peer,
    (process, socket): (u32, &mut Socket),
    mut caller: impl Read + Write,
    half_close: impl FnOnce(),
) {
    caller.write_all(b"hello").unwrap();
    half_close();
    let mut heard = String::new();
    socket.output.read_to_string(&mut heard).unwrap();
    socket.input.take().unwrap().write_all(b"bye").unwrap();
    caller.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hellobye");
    assert_eq!(peer.expect_exit(process), Exit::Status(0));
}
