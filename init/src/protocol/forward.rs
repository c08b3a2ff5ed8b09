//! Sockets inside the container: what is to be dialled there, and listened on.

use super::wire::{Malformed, Reader, Writer, without_nul};

/// A socket's address. No part of it holds NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp {
        /// A name, or an address of IPv4 or IPv6 without brackets. To listen on: `localhost` for the loopback of both, empty
        /// for all addresses of both, else an address.
        host: Vec<u8>,
        /// To listen on: 0 for any that is free.
        port: u16,
    },
    /// A stream socket of the file system.
    Unix {
        /// Its path; a relative one is not taken.
        path: Vec<u8>,
    },
}

/// What is to be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Whom.
    pub to: Address,
    /// From the request to the answer, in milliseconds; names that have to be looked up included.
    pub within_ms: u32,
    /// Link-local addresses, the routers of the container's networks and everybody else on these is out of reach, whatever
    /// name they go by. The container's own addresses are not.
    pub spares_neighbours: bool,
}

/// What is to be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// This address.
    At(Address),
    /// A socket of its own for the authentication agent, in a folder that only the init's user may enter.
    Agent,
    /// The first free X11 display, from [`DISPLAY_MIN`] on, of the loopback, and a file with the cookie that it takes.
    Display {
        /// The name of the authorization protocol.
        protocol: Vec<u8>,
        /// The cookie.
        cookie: Vec<u8>,
    },
}

/// The first display that is tried, as at sshd.
pub const DISPLAY_MIN: u16 = 10;

/// The TCP port of display 0.
pub const DISPLAY_PORT: u16 = 6000;

/// Why something was not dialled, listened on or accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Nobody is there, or they do not want to be called: refused, unreachable, no such file.
    Unreachable,
    /// No such name.
    Unknown,
    /// It took too long.
    TimedOut,
    /// Whoever is there is not to be called ([`Dial::spares_neighbours`]).
    Forbidden,
    /// Somebody else listens there.
    InUse,
    /// Too much is going on in the container.
    Exhausted,
    /// Anything else.
    Other,
}

const TCP: u8 = 0;
const UNIX: u8 = 1;

const AT: u8 = 0;
const AGENT: u8 = 1;
const DISPLAY: u8 = 2;

impl Address {
    fn write(&self, to: &mut Writer<'_>) {
        match self {
            Self::Tcp { host, port } => to.u8(TCP).string(host).u16(*port),
            Self::Unix { path } => to.u8(UNIX).string(path),
        };
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.u8()? {
            TCP => Ok(Self::Tcp { host: string(from)?, port: from.u16()? }),
            UNIX => Ok(Self::Unix { path: string(from)? }),
            _ => Err(Malformed("an address is of no known kind")),
        }
    }
}

impl Dial {
    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        to.u32(self.within_ms).u8(u8::from(self.spares_neighbours));
        self.to.write(to);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let within_ms = from.u32()?;
        let spares_neighbours = match from.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("neither yes nor no")),
        };
        Ok(Self { to: Address::read(from)?, within_ms, spares_neighbours })
    }
}

impl Listen {
    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        match self {
            Self::At(address) => address.write(to.u8(AT)),
            Self::Agent => drop(to.u8(AGENT)),
            Self::Display { protocol, cookie } => drop(to.u8(DISPLAY).string(protocol).string(cookie)),
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.u8()? {
            AT => Ok(Self::At(Address::read(from)?)),
            AGENT => Ok(Self::Agent),
            DISPLAY => Ok(Self::Display { protocol: string(from)?, cookie: from.string()?.to_vec() }),
            _ => Err(Malformed("nothing that can be listened on")),
        }
    }
}

impl Failure {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Other => 0,
            Self::Unreachable => 1,
            Self::Unknown => 2,
            Self::TimedOut => 3,
            Self::Forbidden => 4,
            Self::InUse => 5,
            Self::Exhausted => 6,
        }
    }

    pub(crate) fn from_number(number: u8) -> Result<Self, Malformed> {
        let all = [
            Self::Other,
            Self::Unreachable,
            Self::Unknown,
            Self::TimedOut,
            Self::Forbidden,
            Self::InUse,
            Self::Exhausted,
        ];
        all.into_iter()
            .find(|failure| failure.number() == number)
            .ok_or(Malformed("a failure of no known kind"))
    }
}

fn string(from: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    from.string().and_then(without_nul).map(<[u8]>::to_vec)
}
