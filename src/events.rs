//! What happens to connections, told once by those to whom it happens, for whoever wants to know: the log, metrics, the
//! audit stream, the register of what lives. Those who tell know none of them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};

use crate::ids::ConnectionId;

/// Somebody who wants to know. Called in the middle of things, also in the loop that serves a whole connection: it must
/// neither wait nor fail, and what it cannot take at once it drops and counts.
pub trait Witness: Send + Sync {
    /// Hears of something.
    fn hear(&self, event: &Event<'_>);
}

/// Everybody who wants to know.
#[derive(Clone, Default)]
pub struct Events(Arc<[Arc<dyn Witness>]>);

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({})", self.0.len())
    }
}

impl Events {
    /// These hear of everything, in this order.
    #[must_use]
    pub fn new(witnesses: Vec<Arc<dyn Witness>>) -> Self {
        Self(witnesses.into())
    }

    /// A connection that was accepted.
    #[must_use]
    pub fn of_connection(&self, connection: ConnectionId, client: SocketAddr) -> Teller {
        Teller { events: self.clone(), connection, client, user: OnceLock::new(), begun: Instant::now() }
    }

    /// Tells of a client that never got a connection.
    pub fn tell_refusal(&self, client: SocketAddr, reason: &'static str) {
        let what = Happening::TurnedAway { reason };
        self.tell(&Event { at: SystemTime::now(), connection: None, client, user: None, what: &what });
    }

    fn tell(&self, event: &Event<'_>) {
        for witness in self.0.iter() {
            witness.hear(event);
        }
    }
}

/// Tells what happens to one connection.
#[derive(Debug)]
pub struct Teller {
    events: Events,
    connection: ConnectionId,
    client: SocketAddr,
    user: OnceLock<String>,
    begun: Instant,
}

impl Teller {
    /// From now on it is this user's.
    pub fn is_of(&self, user: &str) {
        self.user.get_or_init(|| user.to_owned());
    }

    /// How long the connection has lived.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Tells. Never waits.
    pub fn tell(&self, what: &Happening) {
        let user = self.user.get().map(String::as_str);
        let (at, connection) = (SystemTime::now(), Some(&self.connection));
        self.events.tell(&Event { at, connection, client: self.client, user, what });
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When.
    pub at: SystemTime,
    /// To whom; `None` before there is a connection.
    pub connection: Option<&'a ConnectionId>,
    /// Its client, also behind a proxy.
    pub client: SocketAddr,
    /// Its user, once that is proven.
    pub user: Option<&'a str>,
    /// What it was.
    pub what: &'a Happening,
}

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
        /// `profile`, `connections-of-user`.
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
        /// `connections-of-user`, `evicted-startups`, `forwards`, `guesses`, `listeners`, `sessions`, `stdin`.
        limit: &'static str,
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Witness for Notes {
        fn hear(&self, event: &Event<'_>) {
            let line = format!("{:?} {}", event.user, serde_json::to_string(event.what).unwrap());
            self.0.lock().unwrap().push(line);
        }
    }

    #[test]
    fn everybody_hears_of_everything_and_of_the_user_once_it_is_known() {
        let witnesses = [Arc::new(Notes::default()), Arc::new(Notes::default())];
        let events = Events::new(witnesses.iter().map(|it| Arc::clone(it) as Arc<dyn Witness>).collect());
        let teller = events.of_connection(ConnectionId::random(), "192.0.2.1:5".parse().unwrap());

        teller.tell(&Happening::Greeted { version: "SSH-2.0-x".to_owned(), after: Duration::from_millis(5) });
        teller.is_of("alice");
        teller.tell(&Happening::Ending { reason: "enough".to_owned() });

        for witness in witnesses {
            let notes = witness.0.lock().unwrap().clone();
            let expected = [
                r#"None {"event":"greeted","version":"SSH-2.0-x","seconds":0.005}"#,
                r#"Some("alice") {"event":"ending","reason":"enough"}"#,
            ];
            assert_eq!(notes, expected);
        }
    }
}
