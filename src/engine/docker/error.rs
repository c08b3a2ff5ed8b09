//! bollard's errors in our words.

use std::error::Error as _;
use std::fmt;
use std::io;

use bollard::errors::Error;

use crate::engine::EngineError;

/// Longest quote of the engine that we pass on, in characters; some of its errors quote whole requests.
const QUOTE_CHARACTERS_MAX: usize = 400;

/// No connection to the engine came about, so that no request can have had an effect.
#[derive(Debug)]
pub(super) struct ConnectFailed(pub(super) String);

impl fmt::Display for ConnectFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConnectFailed {}

impl From<ConnectFailed> for Error {
    fn from(failed: ConnectFailed) -> Self {
        io::Error::new(io::ErrorKind::NotConnected, failed).into()
    }
}

/// What a failed call means.
pub(super) fn translate(endpoint: &str, action: &'static str, error: &Error) -> EngineError {
    match error {
        Error::DockerResponseServerError { status_code, message } => answered(action, *status_code, message),
        Error::DockerStreamError { error } => {
            EngineError::Failed { action, reason: quote(error), is_answer: true }
        }
        Error::IOError { err }
            if err.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<ConnectFailed>) =>
        {
            EngineError::Unreachable { endpoint: endpoint.to_owned(), reason: quote(&err.to_string()) }
        }
        other => EngineError::Failed { action, reason: quote(&with_sources(other)), is_answer: false },
    }
}

/// What an answer other than success means.
pub(super) fn answered(action: &'static str, status: u16, message: &str) -> EngineError {
    let reason = match quote(message) {
        empty if empty.is_empty() => format!("HTTP status {status} without a reason"),
        reason => reason,
    };
    match status {
        400..500 => EngineError::Refused { action, status, reason },
        _ => EngineError::Failed { action, reason, is_answer: true },
    }
}

/// A refusal that speaks of a container which does not run any more, told as that.
pub(super) fn gone_if_not_running(error: EngineError) -> EngineError {
    match error {
        EngineError::Refused { status: 404 | 409, reason, .. } => EngineError::Gone { reason },
        // Podman and newer engines report a container in the wrong state as a failure of theirs.
        EngineError::Failed { reason, .. } if reason.contains("is not running") => {
            EngineError::Gone { reason }
        }
        other => other,
    }
}

/// Whether a refused create means that the image has to be fetched first.
pub(super) fn image_is_missing(error: &EngineError) -> bool {
    let EngineError::Refused { status: 404, reason, .. } = error else { return false };
    let reason = reason.to_lowercase();
    ["no such image", "image not known", "does not match the specified platform"]
        .iter()
        .any(|words| reason.contains(words))
}

/// The engine's words, on one line and not too long.
pub(super) fn quote(words: &str) -> String {
    let line = words
        .split(|letter: char| letter.is_whitespace() || letter.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    match line.char_indices().nth(QUOTE_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or(&line)),
        None => line,
    }
}

fn with_sources(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_stay_on_one_line_and_short() {
        assert_eq!(quote("a\r\nb\u{1b}[2J  c\n"), "a b [2J c");
        assert_eq!(quote(&"ä".repeat(1000)).chars().count(), QUOTE_CHARACTERS_MAX + 1);
    }

    #[test]
    fn only_a_failed_connect_counts_as_unreachable() {
        let failed: Error = ConnectFailed("no such file".to_owned()).into();
        let cut: Error = io::Error::from(io::ErrorKind::NotConnected).into();

        assert!(matches!(translate("unix:///x", "look", &failed), EngineError::Unreachable { .. }));
        assert!(matches!(translate("unix:///x", "look", &cut), EngineError::Failed { .. }));
    }

    /// I7
    #[test]
    fn a_4xx_is_a_refusal_and_a_5xx_a_failure() {
        assert!(matches!(answered("x", 409, "taken"), EngineError::Refused { status: 409, .. }));
        assert!(
            matches!(answered("x", 500, ""), EngineError::Failed { reason, .. } if reason.contains("500"))
        );
        assert!(image_is_missing(&answered("x", 404, "No such image: foo:latest")));
        assert!(!image_is_missing(&answered("x", 404, "No such container: foo")));
    }
}
