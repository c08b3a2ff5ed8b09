//! The server as a whole.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::kit::{Counters, counters};
use super::process::Process;

type Moment = Gauge<f64, AtomicU64>;

/// Counts for whoever runs the whole. Clones count the same.
#[derive(Clone, Debug, Default)]
pub struct Server {
    reloads: Counters<1>,
    configured: Moment,
    draining: Gauge,
}

impl Server {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let it = Self { reloads: counters("result", &["ok", "failed"]), ..Self::default() };
        it.configured.set(now());
        registry.register(
            "build",
            "What this server is",
            Info::new([("version", env!("CARGO_PKG_VERSION")), ("arch", std::env::consts::ARCH)]),
        );
        registry.register("config_reloads", "Times the configuration was read again", it.reloads.clone());
        registry.register_with_unit(
            "config_last_good_time",
            "When a configuration was last read that counts, since 1970",
            Unit::Seconds,
            it.configured.clone(),
        );
        registry.register("draining", "Whether the server lets nobody in any more", it.draining.clone());
        registry.register_collector(Box::new(Process { started: now() }));
        it
    }

    /// The configuration was read again, and counts, or does not.
    pub fn reloaded(&self, is_good: bool) {
        if is_good {
            self.configured.set(now());
        }
        self.reloads.get_or_create(&[("result", if is_good { "ok" } else { "failed" })]).inc();
    }

    /// The server lets nobody in any more.
    pub fn drains(&self) {
        self.draining.set(1);
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
