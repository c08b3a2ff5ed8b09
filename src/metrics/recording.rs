//! What was recorded, and what was not.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Counts for whoever records sessions. Clones count the same.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// Recordings that were begun.
    pub started: Counter,
    /// Recordings that are being written.
    pub live: Gauge,
    /// Events that were dropped, since the disk was slower than the session.
    pub dropped: Counter,
    /// Recordings that could not be written, or not to their end.
    pub failed: Counter,
    /// Bytes written.
    pub written: Counter,
}

impl Recorder {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let it = Self::default();
        registry.register("recordings_started", "Recordings that were begun", it.started.clone());
        registry.register("recordings", "Recordings that are being written", it.live.clone());
        registry.register(
            "recorder_dropped",
            "Events of sessions that were not recorded, since the disk was slower",
            it.dropped.clone(),
        );
        registry.register(
            "recordings_failed",
            "Recordings that could not be written, or not to their end",
            it.failed.clone(),
        );
        registry.register_with_unit("recorder_written", "What was recorded", Unit::Bytes, it.written.clone());
        it
    }
}

/// Counts for whoever keeps the audit stream. Clones count the same.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Events that were written to the file.
    pub written: Counter,
    /// Events that the sink has taken.
    pub delivered: Counter,
    /// Events that were lost, since the spool was full or could not be written.
    pub dropped: Counter,
    /// Tries to reach the sink that failed.
    pub failures: Counter,
    /// What waits for the sink, in bytes.
    pub spooled: Gauge,
}

impl Audit {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let it = Self::default();
        registry.register("audit_written", "Events written to the audit file", it.written.clone());
        registry.register("audit_delivered", "Events that the audit sink has taken", it.delivered.clone());
        registry.register(
            "audit_dropped",
            "Events missing in the audit stream, since its queue or spool was full or could not be written",
            it.dropped.clone(),
        );
        registry.register("audit_failures", "Failed tries to reach the audit sink", it.failures.clone());
        registry.register_with_unit(
            "audit_spool",
            "What waits for the audit sink",
            Unit::Bytes,
            it.spooled.clone(),
        );
        it
    }
}
