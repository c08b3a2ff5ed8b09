//! The configuration, read again while the server runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Shared, host_keys, services};
use crate::config::{self, Config};
use crate::pool::Stock;
use crate::recording::Archive;
use crate::ssh::Services;

/// For the folder of recordings to be looked at. Past it the reload has failed.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes from the file what can change while we run, for connections that come from now on. With a file that is not
/// right nothing changes.
pub(super) async fn reload(
    running: &Config,
    file: Option<&Path>,
    shared: &Shared,
    services: &watch::Sender<Arc<Services>>,
) {
    let Some(file) = file else {
        return tracing::warn!("SIGHUP: there is no configuration file to read again");
    };
    match try_reload(running, file, shared).await {
        Ok((config, fresh, stocks)) => {
            shared.condition.configure(&shared.docker, &config);
            shared.recorder.keep(fresh.archive.as_ref());
            services.send_replace(Arc::new(fresh));
            shared.stock(stocks);
            shared.metrics.server.reloaded(true);
            tracing::info!(file = %file.display(), "configuration read again, for new connections");
        }
        Err(error) => {
            let error = format!("{error:#}");
            shared.metrics.server.reloaded(false);
            tracing::warn!(error, "the configuration is not right; the one before stays");
        }
    }
}

async fn try_reload(
    running: &Config,
    file: &Path,
    shared: &Shared,
) -> anyhow::Result<(Config, Services, Vec<Stock>)> {
    let (config, source) = config::load_with_source(file)?;
    let host_keys = host_keys(&config, shared.listen, &running.state_dir)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let fixed = [
        ("ssh.listen", config.ssh.listen != running.ssh.listen),
        ("docker.host", config.docker.host != running.docker.host),
        ("pool.startParallel", config.pool.start_parallel != running.pool.start_parallel),
        ("limits.stdin", config.limits.stdin != running.limits.stdin),
        ("audit", config.audit != running.audit),
        ("shutdown", config.shutdown != running.shutdown),
        ("stateDir", config.state_dir != running.state_dir),
        ("log", config.log != running.log),
        ("metrics.listen", config.metrics != running.metrics),
        ("traces", config.traces != running.traces),
        ("control", config.control != running.control),
    ];
    for (key, _) in fixed.iter().filter(|(_, differs)| *differs) {
        tracing::warn!(key, "this changes with a restart only");
    }
    let archive = open_archive(&config, shared).await?;
    let (services, stocks) = services(&config, source, shared, host_keys, archive)?;
    Ok((config, services, stocks))
}

/// On a thread that may wait: the disk may hang, and whoever runs the main loop is watched.
async fn open_archive(config: &Config, shared: &Shared) -> anyhow::Result<Option<Archive>> {
    let (recorder, recording) = (Arc::clone(&shared.recorder), config.recording.clone());
    let opening = spawn_blocking(move || recorder.open(&recording));
    let opened = timeout(ARCHIVE_TIMEOUT, opening).await.context("`recording.dir` does not answer")?;
    Ok(opened.context("failed to look at `recording.dir`")??)
}
