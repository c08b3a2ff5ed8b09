//! What lives, as a table for people.

use std::time::Duration;

use crate::control::client::shown;
use crate::control::protocol::{Connection, Container, Living, Session};

/// Longest user name in the table, in characters; what is longer is cut.
const USER_CHARS_MAX: usize = 20;

/// Longest command in the table, in characters: with what stands in front of it a line has 80.
const DETAIL_CHARS_MAX: usize = 44;

/// Letters of a container's id, as the engine's own tools show it.
const CONTAINER_CHARS: usize = 12;

const HEADINGS: [&str; 5] = ["CONNECTION", "USER", "CLIENT", "AGE", "CONTAINER"];

/// A line for each connection, and below it one for each of its sessions.
pub(super) fn table(living: &Living) -> String {
    if living.connections.is_empty() {
        return "no connections\n".to_owned();
    }
    let rows: Vec<_> = living.connections.iter().map(row).collect();
    let mut widths = HEADINGS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = line(&HEADINGS.map(str::to_owned), &widths);
    for (row, connection) in rows.iter().zip(&living.connections) {
        table += &line(row, &widths);
        for session in &connection.sessions {
            table += &session_line(session);
        }
        if connection.forwards > 0 {
            let plural = if connection.forwards == 1 { "" } else { "s" };
            let forwards = format!("     {} open forward{plural}\n", connection.forwards);
            table += &forwards;
        }
    }
    table
}

fn row(connection: &Connection) -> [String; 5] {
    let user = match &connection.user {
        Some(user) => cut(&shown(user), USER_CHARS_MAX),
        // Nobody can have such a name.
        None => "(not yet)".to_owned(),
    };
    let container = match connection.stage.as_str() {
        "ending" => "(ending)".to_owned(),
        _ => connection.container.as_ref().map_or_else(|| "-".to_owned(), name),
    };
    [shown(&connection.id), user, shown(&connection.client), age(connection.seconds), container]
}

fn line(cells: &[String; 5], widths: &[usize; 5]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
}

fn session_line(session: &Session) -> String {
    let Session { number, request, detail, terminal, seconds, container } = session;
    let what = match (request.as_str(), terminal) {
        ("shell", true) => "shell".to_owned(),
        ("shell", false) => "shell without a terminal".to_owned(),
        (request, true) => format!("{request} at a terminal"),
        (request, false) => request.to_owned(),
    };
    let detail = cut(&shown(detail), DETAIL_CHARS_MAX);
    let container = container.as_ref().map_or_else(String::new, |own| format!("  {}", name(own)));
    let line = format!("  {number:>2} {:>5}  {} {detail}{container}", age(*seconds), shown(&what));
    line.trim_end().to_owned() + "\n"
}

fn name(container: &Container) -> String {
    match &container.id {
        Some(id) => shown(id).chars().take(CONTAINER_CHARS).collect(),
        None => format!("({})", shown(&container.state)),
    }
}

/// The two largest units at most: `45s`, `12m`, `3h05m`, `8d`.
fn age(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (whole / 86_400, whole / 3600, whole / 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, minutes) => format!("{hours}h{:02}m", minutes % 60),
        (days, ..) => format!("{days}d"),
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::Server;

    fn living() -> Living {
        let session = |number, request: &str, detail: &str, terminal| Session {
            number,
            request: request.to_owned(),
            detail: detail.to_owned(),
            terminal,
            seconds: 3.0,
            container: None,
        };
        let alice = Connection {
            id: "9f3kq2m8x1c0".to_owned(),
            client: "203.0.113.9:51514".to_owned(),
            stage: "logged-in".to_owned(),
            user: Some("alice".to_owned()),
            methods: Some("publicKey".to_owned()),
            profile: Some(String::new()),
            version: Some("SSH-2.0-x".to_owned()),
            since: "2026-01-01T00:00:00.000Z".to_owned(),
            seconds: 7500.0,
            container: Some(Container {
                id: Some("0a1b2c3d4e5f6789".to_owned()),
                state: "running".to_owned(),
            }),
            sessions: vec![
                session(1, "shell", "", true),
                session(2, "exec", &format!("a\u{1b}[2J\n{}", "x".repeat(100)), false),
            ],
            forwards: 2,
        };
        let nobody = Connection {
            id: "aaaaaaaaaaaa".to_owned(),
            client: "[2001:db8::1]:40000".to_owned(),
            stage: "connected".to_owned(),
            user: None,
            seconds: 2.0,
            container: None,
            sessions: Vec::new(),
            forwards: 0,
            ..alice.clone()
        };
        let server = Server {
            version: "1".to_owned(),
            instance: "i".to_owned(),
            pid: 1,
            seconds: 1.0,
            draining: false,
        };
        Living { server, connections: vec![alice, nobody] }
    }

    #[test]
    fn a_table_has_a_line_for_each_connection_and_its_sessions_below() {
        let table = table(&living());

        let expected = format!(
            "CONNECTION    USER       CLIENT               AGE    CONTAINER\n\
             9f3kq2m8x1c0  alice      203.0.113.9:51514    2h05m  0a1b2c3d4e5f\n   \
             1    3s  shell\n   \
             2    3s  exec a\\u{{1b}}[2J\\n{}…\n     \
             2 open forwards\n\
             aaaaaaaaaaaa  (not yet)  [2001:db8::1]:40000  2s     -\n",
            "x".repeat(31),
        );
        assert_eq!(table, expected);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }

    #[test]
    fn nobody_there_is_said_in_words() {
        assert_eq!(table(&Living { connections: Vec::new(), ..living() }), "no connections\n");
    }
}
