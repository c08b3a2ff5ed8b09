//! Sessions: their programs, and what is asked for around them.

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::kit::{Counters, Gauges, Histograms, brief, counters, counters_of_two, lastings, with_values};
use crate::events::Happening;

#[derive(Debug)]
pub(super) struct Sessions {
    live: Gauges<1>,
    started: Counters<1>,
    ended: Counters<2>,
    duration: Histograms<1>,
    first_output: Histogram,
    bytes: Counters<1>,
    refused: Counters<1>,
}

const KINDS: [&str; 3] = ["shell", "exec", "subsystem"];
const OUTCOMES: [&str; 5] = ["exited", "signaled", "closed", "cut", "failed"];
const REQUESTS: [&str; 7] = ["session", "env", "pty-req", "shell", "exec", "subsystem", "signal"];

impl Sessions {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let it = Self {
            live: Gauges::default(),
            started: counters("kind", &KINDS),
            ended: counters_of_two(("kind", &KINDS), ("outcome", &OUTCOMES)),
            duration: with_values(lastings(), "kind", &KINDS),
            first_output: brief(),
            bytes: counters("direction", &["received", "sent"]),
            refused: counters("request", &REQUESTS),
        };
        for kind in KINDS {
            drop(it.live.get_or_create(&[("kind", kind)]));
        }
        registry.register(
            "sessions",
            "Sessions whose program runs, or is about to, by kind",
            it.live.clone(),
        );
        registry.register(
            "sessions_started",
            "Programs that were permitted and were to start, by kind of session",
            it.started.clone(),
        );
        registry.register(
            "sessions_ended",
            "Sessions that have ended, by kind and outcome",
            it.ended.clone(),
        );
        registry.register_with_unit(
            "session_duration",
            "From the request for a program to its end, by kind of session",
            Unit::Seconds,
            it.duration.clone(),
        );
        registry.register_with_unit(
            "session_first_output",
            "From the request for a program to its first byte of output, its container's launch included",
            Unit::Seconds,
            it.first_output.clone(),
        );
        registry.register_with_unit(
            "session_traffic",
            "Bytes received from clients and sent to them by sessions, counted when one ends",
            Unit::Bytes,
            it.bytes.clone(),
        );
        registry.register(
            "requests_refused",
            "Sessions, variables, terminals, programs and signals that were refused",
            it.refused.clone(),
        );
        it
    }

    pub(super) fn hear(&self, what: &Happening) {
        match what {
            Happening::SessionStarted { request, .. } => {
                self.started.get_or_create(&[("kind", request)]).inc();
                self.live.get_or_create(&[("kind", request)]).inc();
            }
            Happening::FirstOutput { after, .. } => self.first_output.observe(after.as_secs_f64()),
            Happening::SessionEnded { request, outcome, duration, received, sent, .. } => {
                self.live.get_or_create(&[("kind", request)]).dec();
                self.ended.get_or_create(&[("kind", request), ("outcome", outcome)]).inc();
                self.duration.get_or_create(&[("kind", request)]).observe(duration.as_secs_f64());
                self.bytes.get_or_create(&[("direction", "received")]).inc_by(*received);
                self.bytes.get_or_create(&[("direction", "sent")]).inc_by(*sent);
            }
            Happening::RequestRefused { request, .. } => {
                self.refused.get_or_create(&[("request", request)]).inc();
            }
            _ => {}
        }
    }
}
