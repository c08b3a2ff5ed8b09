//! The log: one line per event.

mod datagram;
mod file;
mod journal;
mod journald;
mod lines;
mod queue;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::value::Section;

use datagram::Datagrams;
use file::LogFile;
pub use journal::Journal;
use journald::Journald;
use lines::{Lines, Way};
use queue::Queue;

/// How long the end of the process waits for lines that are not written yet. What does not get out by then is lost.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Where journald listens.
const JOURNALD_SOCKET: &str = "/run/systemd/journal/socket";

/// Of this process, once logging has started and lines have to wait for a file or a socket.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The section `log` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Log")]
pub struct Config {
    /// The least serious events that are logged.
    pub level: Level,
    /// How they are written.
    pub format: Format,
    /// Where they go.
    pub to: To,
    /// With `to: syslog`.
    pub syslog: Syslog,
}

/// Where the log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "LogTo")]
pub enum To {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
    /// systemd's journal, with a field for each field of an event.
    Journald,
    /// The system's log.
    Syslog,
    /// A file, which SIGHUP opens again.
    File(PathBuf),
}

/// How the system's log is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Syslog {
    /// The socket that it listens on.
    pub socket: PathBuf,
    /// What we are to it.
    pub facility: Facility,
}

impl Default for Syslog {
    fn default() -> Self {
        Self { socket: PathBuf::from("/dev/log"), facility: Facility::default() }
    }
}

/// A facility of syslog (RFC 5424 §6.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the usual names")]
pub enum Facility {
    User = 1,
    #[default]
    Daemon = 3,
    Auth = 4,
    Authpriv = 10,
    Local0 = 16,
    Local1,
    Local2,
    Local3,
    Local4,
    Local5,
    Local6,
    Local7,
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

impl Config {
    pub(crate) fn resolve(&mut self, folder: &Path) {
        if let To::File(path) = &mut self.to {
            *path = folder.join(&path);
        }
        self.syslog.socket = folder.join(&self.syslog.socket);
    }
}

/// A log that was started. When it is dropped, what waits is written.
#[derive(Debug)]
#[must_use = "lines that wait are lost without it"]
pub struct Logging(());

impl Drop for Logging {
    fn drop(&mut self) {
        if let Some(queue) = QUEUE.get() {
            queue.flush(FLUSH_TIMEOUT);
        }
    }
}

/// Starts logging. To be called once.
///
/// # Errors
/// Logging was started before, or its file cannot be opened.
pub fn init(config: &Config) -> anyhow::Result<Logging> {
    let registry = tracing_subscriber::registry();
    registry.with(layer(config)?.with_filter(targets(config.level))).try_init()?;
    Ok(Logging(()))
}

/// Opens the log's file again, after it was renamed. Lines that were logged before go to the one that was open.
pub fn reopen() {
    if let Some(queue) = QUEUE.get() {
        queue.reopen();
    }
}

/// Lines that could not be written, since the start.
#[must_use]
pub fn lines_lost() -> u64 {
    QUEUE.get().map_or(0, Queue::lost)
}

fn layer<S>(config: &Config) -> anyhow::Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let way = match &config.to {
        To::Stderr => Way::Stderr,
        To::Stdout => Way::Stdout,
        To::File(path) => {
            let file = LogFile::open(path);
            let file = file.with_context(|| format!("failed to open the log `{}`", path.display()))?;
            Way::File(kept(Queue::start(Box::new(file), lines::gap(config.format))?))
        }
        To::Syslog => {
            let gap = datagram::gap(config.syslog.facility);
            let queue = Queue::start(Box::new(Datagrams::to(&config.syslog.socket)), gap)?;
            Way::Syslog(kept(queue), config.syslog.facility)
        }
        To::Journald => {
            let queue =
                Queue::start(Box::new(Datagrams::to(Path::new(JOURNALD_SOCKET))), Box::new(journald::gap))?;
            return Ok(Journald::new(kept(queue)).boxed());
        }
    };
    let is_terminal = match way {
        Way::Stderr => io::stderr().is_terminal(),
        Way::Stdout => io::stdout().is_terminal(),
        Way::File(_) | Way::Syslog(..) => false,
    };
    // syslog writes the time itself.
    let has_time = !matches!(way, Way::Syslog(..));
    let layer = tracing_subscriber::fmt::layer().with_writer(Lines {
        way,
        format: config.format,
        painted: is_terminal,
    });
    Ok(match (config.format, has_time) {
        (Format::Text, true) => layer.with_ansi(is_terminal).boxed(),
        (Format::Text, false) => layer.with_ansi(false).without_time().boxed(),
        (Format::Json, _) => layer.json().flatten_event(true).boxed(),
    })
}

/// One per process: the first stays.
fn kept(queue: Queue) -> Queue {
    QUEUE.get_or_init(|| queue).clone()
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
