//! The SSH transport and connection protocols (RFC 4253, 4254). The only module that knows russh.
//!
//! [`listener`] accepts, [`gate`] lets in, [`connection`] translates russh's callbacks into our words and answers them at once,
//! [`channel`] is a session's way to its client, [`tunnel`] a forward's.

mod admission;
mod caller;
mod channel;
pub mod config;
mod connection;
mod curfew;
mod dial;
mod doors;
mod files;
mod forwards;
mod gate;
pub mod hostkey;
mod listen;
mod listener;
mod login;
pub mod network;
mod owner;
mod penalties;
mod permit;
mod program;
pub mod proxy_protocol;
mod record;
mod rescue;
mod services;
mod shared;
mod slots;
mod story;
mod stream;
mod transport;
mod tunnel;

pub use admission::ConnectionLimits;
pub use config::Config;
pub use listener::Listener;
pub use russh::keys::PrivateKey as HostKey;
pub use services::{Profile, Profiles, Services};
pub use transport::Transport;

/// The banner as the protocol wants it (RFC 4252 §5.4): lines that end in CR LF; empty for none.
#[must_use]
pub fn banner(config: &Config) -> String {
    config.banner.lines().flat_map(|line| [line, "\r\n"]).collect()
}
