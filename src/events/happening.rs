//! Everything that may happen.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::{Deed, Vouched};

/// What may happen. `&'static str` is a word of a closed set, fit for a label; a `String` may hold anything that the client
/// or the container put there, but for [`crate::ids::shown_name`]'s bounds where it is a user name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Happening {
    /// The client was turned away before it could say anything.
    TurnedAway {
        /// `banned`, `connections`, `connections-of-source`, `startups`, `proxy`.
        reason: &'static str,
    },
    /// A connection was accepted.
    Connected {
        /// What the client connected to.
        server: SocketAddr,
    },
    /// Both sides speak SSH.
    Greeted {
        /// What the client calls itself (RFC 4253 §4.2).
        version: String,
        /// Since the connection was accepted.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        after: Duration,
    },
    /// A proof was judged.
    Proven {
        /// The name as the client typed it, fit to be shown.
        name: String,
        /// `none`, `publicKey`, `certificate`, `password`, `totp`.
        method: &'static str,
        /// `SHA256:…` of the key, where it was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// The certificate, where it was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        certificate: Option<Box<Vouched>>,
        /// What came of it.
        outcome: Proof,
    },
    /// A user is in.
    LoggedIn {
        /// The proofs, in their order: `publicKey+totp`.
        methods: String,
        /// `SHA256:…` of the key, if one was shown.
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// The profile's name; empty for what everybody gets.
        profile: String,
        /// What the client calls itself.
        version: String,
        /// Since the connection was accepted.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        after: Duration,
    },
    /// Somebody had proven enough and was not let in.
    LoginRefused {
        /// `profile`, `connections-of-user`, `audit`.
        reason: &'static str,
        /// The same for people.
        detail: String,
    },
    /// A variable, a terminal, a program was refused, or a session.
    RequestRefused {
        /// `session`, `env`, `pty-req`, `shell`, `exec`, `subsystem`, `signal`.
        request: &'static str,
        /// What was asked for.
        detail: String,
        /// Why it was refused.
        reason: String,
    },
    /// A variable or a terminal was granted.
    RequestGranted {
        /// `env`, `pty-req`.
        request: &'static str,
        /// The variable's name, the terminal's kind.
        detail: String,
    },
    /// A container is there: the connection's, or a session's own.
    ContainerReady {
        /// Its id.
        container: String,
        /// Whose own it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<u32>,
        /// What it is made of, as configured.
        image: String,
        /// Since it was wanted.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        after: Duration,
    },
    /// A container was given back.
    ContainerReturned {
        /// Its id.
        container: String,
        /// Whose own it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<u32>,
        /// Whether it is there for later connections. Otherwise it is gone, or removed as soon as the engine can.
        stays: bool,
    },
    /// A container has come, or will not.
    Launched {
        /// Whose: a session's, or the whole connection's.
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<u32>,
        /// `cold`: it was launched. `warm`: it had waited. `persistent`: launched, and it stays.
        way: &'static str,
        /// `ready`, `failed`, `timed-out`, `abandoned`.
        outcome: &'static str,
        /// How long that took.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        took: Duration,
        /// What it was spent on.
        #[serde(skip)]
        phases: Vec<Phase>,
    },
    /// A container was removed, or left to the reaper.
    Removed {
        /// Which of both.
        is_gone: bool,
        /// How long that took.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        took: Duration,
    },
    /// A program was permitted and is to start.
    SessionStarted {
        /// Which of the connection's, from 1.
        session: u32,
        /// `shell`, `exec`, `subsystem`.
        request: &'static str,
        /// The command, or the subsystem's name.
        #[serde(skip_serializing_if = "String::is_empty")]
        detail: String,
        /// Whether it has a terminal.
        terminal: bool,
    },
    /// A program has said its first word.
    FirstOutput {
        /// Whose.
        session: u32,
        /// Since it was asked for.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        after: Duration,
    },
    /// A signal was passed on to a program (RFC 4254 §6.9).
    Signaled {
        /// Whose.
        session: u32,
        /// Its name without `SIG`.
        signal: &'static str,
    },
    /// Something was done to a file over SFTP, or not.
    File {
        /// By whom.
        session: u32,
        /// What, and what came of it.
        #[serde(flatten)]
        deed: Deed,
    },
    /// What is done to files over SFTP cannot be told any more.
    FilesUnseen {
        /// By whom.
        session: u32,
        /// `no-sftp`, `version`, `too-much`.
        reason: &'static str,
    },
    /// A command that copies files is to start.
    Transfer {
        /// Which.
        session: u32,
        /// `scp`, `rsync`.
        program: &'static str,
        /// `upload`, `download`, as the client sees it.
        direction: &'static str,
        /// What the command names.
        path: String,
    },
    /// A session has ended.
    SessionEnded {
        /// Which.
        session: u32,
        /// As in [`Happening::SessionStarted`].
        request: &'static str,
        /// `exited`, `signaled`, `closed` by the client, `cut` by us, `failed`.
        outcome: &'static str,
        /// The program's exit status, signal, or why there is neither.
        exit: String,
        /// Since it was asked for.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        duration: Duration,
        /// From the client to the program, in bytes.
        received: u64,
        /// From the program to the client, in bytes.
        sent: u64,
        /// The container's id, if it ever came.
        #[serde(skip_serializing_if = "Option::is_none")]
        container: Option<String>,
    },
    /// Something was forwarded, or is listened on.
    Forwarded {
        /// `direct-tcpip`, `tcpip-forward`, `auth-agent`, …
        kind: &'static str,
        /// The address; empty for the agent and the display.
        target: String,
    },
    /// Something was not.
    ForwardRefused {
        /// As in [`Happening::Forwarded`].
        kind: &'static str,
        /// The address.
        target: String,
        /// Whether it was permitted, and failed.
        failed: bool,
        /// Why.
        reason: String,
    },
    /// Something that was forwarded has ended.
    ForwardEnded {
        /// As in [`Happening::Forwarded`].
        kind: &'static str,
        /// The address, or who called.
        target: String,
        /// From the client into the container, in bytes.
        received: u64,
        /// From the container to the client, in bytes.
        sent: u64,
    },
    /// Something was refused, or is ended, because there may be no more of it; another line tells what.
    LimitReached {
        /// `connections-of-user`, `events`, `evicted-startups`, `forwards`, `guesses`, `listeners`, `sessions`, `stdin`.
        limit: &'static str,
    },
    /// Nothing is to be listened on any more.
    ForwardCancelled {
        /// `cancel-tcpip-forward`, `cancel-streamlocal-forward`.
        kind: &'static str,
        /// The address.
        target: String,
        /// Whether it was.
        found: bool,
    },
    /// Somebody who called what is listened on, the agent or the display was put through to the client.
    CallerTaken {
        /// `forwarded-tcpip`, `forwarded-streamlocal`, `auth-agent`, `x11`.
        kind: &'static str,
        /// Who called.
        target: String,
    },
    /// What was permitted is not any more, by a reload; what lives by it ends.
    PermitWithdrawn {
        /// Why.
        reason: String,
    },
    /// A connection is to be ended by us.
    Ending {
        /// Why.
        reason: String,
    },
    /// A connection is over.
    Disconnected {
        /// `logged-in`: its user had come in. `unknown`: nobody had. `no-ssh`: the client never spoke SSH.
        stage: &'static str,
        /// What went wrong, if something did.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Since it was accepted.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        duration: Duration,
    },
}

impl Happening {
    /// Whether it is done by one message of the client's that nothing else bounds.
    pub(super) fn is_petty(&self) -> bool {
        matches!(
            self,
            Self::RequestGranted { .. }
                | Self::RequestRefused { .. }
                | Self::ForwardRefused { .. }
                | Self::ForwardCancelled { .. }
                | Self::Signaled { .. }
        )
    }

    /// A request that was granted, or refused for a reason.
    #[must_use]
    pub fn of_request(request: &'static str, detail: String, outcome: Result<(), &str>) -> Self {
        match outcome.map_err(str::to_owned) {
            Ok(()) => Self::RequestGranted { request, detail },
            Err(reason) => Self::RequestRefused { request, detail, reason },
        }
    }
}

/// A part of a launch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    /// `pull`, `wait`, `create`, `start`, `meet`.
    pub name: &'static str,
    /// When it began.
    pub begun: SystemTime,
    /// How long it took.
    pub took: Duration,
}

/// What comes of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Proof {
    /// With it all is proven.
    Accepted,
    /// It was right, and another one is needed.
    Partial,
    /// It proves nothing.
    Refused,
}

fn seconds<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    // A microsecond is as close as anybody reads it.
    to.serialize_f64((span.as_secs_f64() * 1e6).round() / 1e6)
}
