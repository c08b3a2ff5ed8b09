//! What is forwarded.

use prometheus_client::registry::{Registry, Unit};

use super::kit::{Counters, counters, counters_of_two};
use crate::events::Happening;

#[derive(Debug)]
pub(super) struct Forwards {
    all: Counters<2>,
    bytes: Counters<1>,
}

const KINDS: [&str; 8] = [
    "direct-tcpip",
    "direct-streamlocal",
    "tcpip-forward",
    "streamlocal-forward",
    "forwarded-tcpip",
    "forwarded-streamlocal",
    "auth-agent",
    "x11",
];
const OUTCOMES: [&str; 4] = ["granted", "refused", "failed", "ended"];

impl Forwards {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = counters_of_two(("kind", &KINDS), ("outcome", &OUTCOMES));
        let it = Self { all, bytes: counters("direction", &["received", "sent"]) };
        registry.register(
            "forwards",
            "What was to be forwarded or listened on, by kind, and what became of it",
            it.all.clone(),
        );
        registry.register_with_unit(
            "forward_traffic",
            "Bytes received from clients and sent to them by forwards, counted when one ends",
            Unit::Bytes,
            it.bytes.clone(),
        );
        it
    }

    pub(super) fn hear(&self, what: &Happening) {
        match what {
            Happening::Forwarded { kind, .. } => self.note(kind, "granted"),
            Happening::ForwardRefused { kind, failed, .. } => {
                self.note(kind, if *failed { "failed" } else { "refused" });
            }
            Happening::ForwardEnded { kind, received, sent, .. } => {
                self.note(kind, "ended");
                self.bytes.get_or_create(&[("direction", "received")]).inc_by(*received);
                self.bytes.get_or_create(&[("direction", "sent")]).inc_by(*sent);
            }
            _ => {}
        }
    }

    fn note(&self, kind: &'static str, outcome: &'static str) {
        self.all.get_or_create(&[("kind", kind), ("outcome", outcome)]).inc();
    }
}
