//! Sockets inside a container: dialled, listened on, and handed to whoever asked (RFC 4254 §7, `PROTOCOL` of OpenSSH).

use std::fmt;

use async_trait::async_trait;

use super::{EngineError, Process};
use crate::secret::Secret;

/// A socket's address inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP.
    Tcp {
        /// A name, or an address of IPv4 or IPv6 without brackets. To listen on: `localhost` for the loopback of both, empty
        /// for all addresses of both, else an address.
        host: String,
        /// To listen on: 0 for any that is free.
        port: u16,
    },
    /// A stream socket of the file system.
    Unix {
        /// Its absolute path.
        path: String,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => f.write_str(path),
        }
    }
}

/// Whom to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialSpec {
    /// Whom.
    pub to: Address,
    /// Link-local addresses, the routers of the container's networks and everybody else on these stay out of reach,
    /// whatever name they go by.
    pub spares_neighbours: bool,
}

/// What to listen on.
#[derive(Clone, Debug)]
pub enum ListenSpec {
    /// This address.
    At(Address),
    /// A socket of its own for the authentication agent, that only the programs' user may use.
    Agent,
    /// A free X11 display of the loopback, and a file with the cookie that it takes.
    Display {
        /// The name of the authorization protocol.
        protocol: String,
        /// The cookie.
        cookie: Secret<Vec<u8>>,
    },
}

/// What listens. Dropped, it does no more, and what was made for it is removed; who was taken in stays.
#[async_trait]
pub trait Listener: fmt::Debug + Send + Sync {
    /// The TCP port; 0 for a socket of the file system.
    fn port(&self) -> u16;

    /// What was made for it: the socket, or the file with a display's cookie; else empty.
    fn path(&self) -> &str;

    /// Takes in the next one. Cancel safe.
    async fn accept(&mut self) -> Result<Caller, ForwardError>;
}

/// Somebody who was taken in.
#[derive(Debug)]
pub struct Caller {
    /// What they say is the output, [`super::Output::Stdout`] alone; the input is for them.
    pub process: Process,
    /// From which address; empty where there is none.
    pub host: String,
    /// And port.
    pub port: u16,
}

/// Why something was not dialled, listened on or taken in; a variant each for what is told to a client.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Nobody is there, or nobody of that name, or they do not answer, or somebody listens there already.
    #[error("{0}")]
    Unreachable(String),
    /// Whoever is there is not to be called ([`DialSpec::spares_neighbours`]).
    #[error("{0}")]
    Forbidden(String),
    /// Too much is going on in the container.
    #[error("{0}")]
    Exhausted(String),
    /// The engine, or what we have in the container, fails us.
    #[error("{0}")]
    Engine(#[from] EngineError),
}
