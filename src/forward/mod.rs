//! Between a channel and a socket inside a container (RFC 4254 §6.3, §7; `PROTOCOL` and `PROTOCOL.agent` of OpenSSH):
//! whoever is dialled, and whoever calls. Knows neither russh nor how the socket got there.
//!
//! A socket is a process to us ([`crate::engine::Process`]): what it says is its output, its input is for it. [`relay`]
//! moves bytes between one and its channel, [`dial`] and [`listen`] get one, [`reception`] takes callers in and has the
//! client asked, [`doors`] are what programs find for the agent and for X11.

mod agent;
mod dial;
mod doors;
mod listen;
mod reception;
mod relay;
#[cfg(test)]
mod tests;
pub mod x11;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::ForwardError;
use crate::pool::LaunchError;
use crate::session::{Cut, StdinQueue};

pub use dial::dial;
pub use doors::{Door, Doors, MakeReception};
pub use listen::listen;
pub use reception::{Manner, Opener, Reception, Refused};
pub use relay::{End, Traffic, relay};

/// The client's end of a channel. Implemented by `ssh/`; a double in tests.
#[async_trait]
pub trait Client: Send + Sync {
    /// Sends; waits for the channel's window.
    async fn data(&self, chunk: Bytes) -> io::Result<()>;
    /// Says that nothing more will be sent.
    async fn eof(&self);
    /// Closes the channel.
    async fn close(&self);
}

/// A channel that a socket is to be relayed to.
pub struct Tunnel {
    /// The client.
    pub client: Arc<dyn Client>,
    /// What the client sends.
    pub input: StdinQueue,
    /// When it has to end early.
    pub ending: Ending,
}

/// The reasons for which a forward ends before its two sides do.
pub struct Ending {
    /// The client closed the channel, or the connection is over.
    pub closed: CancellationToken,
    /// More came from the client than can be kept.
    pub overflowed: CancellationToken,
    /// Whoever answers for the connection ends it.
    pub cut: watch::Receiver<Option<Cut>>,
    /// Done when what was permitted is not any more.
    pub revoked: BoxFuture<'static, ()>,
    /// The connection is over.
    pub over: CancellationToken,
    /// Whether the container goes when the connection is over, with all that is in it.
    pub container_goes: bool,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ending").finish_non_exhaustive()
    }
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no container.
    #[error("{0}")]
    Launch(#[from] LaunchError),
    /// It ended behind our back.
    #[error("the container is gone: {0}")]
    Lost(String),
    /// It did not come in time.
    #[error("there is no container yet")]
    TooEarly,
    /// Nobody in the container answered in time.
    #[error("the container did not answer within {}", humantime::format_duration(*.0))]
    TimedOut(std::time::Duration),
    /// The container's answer.
    #[error("{0}")]
    Socket(#[from] ForwardError),
    /// The connection is over.
    #[error("the connection is over")]
    Over,
}
