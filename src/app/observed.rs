//! What whoever runs the server sees of it: its numbers, and how it does.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::audit::Counters;
use crate::config::Config;
use crate::control::{Health, HttpEndpoint};
use crate::engine::docker::{Docker, ImagePullPolicy};
use crate::engine::{Engine, EngineError};
use crate::metrics::{self, Metrics};
use crate::recording::Totals;
use crate::shutdown::Drain;

/// From the end of everything else until `/metrics` and its like are closed for good.
pub(super) const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);

/// How the server does.
pub(super) struct Condition {
    drain: Drain,
    /// What new containers are made of where no profile says otherwise.
    image: Mutex<Option<(Arc<Docker>, ImagePullPolicy)>>,
    accepting: OnceLock<AbortHandle>,
}

impl Condition {
    pub(super) fn new(drain: &Drain) -> Arc<Self> {
        Arc::new(Self { drain: drain.clone(), image: Mutex::default(), accepting: OnceLock::new() })
    }

    /// From now on containers are made as this configuration says.
    pub(super) fn configure(&self, docker: &Docker, config: &Config) {
        let docker = docker.launching(&config.docker.config, &config.docker.registries);
        let image = (Arc::new(docker), config.docker.config.image_pull_policy);
        *self.image.lock().unwrap_or_else(PoisonError::into_inner) = Some(image);
    }

    /// Who accepts connections.
    pub(super) fn accepts_by(&self, task: AbortHandle) {
        // Connections are accepted by one task.
        drop(self.accepting.set(task));
    }
}

#[async_trait]
impl Health for Condition {
    fn alive(&self) -> Result<(), String> {
        let accepts = self.accepting.get().is_none_or(|task| !task.is_finished()) || self.draining();
        if accepts {
            Ok(())
        } else {
            Err("no connection is accepted any more; restart the server".to_owned())
        }
    }

    fn draining(&self) -> bool {
        self.drain.begun.is_cancelled()
    }

    async fn complaints(&self) -> Vec<String> {
        let image = self.image.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((docker, policy)) = image else { return vec!["the server is starting".to_owned()] };
        let complaint = match docker.image_id().await {
            Err(error) => Some(format!("engine: {error}")),
            Ok(None) if policy == ImagePullPolicy::Never => {
                let image = docker.image().to_owned();
                Some(format!("image: {}", EngineError::NoSuchImage { image }))
            }
            Ok(_) => None,
        };
        complaint.into_iter().collect()
    }
}

/// Has what others count among the numbers.
pub(super) fn count_others(metrics: &Metrics, recordings: Arc<Totals>, audit: Arc<Counters>) {
    count_recordings(metrics, recordings);
    count_audit(metrics, audit);
}

/// Has the recordings among the numbers.
fn count_recordings(metrics: &Metrics, totals: Arc<Totals>) {
    metrics.bring_up_to_date_by(move |metrics| {
        let (now, recorder) = (totals.snapshot(), &metrics.recorder);
        let live = now.begun.saturating_sub(now.completed + now.failed);
        recorder.live.set(i64::try_from(live).unwrap_or(i64::MAX));
        for (counter, count) in [
            (&recorder.started, now.begun),
            (&recorder.dropped, now.events_lost),
            (&recorder.failed, now.failed),
            (&recorder.written, now.bytes_written),
        ] {
            counter.inner().store(count, Ordering::Relaxed);
        }
    });
}

/// Has the audit stream among the numbers.
fn count_audit(metrics: &Metrics, counters: Arc<Counters>) {
    metrics.bring_up_to_date_by(move |metrics| {
        let audit = &metrics.audit;
        for (counter, count) in [
            (&audit.written, &counters.written),
            (&audit.delivered, &counters.sent),
            (&audit.dropped, &counters.lost),
            (&audit.failures, &counters.failed),
        ] {
            counter.inner().store(count.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let spooled = counters.spooled_bytes.load(Ordering::Relaxed);
        audit.spooled.set(i64::try_from(spooled).unwrap_or(i64::MAX));
    });
}

/// What answers `/metrics` and its like.
pub(super) struct Observed {
    stop: CancellationToken,
    task: Drain,
}

impl Observed {
    /// Listens, if that is configured, and answers from now on.
    pub(super) async fn start(
        config: &metrics::Config,
        metrics: &Arc<Metrics>,
        condition: &Arc<Condition>,
    ) -> anyhow::Result<Self> {
        let observed = Self { stop: CancellationToken::new(), task: Drain::default() };
        let Some(listen) = config.listen else { return Ok(observed) };
        let (endpoint, address) = bind(listen)
            .await
            .with_context(|| format!("failed to listen on `{listen}`, which is `metrics.listen`"))?;
        tracing::info!(%address, "answering /metrics, /livez and /readyz");
        let tasks = observed.task.tasks.clone();
        let health = Arc::clone(condition) as Arc<dyn Health>;
        let serving = endpoint.serve(Arc::clone(metrics), health, tasks, observed.stop.clone());
        observed.task.tasks.spawn(serving);
        Ok(observed)
    }

    /// Ends it. Whoever asks until then is told that the server ends.
    pub(super) async fn end(self) {
        self.stop.cancel();
        // What is late has a deadline of its own, and nothing outlives it.
        self.task.finish(CLOSING_TIMEOUT, std::future::pending(), Duration::ZERO).await;
    }
}

async fn bind(listen: SocketAddr) -> std::io::Result<(HttpEndpoint, SocketAddr)> {
    let endpoint = HttpEndpoint::bind(listen).await?;
    let address = endpoint.address()?;
    Ok((endpoint, address))
}
