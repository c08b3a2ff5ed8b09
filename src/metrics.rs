//! Numbers about the server, for Prometheus. Whoever has something to count gets a small struct to count with.
//!
//! Labels have values of closed sets, by their type: nobody can make one of what a client or a container has said.

mod connections;
mod containers;
mod engine;
mod forwards;
mod kit;
mod process;
mod recording;
mod server;
mod sessions;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events::{Event, Witness};
use crate::value::Section;

use connections::Connections;
pub use containers::{Containers, Launch, Outcome, Reaper, Tally, Way};
pub use engine::{Call, EngineCalls};
use forwards::Forwards;
pub use recording::{Audit, Recorder};
pub use server::Server;
use sessions::Sessions;

/// The section `metrics` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Metrics")]
pub struct Config {
    /// Address and port of `/metrics`, `/livez` and `/readyz`, over plain HTTP and for whoever can connect; port 0 lets
    /// the system choose one. Not set: there are none.
    pub listen: Option<SocketAddr>,
}

impl Section for Config {}

impl Config {
    /// What is hardly meant.
    pub(crate) fn warning(&self) -> Option<String> {
        let exposed = self.listen.filter(|address| !address.ip().is_loopback())?;
        Some(format!(
            "`metrics.listen` is `{exposed}`: whoever can connect there reads how busy this server is"
        ))
    }
}

/// What `/metrics` has.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: Connections,
    sessions: Sessions,
    forwards: Forwards,
    /// For those who bring containers up and remove them.
    pub containers: Containers,
    /// For whoever removes what others could not.
    pub reaper: Reaper,
    /// For whoever talks to the engine.
    pub engine: EngineCalls,
    /// For whoever records sessions.
    pub recorder: Recorder,
    /// For whoever keeps the audit stream.
    pub audit: Audit,
    /// For whoever runs the whole.
    pub server: Server,
    sources: Sources,
}

/// Brings numbers up to date that are counted elsewhere.
type Source = Box<dyn Fn(&Metrics) + Send + Sync>;

#[derive(Default)]
struct Sources(Mutex<Vec<Source>>);

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("coracle");
        let registry_ref = &mut registry;
        Self {
            connections: Connections::register(registry_ref),
            sessions: Sessions::register(registry_ref),
            forwards: Forwards::register(registry_ref),
            containers: Containers::register(registry_ref),
            reaper: Reaper::register(registry_ref),
            engine: EngineCalls::register(registry_ref),
            recorder: Recorder::register(registry_ref),
            audit: Audit::register(registry_ref),
            server: Server::register(registry_ref),
            sources: Sources::default(),
            registry,
        }
    }
}

impl Metrics {
    /// The media type of [`Metrics::text`].
    pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Calls this each time before the numbers are told, to bring up to date what is counted elsewhere. It must not wait.
    pub fn bring_up_to_date_by(&self, source: impl Fn(&Self) + Send + Sync + 'static) {
        self.sources.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(source));
    }

    /// Everything, as it is now, in the text format of `OpenMetrics` 1.0.
    #[must_use]
    pub fn text(&self) -> String {
        for source in self.sources.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            source(self);
        }
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            // A string takes whatever is written to it.
            tracing::error!(%error, "the metrics cannot be written");
        }
        text
    }
}

impl Witness for Metrics {
    fn hear(&self, event: &Event<'_>) {
        self.connections.hear(event.what);
        self.sessions.hear(event.what);
        self.forwards.hear(event.what);
    }
}

#[cfg(test)]
mod tests;
