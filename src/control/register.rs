//! What is known of the connections that live: hears of events and remembers what is not over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::protocol;
use crate::events::{Event, Happening, Witness};
use crate::ids::ConnectionId;
use crate::session::Registry;
use crate::session::registry::ContainerOf;

/// Longest command that is kept, in characters; past it it is cut. There may be ten for each of thousands of connections.
const DETAIL_CHARS_MAX: usize = 200;

/// What is known of the connections that live.
#[derive(Debug, Default)]
pub struct Register(Mutex<BTreeMap<ConnectionId, Known>>);

#[derive(Debug)]
struct Known {
    client: SocketAddr,
    since: SystemTime,
    stage: &'static str,
    user: Option<String>,
    methods: Option<String>,
    profile: Option<String>,
    version: Option<String>,
    sessions: BTreeMap<u32, Program>,
    forwards: u64,
}

#[derive(Debug)]
struct Program {
    request: &'static str,
    detail: String,
    terminal: bool,
    since: SystemTime,
}

impl Witness for Register {
    fn hear(&self, event: &Event<'_>) {
        let Some(id) = event.connection else { return };
        let mut known = self.known();
        match event.what {
            Happening::Connected { .. } => drop(known.insert(id.clone(), Known::of(event))),
            Happening::Disconnected { .. } => drop(known.remove(id)),
            _ => {
                if let Some(connection) = known.get_mut(id) {
                    connection.hear(event);
                }
            }
        }
    }
}

impl Register {
    /// Those of a user.
    #[must_use]
    pub fn of_user(&self, user: &str) -> Vec<ConnectionId> {
        let known = self.known();
        let of_user = known.iter().filter(|(_, connection)| connection.user.as_deref() == Some(user));
        of_user.map(|(id, _)| id.clone()).collect()
    }

    /// What lives, oldest first.
    #[must_use]
    pub fn connections(&self, registry: &Registry) -> Vec<protocol::Connection> {
        let now = SystemTime::now();
        let known = self.known();
        let mut connections: Vec<_> = known.iter().collect();
        connections.sort_by_key(|(_, connection)| connection.since);
        connections.into_iter().map(|(id, it)| it.show(id, &registry.containers(id), now)).collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn of(event: &Event<'_>) -> Self {
        Self {
            client: event.client,
            since: event.at,
            stage: "connected",
            user: None,
            methods: None,
            profile: None,
            version: None,
            sessions: BTreeMap::new(),
            forwards: 0,
        }
    }

    fn hear(&mut self, event: &Event<'_>) {
        match event.what {
            Happening::Greeted { version, .. } => {
                self.stage = "greeted";
                self.version = Some(cut(version));
            }
            Happening::LoggedIn { methods, profile, .. } => {
                self.stage = "logged-in";
                self.user = event.user.map(str::to_owned);
                self.methods = Some(methods.clone());
                self.profile = Some(profile.clone());
            }
            Happening::SessionStarted { session, request, detail, terminal } => {
                let (detail, since) = (cut(detail), event.at);
                self.sessions.insert(*session, Program { request, detail, terminal: *terminal, since });
            }
            Happening::SessionEnded { session, .. } => drop(self.sessions.remove(session)),
            Happening::Forwarded { kind, .. } if is_dial(kind) => self.forwards += 1,
            Happening::ForwardEnded { kind, .. } if is_dial(kind) => {
                self.forwards = self.forwards.saturating_sub(1);
            }
            Happening::Ending { .. } => self.stage = "ending",
            _ => {}
        }
    }

    fn show(&self, id: &ConnectionId, containers: &[ContainerOf], now: SystemTime) -> protocol::Connection {
        let container = |session| containers.iter().find(|it| it.session == session).map(show);
        protocol::Connection {
            id: id.to_string(),
            client: self.client.to_string(),
            stage: self.stage.to_owned(),
            user: self.user.clone(),
            methods: self.methods.clone(),
            profile: self.profile.clone(),
            version: self.version.clone(),
            since: humantime::format_rfc3339_millis(self.since).to_string(),
            seconds: seconds(self.since, now),
            container: container(None),
            sessions: self
                .sessions
                .iter()
                .map(|(number, it)| it.show(*number, container(Some(*number)), now))
                .collect(),
            forwards: self.forwards,
        }
    }
}

impl Program {
    fn show(
        &self,
        number: u32,
        container: Option<protocol::Container>,
        now: SystemTime,
    ) -> protocol::Session {
        protocol::Session {
            number,
            request: self.request.to_owned(),
            detail: self.detail.clone(),
            terminal: self.terminal,
            seconds: seconds(self.since, now),
            container,
        }
    }
}

fn show(container: &ContainerOf) -> protocol::Container {
    protocol::Container { id: container.id.clone(), state: container.state.to_owned() }
}

/// Whether it is a channel that the client opened, of which both ends are told.
fn is_dial(kind: &str) -> bool {
    kind.starts_with("direct-")
}

/// To the millisecond.
fn seconds(since: SystemTime, now: SystemTime) -> f64 {
    let passed = now.duration_since(since).unwrap_or(Duration::ZERO);
    (passed.as_secs_f64() * 1e3).round() / 1e3
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
