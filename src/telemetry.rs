//! The log: one line per event on standard error.

mod journal;

use std::io::{self, IsTerminal};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::value::Section;

pub use journal::Journal;

/// The section `log` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Log")]
pub struct Config {
    /// The least serious events that are logged.
    pub level: Level,
    /// How they are written.
    pub format: Format,
}

/// How serious an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the usual names")]
pub enum Level {
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object per line.
    Json,
}

impl Section for Config {}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Off => Self::OFF,
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// Starts logging. To be called once.
///
/// # Errors
/// Logging was started before.
pub fn init(config: &Config) -> Result<(), TryInitError> {
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = match config.format {
        Format::Text => layer.with_ansi(io::stderr().is_terminal()).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets(config.level))).try_init()
}

/// What may be logged by whom.
fn targets(level: Level) -> Targets {
    let level = LevelFilter::from(level);
    // bollard logs request bodies, secrets and all, at debug; the others are HTTP and TLS chatter.
    let quiet = ["bollard", "hyper", "h2", "reqwest", "rustls", "tower"]
        .map(|target| (target, level.min(LevelFilter::WARN)));
    // Peers can make russh log errors at will, before they have logged in.
    Targets::new().with_default(level).with_targets(quiet).with_target("russh", LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use tracing::Level as Severity;

    use super::*;

    #[test]
    fn libraries_that_leak_or_can_be_flooded_are_capped_at_any_level() {
        let trace = targets(Level::Trace);
        assert!(trace.would_enable("coracle::session", &Severity::TRACE));
        assert!(trace.would_enable("bollard::docker", &Severity::WARN));
        assert!(!trace.would_enable("bollard::docker", &Severity::INFO));
        assert!(!trace.would_enable("hyper_util::client", &Severity::DEBUG));
        assert!(!trace.would_enable("russh::server", &Severity::ERROR));

        assert!(!targets(Level::Error).would_enable("bollard::docker", &Severity::WARN));
    }
}
