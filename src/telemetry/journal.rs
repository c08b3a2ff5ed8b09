//! What happens to connections, as lines of the log. What a client or a container put in is written as a string literal, so
//! that it can neither begin a line nor hide the rest of one.

use crate::events::{Event, Happening, Proof, Witness};

/// Writes the log's lines about connections.
#[derive(Clone, Copy, Debug)]
pub struct Journal;

impl Witness for Journal {
    fn hear(&self, event: &Event<'_>) {
        match event.what {
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
            match *stage {
                "logged-in" => tracing::info!(connection, %client, user, error, seconds, "disconnected"),
                "unknown" => tracing::info!(connection, %client, seconds, "left without a login"),
                _ => tracing::info!(connection, %client, seconds, "no SSH client"),
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
            tracing::debug!(connection, user, request, ?detail, reason, "request refused");
        }
        Happening::RequestRefused { request, detail, reason } => {
            tracing::info!(connection, user, request, ?detail, reason, "request refused");
        }
        _ => {}
    }
}

fn of_forward(event: &Event<'_>) {
    let (user, connection) =
        (event.user.map(tracing::field::debug), event.connection.map(tracing::field::display));
    match event.what {
        Happening::Forwarded { kind, target } => tracing::info!(connection, user, kind, ?target, "forward"),
        Happening::ForwardRefused { kind, target, failed: true, reason } => {
            tracing::info!(connection, user, kind, ?target, reason, "forward failed");
        }
        Happening::ForwardRefused { kind, target, reason, .. } => {
            tracing::info!(connection, user, kind, ?target, reason, "forward refused");
        }
        Happening::ForwardEnded { kind, target, received, sent } => {
            tracing::debug!(connection, user, kind, ?target, received, sent, "forward ended");
        }
        _ => {}
    }
}
