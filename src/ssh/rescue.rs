//! Any error → what the client is told. The one such place.

use bytes::Bytes;
use russh::ChannelOpenFailure;

use super::curfew::Notice;
use crate::engine::ForwardError;
use crate::forward::Failure;
use crate::ids::ConnectionId;
use crate::session::SessionError;

/// Longest reason that a client is shown, in characters.
const REASON_CHARS_MAX: usize = 400;

/// Exit status for whatever is not the program's own doing, as OpenSSH's client uses it.
pub(super) const EXIT_STATUS_OURS: u32 = 255;

/// Why nothing is forwarded where each session has a container of its own.
pub(super) const NO_CONTAINER_OF_CONNECTION: &str =
    "each session has a container of its own, and the connection none";

/// Codes of RFC 4254 §5.1, for reasons in our words.
const OPEN_CONNECT_FAILED: u32 = 2;
const OPEN_RESOURCE_SHORTAGE: u32 = 4;

/// Why a channel for a forward is not opened. What a policy does not permit is not told any closer.
pub(super) fn no_socket(failure: &Failure) -> ChannelOpenFailure {
    let told = |code| ChannelOpenFailure::Other { code, reason: readable(&failure.to_string()) };
    match failure {
        Failure::Socket(ForwardError::Forbidden(_)) => ChannelOpenFailure::AdministrativelyProhibited,
        Failure::Socket(ForwardError::Exhausted(_)) => told(OPEN_RESOURCE_SHORTAGE),
        Failure::Socket(ForwardError::Unreachable(_) | ForwardError::Engine(_))
        | Failure::Launch(_)
        | Failure::Lost(_)
        | Failure::TooEarly
        | Failure::TimedOut(_)
        | Failure::Over => told(OPEN_CONNECT_FAILED),
    }
}

/// The line for the person at the terminal; `None` where nobody is there to read it.
pub(super) fn line(error: &SessionError, connection: &ConnectionId, has_terminal: bool) -> Option<Bytes> {
    let reason = match error {
        SessionError::Closed => return None,
        SessionError::Launch(_)
        | SessionError::Engine(_)
        | SessionError::Stream(_)
        | SessionError::Overflow
        | SessionError::Fault
        | SessionError::Cut(_) => readable(&error.to_string()),
    };
    // A terminal in raw mode needs the carriage return; a file is better off without.
    let (start, end) = if has_terminal { ("\r\x1b[K", "\r\n") } else { ("", "\n") };
    Some(Bytes::from(format!("{start}coracle: {reason} (connection {connection}){end}")))
}

/// A line for the person at the terminal before something happens.
pub(super) fn notice(notice: &Notice) -> Bytes {
    Bytes::from(format!("\r\n\x07coracle: {notice}\r\n"))
}

/// One line without control characters: the engine's words may hold what an image or a registry put there.
pub(super) fn readable(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|letter: char| letter.is_control() || letter == ' ').filter(|w| !w.is_empty()).collect();
    let mut line = words.join(" ");
    if let Some((end, _)) = line.char_indices().nth(REASON_CHARS_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineError;

    fn refused(reason: &str) -> SessionError {
        let action = "create the container";
        SessionError::Engine(EngineError::Refused { action, status: 400, reason: reason.to_owned() })
    }

    /// I7
    #[test]
    fn the_client_reads_one_line_with_the_reason_and_its_connection() {
        let connection = ConnectionId::random();

        let line = line(&refused("invalid mount config"), &connection, false).unwrap();

        let expected = format!(
            "coracle: the container engine refused to create the container: invalid mount config (connection {connection})\n"
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn what_an_engine_says_cannot_move_the_cursor_or_flood_the_screen() {
        let hostile = format!("a\x1b[2J\r\nb{}", "x".repeat(10_000));

        let line = line(&refused(&hostile), &ConnectionId::random(), false).unwrap();

        let line = std::str::from_utf8(&line).unwrap();
        assert!(line.trim_end().chars().all(|letter| !letter.is_control()), "{line:?}");
        assert!(line.chars().count() < REASON_CHARS_MAX + 60);
    }

    #[test]
    fn a_client_that_has_gone_is_told_nothing() {
        assert_eq!(line(&SessionError::Closed, &ConnectionId::random(), true), None);
    }
}
