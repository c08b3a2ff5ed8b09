//! What happens to connections, as lines of the log. What a client or a container put in is written as a string literal, so
//! that it can neither begin a line nor hide the rest of one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::events::{Event, Happening, Proof, Witness};
use crate::ids::ConnectionId;

/// Longest text of others in a line, in bytes; past it it is cut. A command may have a quarter of a megabyte.
const TEXT_BYTES_MAX: usize = 4096;

/// Writes the log's lines about connections.
#[derive(Debug, Default)]
pub struct Journal {
    /// What was tried on connections that have not logged in; there are as many as the gate lets in.
    tried: Mutex<HashMap<ConnectionId, Tried>>,
}

/// What somebody tried in vain.
#[derive(Debug)]
struct Tried {
    /// The last name, fit to be shown.
    name: String,
    method: &'static str,
    proofs: u32,
}

impl Journal {
    /// Keys that are refused have no line each, since agents offer all they have: what was tried is told at the end.
    fn remember(&self, event: &Event<'_>) -> Option<Tried> {
        let id = event.connection?;
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        match event.what {
            Happening::Proven { name, method, outcome: Proof::Refused, .. } => {
                // A check may come to its end after its connection has.
                if let Some(before) = tried.get_mut(id) {
                    *before = Tried { name: name.clone(), method, proofs: before.proofs + 1 };
                }
                None
            }
            Happening::Connected { .. } => {
                tried.insert(id.clone(), Tried { name: String::new(), method: "", proofs: 0 });
                None
            }
            Happening::LoggedIn { .. } | Happening::Disconnected { .. } => {
                tried.remove(id).filter(|tried| tried.proofs > 0)
            }
            _ => None,
        }
    }
}

impl Witness for Journal {
    fn hear(&self, event: &Event<'_>) {
        let tried = self.remember(event);
        match event.what {
            Happening::Disconnected { stage: "unknown", duration, .. } => {
                let (connection, client) = (event.connection.map(tracing::field::display), event.client);
                let (user, last) = tried.as_ref().map(|tried| (tried.name.as_str(), tried.method)).unzip();
                let (refused, seconds) = (tried.as_ref().map(|tried| tried.proofs), duration.as_secs_f64());
                tracing::info!(connection, %client, user, refused, last, seconds, "left without a login");
            }
            Happening::SessionStarted { .. }
            | Happening::SessionEnded { .. }
            | Happening::FirstOutput { .. }
            | Happening::Signaled { .. }
            | Happening::RequestRefused { .. } => of_session(event),
            Happening::Forwarded { .. }
            | Happening::ForwardRefused { .. }
            | Happening::ForwardEnded { .. } => of_forward(event),
            // The gate writes these itself, not all of a flood of them.
            Happening::TurnedAway { .. } => {}
            _ => of_connection(event),
        }
    }
}

fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default()
}

fn of_connection(event: &Event<'_>) {
    let (client, user) = (event.client, event.user.map(tracing::field::debug));
    let connection = event.connection.map(tracing::field::display);
    match event.what {
        Happening::Connected { server } => tracing::info!(connection, %client, %server, "connected"),
        Happening::Greeted { version, .. } => tracing::debug!(connection, %client, ?version, "speaks SSH"),
        Happening::Proven { name, method, key, outcome, .. } => {
            let key = key.as_deref();
            match (outcome, *method) {
                (Proof::Refused, "password" | "totp" | "certificate") => {
                    tracing::info!(connection, %client, user = name, method, key, "a wrong guess");
                }
                // An agent offers all the keys it has, and most clients begin with nothing.
                (Proof::Refused, _) => {
                    tracing::debug!(connection, %client, user = name, method, key, "proves nothing");
                }
                (Proof::Accepted | Proof::Partial, _) => {
                    tracing::debug!(connection, %client, user = name, method, key, ?outcome, "a proof counts");
                }
            }
        }
        Happening::LoggedIn { methods, key, profile, version, .. } => {
            let key = key.as_deref();
            tracing::info!(connection, %client, user, methods, key, profile, ?version, "logged in");
        }
        Happening::LoginRefused { detail, .. } => {
            tracing::info!(connection, %client, user, "refused: {detail}");
        }
        Happening::PermitWithdrawn { reason } => {
            tracing::info!(connection, %client, user, reason, "a permit is withdrawn");
        }
        Happening::Ending { reason } => {
            tracing::info!(connection, %client, user, reason, "ending the connection");
        }
        Happening::Disconnected { stage, error, duration } => {
            let (error, seconds) = (error.as_deref(), duration.as_secs_f64());
            if *stage == "logged-in" {
                tracing::info!(connection, %client, user, error, seconds, "disconnected");
            } else {
                tracing::info!(connection, %client, seconds, "no SSH client");
            }
        }
        _ => {}
    }
}

fn of_session(event: &Event<'_>) {
    let (user, connection) =
        (event.user.map(tracing::field::debug), event.connection.map(tracing::field::display));
    match event.what {
        Happening::SessionStarted { session, request, detail, terminal } => {
            let detail = short(detail);
            tracing::info!(connection, user, session, request, ?detail, terminal, "session started");
        }
        Happening::FirstOutput { session, after } => {
            tracing::debug!(connection, session, seconds = after.as_secs_f64(), "first output");
        }
        Happening::Signaled { session, signal } => tracing::debug!(connection, session, signal, "signal"),
        Happening::SessionEnded { session, outcome, exit, duration, received, sent, container, .. } => {
            let (seconds, container) = (duration.as_secs_f64(), container.as_deref());
            tracing::info!(
                connection,
                user,
                session,
                outcome,
                exit,
                seconds,
                received,
                sent,
                container,
                "session ended"
            );
        }
        // Clients ask for variables as a matter of habit.
        Happening::RequestRefused { request: request @ "env", detail, reason } => {
            let (detail, reason) = (short(detail), short(reason));
            tracing::debug!(connection, user, request, ?detail, reason, "request refused");
        }
        Happening::RequestRefused { request, detail, reason } => {
            let (detail, reason) = (short(detail), short(reason));
            tracing::info!(connection, user, request, ?detail, reason, "request refused");
        }
        _ => {}
    }
}

fn of_forward(event: &Event<'_>) {
    let (user, connection) =
        (event.user.map(tracing::field::debug), event.connection.map(tracing::field::display));
    match event.what {
        Happening::Forwarded { kind, target } => {
            tracing::info!(connection, user, kind, target = ?short(target), "forward");
        }
        Happening::ForwardRefused { kind, target, failed: true, reason } => {
            let (target, reason) = (short(target), short(reason));
            tracing::info!(connection, user, kind, ?target, reason, "forward failed");
        }
        Happening::ForwardRefused { kind, target, reason, .. } => {
            let (target, reason) = (short(target), short(reason));
            tracing::info!(connection, user, kind, ?target, reason, "forward refused");
        }
        Happening::ForwardEnded { kind, target, received, sent } => {
            let target = short(target);
            tracing::debug!(connection, user, kind, ?target, received, sent, "forward ended");
        }
        _ => {}
    }
}
