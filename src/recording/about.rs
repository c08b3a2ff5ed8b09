//! What lies beside each recording: who, when, from where, on what, and how it ended. JSON, one object.

use std::net::SocketAddr;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::config::Format;
use super::event::{Lost, Outcome};
use crate::ids::ConnectionId;

/// Version of the JSON that lies beside recordings. It rises when something in it changes its meaning.
const VERSION: u32 = 1;

/// Longest command that is written down, in bytes; a longer one is cut there. Escaped, it still fits the smallest recording.
const COMMAND_BYTES_MAX: usize = 8 << 10;

/// What is known of a session when it begins.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Of its connection.
    pub connection: ConnectionId,
    /// Its number on the connection, from 1.
    pub session: u32,
    /// Who logged in.
    pub user: String,
    /// The groups of the user.
    pub groups: Vec<String>,
    /// What was proven: `publicKey+totp`.
    pub methods: String,
    /// `SHA256:…` of the key that let the user in, if a key did.
    pub key_fingerprint: Option<String>,
    /// Where the client is.
    pub client: SocketAddr,
    /// The user's profile; empty for what everybody gets.
    pub profile: String,
    /// What its container is made of.
    pub image: String,
    /// What was asked for.
    pub kind: Kind,
    /// The command, or the subsystem's name.
    pub command: Option<String>,
    /// The terminal, if one was asked for.
    pub terminal: Option<TerminalFacts>,
}

/// What was asked for (RFC 4254 §6.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A shell.
    #[default]
    Shell,
    /// A command.
    Exec,
    /// A subsystem.
    Subsystem,
}

/// A terminal as it was at first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalFacts {
    /// `TERM`.
    pub term: String,
    /// Character cells in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// What changed in a container since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Changes {
    /// The files and folders.
    pub files: Vec<Change>,
    /// There are more.
    pub truncated: bool,
    /// Why it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A file or folder that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its path in the container.
    pub path: String,
    /// `added`, `changed` or `deleted`.
    pub change: String,
}

/// What lies beside a recording.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Sidecar {
    pub(crate) version: u32,
    /// The installation of the server.
    pub(crate) instance: String,
    pub(crate) connection: String,
    pub(crate) session: u32,
    /// The name of the recording beside this. None when nothing of it could be kept.
    pub(crate) recording: Option<String>,
    /// `asciicast-v2`, `asciicast-v3` or `events`.
    pub(crate) format: String,
    pub(crate) started: String,
    pub(crate) ended: Option<String>,
    pub(crate) duration_seconds: Option<f64>,
    pub(crate) user: String,
    pub(crate) groups: Vec<String>,
    /// What was proven: `publicKey+totp`.
    pub(crate) methods: String,
    pub(crate) key_fingerprint: Option<String>,
    pub(crate) client: String,
    pub(crate) profile: String,
    pub(crate) image: String,
    pub(crate) container: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) command: Option<String>,
    pub(crate) terminal: Option<TerminalFacts>,
    /// Whether what the user typed was to be recorded.
    pub(crate) input: bool,
    pub(crate) exit: Option<Exit>,
    pub(crate) bytes: Bytes,
    pub(crate) lost: Missing,
    /// The recording ended at its greatest size, before the session did.
    pub(crate) truncated: bool,
    /// The server ended before the session did; nobody saw how it ended.
    pub(crate) interrupted: bool,
    /// Why the disk did not take the rest.
    pub(crate) failed: Option<String>,
    pub(crate) changes: Option<Changes>,
}

/// How a session ended: one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// How much there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bytes {
    /// That the client was sent.
    pub(crate) output: u64,
    /// That the client sent.
    pub(crate) input: u64,
    /// Of the recording.
    pub(crate) recorded: u64,
}

/// What is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Missing {
    pub(crate) gaps: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

impl Facts {
    /// The same, with a command of which there is not too much.
    pub(super) fn bounded(mut self) -> Self {
        if let Some(command) = &mut self.command {
            command.truncate(command.floor_char_boundary(COMMAND_BYTES_MAX));
        }
        self
    }
}

impl Sidecar {
    /// At the session's start.
    pub(super) fn begin(facts: &Facts, instance: &str, started: SystemTime) -> Self {
        Self {
            version: VERSION,
            instance: instance.to_owned(),
            connection: facts.connection.to_string(),
            session: facts.session,
            started: written(started),
            user: facts.user.clone(),
            groups: facts.groups.clone(),
            methods: facts.methods.clone(),
            key_fingerprint: facts.key_fingerprint.clone(),
            client: facts.client.to_string(),
            profile: facts.profile.clone(),
            image: facts.image.clone(),
            kind: facts.kind,
            command: facts.command.clone(),
            terminal: facts.terminal.clone(),
            ..Self::default()
        }
    }

    pub(super) fn lose(&mut self, lost: Lost) {
        self.lost.gaps += 1;
        self.lost.events += lost.events;
        self.lost.bytes += lost.bytes;
    }

    /// As it is written.
    pub(super) fn json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

impl From<&Outcome> for Exit {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Exited(status) => Self { status: Some(*status), ..Self::default() },
            Outcome::Signaled(name) => Self { signal: Some((*name).to_owned()), ..Self::default() },
            Outcome::Failed(reason) => Self { reason: Some(reason.clone()), ..Self::default() },
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.status, &self.signal, &self.reason) {
            (Some(status), ..) => status.fmt(f),
            (_, Some(signal), _) => write!(f, "SIG{}", signal.escape_debug()),
            (.., Some(reason)) => reason.escape_debug().fmt(f),
            _ => f.write_str("?"),
        }
    }
}

/// The name of a format in the JSON.
pub(super) fn format_name(format: Option<Format>) -> &'static str {
    match format {
        Some(Format::AsciicastV2) => "asciicast-v2",
        Some(Format::AsciicastV3) => "asciicast-v3",
        None => "events",
    }
}

/// A time as RFC 3339 has it, in UTC.
pub(super) fn written(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}
