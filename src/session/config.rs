//! The section `limits` of the configuration.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{ByteSize, Section, Span, section};

/// How much one connection, and all of them together, may take.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Limits {
    /// Input that arrives faster than a program reads it.
    #[serde(deserialize_with = "section")]
    pub stdin: StdinLimits,
    /// Connections at a time, logged in or not. 0: as many as the server's descriptors and memory are made for.
    pub max_connections: u32,
    /// Connections at a time from one IPv4 address or IPv6 network of 64 bits. 0: no limit.
    pub max_connections_per_source: u32,
    /// Connections at a time of one user name; past it a login is disconnected and told so. 0: no limit.
    pub max_connections_per_user: u32,
    /// Session channels at a time on one connection. Past it a channel is refused; 0 refuses all.
    pub sessions_per_connection: u16,
    /// From the login to the end of a connection. Its users are warned a minute before. 0: no limit.
    pub max_lifetime: Span,
    /// Time without anything sent in either direction, after which a connection is ended. Its users are warned a
    /// minute before. 0: no limit.
    pub idle_timeout: Span,
    /// Containers at a time. Past it a login or session gets none and is told so; 0: no limit.
    pub max_containers: u32,
    /// Containers at a time of one user name. Past it the same; 0: no limit.
    pub max_containers_per_user: u32,
}

/// What a profile may change of the limits; what is not set is as outside of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct ProfileLimits {
    /// From the login to the end of a connection. 0: no limit.
    pub max_lifetime: Option<Span>,
    /// Time without anything sent in either direction. 0: no limit.
    pub idle_timeout: Option<Span>,
    /// Containers at a time of one user name. 0: no limit.
    pub max_containers_per_user: Option<u32>,
}

impl Section for ProfileLimits {}

impl ProfileLimits {
    /// These, and where they say nothing, those of `outer`.
    #[must_use]
    pub fn or(self, outer: &Self) -> Self {
        Self {
            max_lifetime: self.max_lifetime.or(outer.max_lifetime),
            idle_timeout: self.idle_timeout.or(outer.idle_timeout),
            max_containers_per_user: self.max_containers_per_user.or(outer.max_containers_per_user),
        }
    }
}

/// Where input waits that a program has not read yet: in memory, then on disk, up to a cap.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct StdinLimits {
    /// In memory, per channel. Past it the rest goes to disk.
    pub memory: ByteSize,
    /// On disk, per connection. Past it we read from the client at a trickle.
    pub spill: ByteSize,
    /// Bytes per second that we read from a client past `spill`, so that resizes and signals still get through.
    pub trickle: ByteSize,
    /// On disk, per connection. Past it the channel is ended with a message.
    pub cap: ByteSize,
    /// On disk, all connections together. Past it the same.
    pub total: ByteSize,
    /// Folder for the files, which have no name there. Not set: `spill` in the state folder.
    pub directory: Option<PathBuf>,
}

impl Section for Limits {}

impl Default for Limits {
    fn default() -> Self {
        // OpenSSH's own MaxSessions.
        Self {
            stdin: StdinLimits::default(),
            max_connections: 0,
            max_connections_per_source: 0,
            max_connections_per_user: 0,
            sessions_per_connection: 10,
            max_lifetime: Span::default(),
            idle_timeout: Span::default(),
            max_containers: 0,
            max_containers_per_user: 0,
        }
    }
}

impl Default for StdinLimits {
    fn default() -> Self {
        Self {
            memory: ByteSize::from_mebibytes(4),
            spill: ByteSize::from_mebibytes(4 << 10),
            trickle: ByteSize::from_mebibytes(4),
            cap: ByteSize::from_mebibytes(8 << 10),
            total: ByteSize::from_mebibytes(32 << 10),
            directory: None,
        }
    }
}

/// Less than this and a client's window (2 MiB) would hold its keep-alive replies up for over half a minute.
const TRICKLE_BYTES_MIN: u64 = 64 << 10;

impl Section for StdinLimits {
    fn check(&self) -> Result<(), String> {
        let Self { spill, trickle, cap, total, .. } = self;
        if spill > cap {
            return Err(format!("`spill` ({spill}) must not be over `cap` ({cap})"));
        }
        if cap > total {
            return Err(format!("`cap` ({cap}) must not be over `total` ({total})"));
        }
        if trickle.bytes() < TRICKLE_BYTES_MIN {
            return Err(format!(
                "`trickle` ({trickle}) must be at least 64KiB: resizes and signals come with it"
            ));
        }
        Ok(())
    }
}

impl StdinLimits {
    /// The folder for the files: the configured one, else `spill` in the state folder.
    #[must_use]
    pub fn directory_in(&self, state_dir: &Path) -> PathBuf {
        self.directory.clone().unwrap_or_else(|| state_dir.join("spill"))
    }
}

impl Limits {
    /// Takes relative paths as seen from `folder`.
    pub(crate) fn resolve(&mut self, folder: &Path) {
        if let Some(path) = &mut self.stdin.directory {
            *path = folder.join(&path);
        }
    }
}
