//! What becomes of a connection's containers, for whoever wants to know.

use std::time::Duration;

use super::Pool;
use crate::engine::{
    ContainerSpec, LABEL_CLIENT, LABEL_CONNECTION, LABEL_MODE, LABEL_SESSION, LABEL_USERNAME, Phases,
};
use crate::events::{Events, Happening};
use crate::ids::ConnectionId;
use crate::metrics::Outcome;

impl Pool {
    /// The same pool, which tells what becomes of containers that somebody waits for.
    #[must_use]
    pub fn telling(self, events: Events) -> Self {
        Self { events, ..self }
    }

    /// A container was launched for somebody, or not.
    pub(super) fn tell_launch(
        &self,
        spec: &ContainerSpec,
        outcome: Outcome,
        took: Duration,
        phases: &Phases,
    ) {
        let way = if spec.labels.contains_key(LABEL_MODE) { "persistent" } else { "cold" };
        let (session, outcome, phases) = (session(spec), outcome.name(), phases.list());
        self.tell(spec, &Happening::Launched { session, way, outcome, took, phases });
    }

    /// One that had waited was taken.
    pub(super) fn tell_taken(&self, spec: &ContainerSpec, outcome: Outcome, took: Duration) {
        let (session, way, outcome) = (session(spec), "warm", outcome.name());
        self.tell(spec, &Happening::Launched { session, way, outcome, took, phases: Vec::new() });
    }

    /// By its labels: whoever asked for the container may be gone.
    pub(super) fn tell(&self, spec: &ContainerSpec, what: &Happening) {
        let label = |name: &str| spec.labels.get(name).map(String::as_str);
        let connection = label(LABEL_CONNECTION).and_then(ConnectionId::parse);
        let client = label(LABEL_CLIENT).and_then(|client| client.parse().ok());
        let (Some(connection), Some(client)) = (connection, client) else { return };
        let teller = self.events.of_connection(connection, client);
        if let Some(user) = label(LABEL_USERNAME) {
            teller.is_of(user);
        }
        teller.tell(what);
    }
}

fn session(spec: &ContainerSpec) -> Option<u32> {
    spec.labels.get(LABEL_SESSION)?.parse().ok()
}
