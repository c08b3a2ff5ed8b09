//! Requests to the container engine.

use std::time::Instant;

use prometheus_client::registry::{Registry, Unit};

use super::kit::{Counters, Histograms, briefs};

/// Counts requests to the engine. Clones count the same.
#[derive(Clone, Debug)]
pub struct EngineCalls {
    all: Counters<2>,
    duration: Histograms<1>,
}

impl Default for EngineCalls {
    fn default() -> Self {
        Self { all: Counters::default(), duration: briefs() }
    }
}

impl EngineCalls {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let it = Self::default();
        registry.register(
            "engine_requests",
            "Requests to the container engine, by operation and result",
            it.all.clone(),
        );
        registry.register_with_unit(
            "engine_request_duration",
            "From a request to the container engine until the answer begins, by operation",
            Unit::Seconds,
            it.duration.clone(),
        );
        it
    }

    /// A request is sent.
    #[must_use]
    pub fn begin(&self, operation: &'static str) -> Call {
        Call { calls: self.clone(), operation, begun: Instant::now(), result: "given-up" }
    }
}

/// A request that is under way. One that is dropped before its answer was given up.
#[derive(Debug)]
pub struct Call {
    calls: EngineCalls,
    operation: &'static str,
    begun: Instant,
    result: &'static str,
}

impl Call {
    /// The engine answered with this HTTP status.
    pub fn answered(mut self, status: u16) {
        self.result = match status {
            0..400 => "ok",
            400..500 => "refused",
            _ => "failed",
        };
    }

    /// Nobody was there.
    pub fn unreachable(mut self) {
        self.result = "unreachable";
    }

    /// The connection broke, or the answer made no sense.
    pub fn broke(mut self) {
        self.result = "broken";
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Self { calls, operation, begun, result } = self;
        calls.all.get_or_create(&[("operation", operation), ("result", result)]).inc();
        let took = begun.elapsed().as_secs_f64();
        calls.duration.get_or_create(&[("operation", operation)]).observe(took);
    }
}
