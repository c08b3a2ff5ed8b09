//! Containers: how many there are, how they came, how they went.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::kit::{Counters, Histograms, brief, briefs, counters, counters_of_two, with_values};

/// How many containers there are now. Together they are all that count for limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Being launched for somebody.
    pub starting: usize,
    /// Somebody's, for as long as the connection or the session lasts, and until removed.
    pub live: usize,
    /// Kept from one connection of a user to the next, and in use.
    pub persistent: usize,
    /// The same while nobody uses it.
    pub persistent_idle: usize,
    /// Waiting, started, for somebody.
    pub waiting: usize,
    /// Being launched to wait.
    pub refilling: usize,
    /// No part of the sum: how many are to wait.
    pub wanted: usize,
}

/// How somebody gets a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a launch that somebody waits for.
    Cold,
    /// By one that waited.
    Warm,
    /// Nobody does: it is to wait.
    Refill,
}

/// What came of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A container.
    Ready,
    /// None: the engine said why.
    Failed,
    /// None in time.
    TimedOut,
    /// None: nobody wanted it any more.
    Abandoned,
}

const PHASES: [&str; 5] = ["pull", "wait", "create", "start", "meet"];

/// Counts containers. Clones count the same.
#[derive(Clone, Debug, Default)]
pub struct Containers {
    now: Arc<Now>,
    launches: Counters<2>,
    starting: Gauge,
    limits: Counters<1>,
    lost: Counter,
    removals: Counters<1>,
    durations: Durations,
}

#[derive(Clone, Debug)]
struct Durations {
    launch: Histograms<1>,
    phase: Histograms<1>,
    removal: Histogram,
}

impl Default for Durations {
    fn default() -> Self {
        Self { launch: briefs(), phase: briefs(), removal: brief() }
    }
}

impl Containers {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let ways = [Way::Cold, Way::Warm, Way::Refill].map(Way::name);
        let outcomes = [Outcome::Ready, Outcome::Failed, Outcome::TimedOut, Outcome::Abandoned];
        let outcomes = outcomes.map(Outcome::name);
        let it = Self {
            limits: counters("limit", &["containers", "containers-of-user"]),
            removals: counters("result", &["ok", "failed"]),
            launches: counters_of_two(("way", &ways), ("outcome", &outcomes)),
            durations: Durations {
                launch: with_values(briefs(), "way", &ways),
                phase: with_values(briefs(), "phase", &PHASES),
                ..Durations::default()
            },
            ..Self::default()
        };
        registry.register_collector(Box::new(Arc::clone(&it.now)));
        registry.register(
            "launches",
            "Containers that were to come, by the way in which, and what came of it",
            it.launches.clone(),
        );
        registry.register_with_unit(
            "launch_duration",
            "From the wish for a container until programs could run in it, by the way in which it came",
            Unit::Seconds,
            it.durations.launch.clone(),
        );
        registry.register_with_unit(
            "launch_phase_duration",
            "How long a launch pulled the image, waited for its turn, created, started and met the container",
            Unit::Seconds,
            it.durations.phase.clone(),
        );
        registry.register(
            "launches_refused",
            "Containers that somebody did not get because of a limit",
            it.limits.clone(),
        );
        registry.register("containers_lost", "Containers that ended behind our back", it.lost.clone());
        registry.register(
            "container_removals",
            "Containers that were to be removed; what fails is left to the reaper",
            it.removals.clone(),
        );
        registry.register_with_unit(
            "container_removal_duration",
            "How long the engine took to remove a container",
            Unit::Seconds,
            it.durations.removal.clone(),
        );
        it
    }

    /// From now on `count` is asked how many there are.
    pub fn count_by(&self, count: impl Fn() -> Tally + Send + Sync + 'static) {
        // There is one pool, which is told once.
        drop(self.now.0.set(Box::new(count)));
    }

    /// A container is to come.
    #[must_use]
    pub fn launch(&self, way: Way) -> Launch {
        if way == Way::Cold {
            self.starting.inc();
        }
        Launch { containers: self.clone(), way, begun: Instant::now(), outcome: None }
    }

    /// Launches that somebody waits for.
    #[must_use]
    pub fn starting(&self) -> usize {
        usize::try_from(self.starting.get()).unwrap_or_default()
    }

    /// A part of a launch was done.
    pub fn phase(&self, phase: &'static str, took: Duration) {
        self.durations.phase.get_or_create(&[("phase", phase)]).observe(took.as_secs_f64());
    }

    /// Somebody did not get a container: `containers`, `containers-of-user`.
    pub fn refused(&self, limit: &'static str) {
        self.limits.get_or_create(&[("limit", limit)]).inc();
    }

    /// A container ended behind our back.
    pub fn lost(&self) {
        self.lost.inc();
    }

    /// A container was removed, or left to the reaper.
    pub fn removed(&self, is_gone: bool, took: Duration) {
        let result = if is_gone { "ok" } else { "failed" };
        self.removals.get_or_create(&[("result", result)]).inc();
        self.durations.removal.observe(took.as_secs_f64());
    }
}

/// A container that is to come. One that is dropped before its end was abandoned.
#[derive(Debug)]
pub struct Launch {
    containers: Containers,
    way: Way,
    begun: Instant,
    outcome: Option<Outcome>,
}

impl Launch {
    /// What came of it.
    pub fn ended(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        let Self { containers, way, begun, outcome } = self;
        let outcome = outcome.unwrap_or(Outcome::Abandoned);
        if *way == Way::Cold {
            containers.starting.dec();
        }
        containers.launches.get_or_create(&[("way", way.name()), ("outcome", outcome.name())]).inc();
        if outcome == Outcome::Ready {
            let took = begun.elapsed().as_secs_f64();
            containers.durations.launch.get_or_create(&[("way", way.name())]).observe(took);
        }
    }
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Refill => "refill",
        }
    }
}

impl Outcome {
    /// For labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Asks how many there are, whenever somebody wants to know.
#[derive(Default)]
struct Now(OnceLock<Box<dyn Fn() -> Tally + Send + Sync>>);

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Now").finish_non_exhaustive()
    }
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let tally = self.0.get().map_or_else(Tally::default, |count| count());
        let states = [
            ("starting", tally.starting),
            ("live", tally.live),
            ("persistent", tally.persistent),
            ("persistent-idle", tally.persistent_idle),
            ("waiting", tally.waiting),
            ("refilling", tally.refilling),
        ];
        let help = "Containers there are, by what they are there for; together they count for limits";
        let mut metric = encoder.encode_descriptor("containers", help, None, MetricType::Gauge)?;
        for (state, count) in states {
            gauge(count).encode(metric.encode_family(&[("state", state)])?)?;
        }
        let help = "Containers that are to wait, started, for somebody";
        let metric = encoder.encode_descriptor("pool_wanted", help, None, MetricType::Gauge)?;
        gauge(tally.wanted).encode(metric)
    }
}

fn gauge(count: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Counts what nobody removed. Clones count the same.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    found: Counter,
    removed: Counter,
    failures: Counter,
    left: Gauge,
}

impl Reaper {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let it = Self::default();
        registry.register("reaper_found", "Containers of ours that were on loan to nobody", it.found.clone());
        registry.register("reaper_removed", "Of them, those that were removed", it.removed.clone());
        registry.register("reaper_failures", "Looks and removals that failed", it.failures.clone());
        registry.register("reaper_left", "Containers that are still to be removed", it.left.clone());
        it
    }

    /// So many more were found.
    pub fn found(&self, more: usize) {
        self.found.inc_by(more as u64);
    }

    /// One was removed.
    pub fn removed(&self) {
        self.removed.inc();
    }

    /// A look or a removal failed.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// So many are to be removed.
    pub fn left(&self, count: usize) {
        self.left.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
