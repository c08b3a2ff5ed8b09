//! What listens, by the server's numbers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_init::{Failure, Listen};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};

use crate::listen::{self, Listening};
use crate::verdict::Failed;

/// Listeners at a time.
const LISTENERS_MAX: usize = 64;

/// Until the next knock, when somebody waits and cannot be taken in: it may be a while before something else has ended.
const REST: Duration = Duration::from_millis(200);

/// All of them. Dropped, they listen no more, and what was made for them is gone.
#[derive(Debug, Default)]
pub(crate) struct Listeners(BTreeMap<u32, Listener>);

#[derive(Debug)]
struct Listener {
    listening: Listening,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Nobody is known to wait.
    Open,
    /// Somebody waits, and the server knows.
    Knocked,
    /// Somebody waits, for better times.
    Resting(Instant),
}

/// Somebody who was taken in.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) socket: OwnedFd,
    /// Empty for a socket of the file system.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Listeners {
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.0.contains_key(&number)
    }

    pub(crate) fn add(&mut self, number: u32, what: &Listen) -> Result<&Listening, Failed> {
        if self.0.len() >= LISTENERS_MAX {
            return Err(Failed::too_many("listeners"));
        }
        let listener = Listener { listening: listen::begin(what)?, state: State::Open };
        Ok(&self.0.entry(number).insert_entry(listener).into_mut().listening)
    }

    pub(crate) fn remove(&mut self, number: u32) {
        self.0.remove(&number);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Where to wait for somebody.
    pub(crate) fn open(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        self.0.iter().filter(|(_, listener)| matches!(listener.state, State::Open)).flat_map(
            |(number, listener)| listener.listening.sockets.iter().map(|socket| (*number, socket.as_fd())),
        )
    }

    /// Somebody waits. Whether that is news.
    pub(crate) fn knock(&mut self, number: u32) -> bool {
        let listener = self.0.get_mut(&number).filter(|listener| matches!(listener.state, State::Open));
        listener.map(|listener| listener.state = State::Knocked).is_some()
    }

    /// Takes in the first who waits.
    pub(crate) fn accept(&mut self, number: u32, now: Instant) -> Result<Guest, Failed> {
        let gone = || Failed::new(Failure::Unreachable, "nobody waits there any more");
        let listener = self.0.get_mut(&number).ok_or_else(gone)?;
        listener.state = State::Open;
        for socket in &listener.listening.sockets {
            match acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok((socket, address)) => return Ok(Guest::new(socket, address)),
                // Those that are taken from the queue and are broken already are told as errors of ours.
                Err(error) if is_scarce(error) => {
                    listener.state = State::Resting(now + REST);
                    return Err(error.into());
                }
                Err(_) => {}
            }
        }
        Err(gone())
    }

    /// Wakes those that have rested.
    pub(crate) fn watch_over_time(&mut self, now: Instant) {
        for listener in self.0.values_mut() {
            if matches!(listener.state, State::Resting(until) if until <= now) {
                listener.state = State::Open;
            }
        }
    }

    /// When to do that again.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        let until = |listener: &Listener| match listener.state {
            State::Resting(until) => Some(until),
            State::Open | State::Knocked => None,
        };
        self.0.values().filter_map(until).min()
    }
}

impl Guest {
    fn new(socket: OwnedFd, address: Option<SocketAddrAny>) -> Self {
        match address.map(SocketAddr::try_from) {
            Some(Ok(address)) => {
                // It is slower without, and works.
                set_tcp_nodelay(&socket, true).unwrap_or_default();
                Self { socket, host: address.ip().to_string(), port: address.port() }
            }
            _ => Self { socket, host: String::new(), port: 0 },
        }
    }
}

fn is_scarce(error: Errno) -> bool {
    matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS)
}
