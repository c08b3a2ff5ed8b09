//! Connections, until somebody is in.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::kit::{Counters, Histograms, brief, counters, counters_of_two, lastings, with_values};
use crate::events::{Happening, Proof};

#[derive(Debug)]
pub(super) struct Connections {
    accepted: Counter,
    live: Gauge,
    turned_away: Counters<1>,
    ended: Counters<1>,
    duration: Histograms<1>,
    handshakes: Counters<1>,
    handshake_duration: Histogram,
    proofs: Counters<2>,
    logins: Counter,
    login_duration: Histogram,
    logins_refused: Counters<1>,
    limits: Counters<1>,
}

const TURNED_AWAY: [&str; 5] = ["banned", "connections", "connections-of-source", "startups", "proxy"];
const STAGES: [&str; 3] = ["no-ssh", "unknown", "logged-in"];
const METHODS: [&str; 5] = ["none", "publicKey", "certificate", "password", "totp"];
const LOGINS_REFUSED: [&str; 3] = ["profile", "connections-of-user", "audit"];
const LIMITS: [&str; 8] = [
    "connections-of-user",
    "events",
    "evicted-startups",
    "forwards",
    "listeners",
    "sessions",
    "stdin",
    "guesses",
];

impl Connections {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let it = Self {
            accepted: Counter::default(),
            live: Gauge::default(),
            turned_away: counters("reason", &TURNED_AWAY),
            ended: counters("stage", &STAGES),
            duration: with_values(lastings(), "stage", &STAGES),
            handshakes: counters("result", &["ok", "failed"]),
            handshake_duration: brief(),
            proofs: counters_of_two(("method", &METHODS), ("outcome", &["accepted", "partial", "refused"])),
            logins: Counter::default(),
            login_duration: brief(),
            logins_refused: counters("reason", &LOGINS_REFUSED),
            limits: counters("limit", &LIMITS),
        };
        registry.register("connections_accepted", "Connections that were let in", it.accepted.clone());
        registry.register("connections", "Connections that live, logged in or not", it.live.clone());
        registry.register(
            "connections_turned_away",
            "Clients that were turned away before they could say anything, by reason",
            it.turned_away.clone(),
        );
        registry.register(
            "connections_ended",
            "Connections that have ended, by how far they had come",
            it.ended.clone(),
        );
        registry.register_with_unit(
            "connection_duration",
            "How long connections lasted, by how far they had come",
            Unit::Seconds,
            it.duration.clone(),
        );
        registry.register("handshakes", "Clients that did, or did not, speak SSH", it.handshakes.clone());
        registry.register_with_unit(
            "handshake_duration",
            "From the TCP connection until both sides speak SSH",
            Unit::Seconds,
            it.handshake_duration.clone(),
        );
        registry.register(
            "auth_proofs",
            "Proofs that were judged, by method and outcome; most clients begin with none",
            it.proofs.clone(),
        );
        registry.register("logins", "Users that came in", it.logins.clone());
        registry.register_with_unit(
            "login_duration",
            "From the TCP connection until its user was in",
            Unit::Seconds,
            it.login_duration.clone(),
        );
        registry.register(
            "logins_refused",
            "Users that had proven enough and did not come in, by reason",
            it.logins_refused.clone(),
        );
        registry.register("limits_reached", "Limits that something was refused for", it.limits.clone());
        it
    }

    pub(super) fn hear(&self, what: &Happening) {
        match what {
            Happening::TurnedAway { reason } => count(&self.turned_away, "reason", reason),
            Happening::Connected { .. } => {
                self.accepted.inc();
                self.live.inc();
            }
            Happening::Greeted { after, .. } => {
                count(&self.handshakes, "result", "ok");
                self.handshake_duration.observe(after.as_secs_f64());
            }
            Happening::Proven { method, outcome, .. } => {
                let outcome = match outcome {
                    Proof::Accepted => "accepted",
                    Proof::Partial => "partial",
                    Proof::Refused => "refused",
                };
                self.proofs.get_or_create(&[("method", method), ("outcome", outcome)]).inc();
            }
            Happening::LoggedIn { after, .. } => {
                self.logins.inc();
                self.login_duration.observe(after.as_secs_f64());
            }
            Happening::LoginRefused { reason, .. } => count(&self.logins_refused, "reason", reason),
            Happening::LimitReached { limit } => count(&self.limits, "limit", limit),
            Happening::Disconnected { stage, duration, .. } => {
                self.live.dec();
                if *stage == "no-ssh" {
                    count(&self.handshakes, "result", "failed");
                }
                count(&self.ended, "stage", stage);
                self.duration.get_or_create(&[("stage", stage)]).observe(duration.as_secs_f64());
            }
            _ => {}
        }
    }
}

fn count(counters: &Counters<1>, label: &'static str, value: &'static str) {
    counters.get_or_create(&[(label, value)]).inc();
}
