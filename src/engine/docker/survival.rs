//! Tells a program that was killed from one whose container was, or ran out of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bollard::query_parameters::InspectContainerOptions;
use tokio::sync::watch;
use tokio::time::timeout;

use super::client::Client;
use super::error::gone_if_not_running;
use super::events::Fate;
use crate::engine::{EngineError, ExitStatus, ProcessControl, Signal, TerminalSize};
use crate::ids::ContainerId;

/// Inspecting reads the engine's books.
const INSPECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long after a death by KILL the engine may take to tell that the container died or ran out of memory.
const NEWS_PATIENCE: Duration = Duration::from_millis(500);

/// Knows what becomes of a container.
#[derive(Clone, Debug)]
pub(super) struct Survival {
    pub(super) client: Arc<Client>,
    pub(super) container: ContainerId,
    pub(super) fate: watch::Receiver<Fate>,
}

impl Survival {
    /// After a death by KILL that was not ours: whether the container lives on. The engine's news of it comes a little
    /// after the program's end.
    pub(super) async fn check(&self) -> Result<(), EngineError> {
        let mut fate = self.fate.clone();
        let struck = fate.wait_for(|fate| fate.ended.is_some() || fate.out_of_memory);
        let struck = timeout(NEWS_PATIENCE, struck).await.ok().and_then(Result::ok).map(|fate| fate.clone());
        match struck {
            Some(Fate { ended: Some(reason), .. }) => Err(EngineError::Gone { reason }),
            Some(Fate { ended: None, .. }) => Err(EngineError::OutOfMemory),
            None => self.still_runs().await,
        }
    }

    async fn still_runs(&self) -> Result<(), EngineError> {
        let inspected = self
            .client
            .call("tell how the program does", INSPECT_DEADLINE, |docker| async move {
                docker.inspect_container(self.container.as_str(), None::<InspectContainerOptions>).await
            })
            .await;
        let state = inspected.map_err(gone_if_not_running)?.state.unwrap_or_default();
        match (state.running, state.oom_killed) {
            (Some(false), Some(true)) => Err(EngineError::Gone { reason: "it ran out of memory".to_owned() }),
            (Some(false), _) => Err(EngineError::Gone { reason: "it was stopped".to_owned() }),
            _ => Ok(()),
        }
    }
}

/// The control of a program that an init started, with the engine's news of its container.
#[derive(Debug)]
pub(super) struct InitControl {
    inner: Arc<dyn ProcessControl>,
    survival: Survival,
    /// Then its end is no news from elsewhere.
    killed_by_us: AtomicBool,
}

impl InitControl {
    pub(super) fn new(inner: Arc<dyn ProcessControl>, survival: Survival) -> Self {
        Self { inner, survival, killed_by_us: AtomicBool::new(false) }
    }
}

#[async_trait]
impl ProcessControl for InitControl {
    async fn resize(&self, size: TerminalSize) -> Result<(), EngineError> {
        self.inner.resize(size).await
    }

    async fn signal(&self, signal: Signal) -> Result<(), EngineError> {
        if signal == Signal::Kill {
            self.killed_by_us.store(true, Ordering::Relaxed);
        }
        self.inner.signal(signal).await
    }

    async fn ended(&self) {
        self.inner.ended().await;
    }

    async fn wait(&self) -> Result<ExitStatus, EngineError> {
        let status = self.inner.wait().await;
        match &status {
            Ok(ExitStatus::Signaled(Signal::Kill)) if !self.killed_by_us.load(Ordering::Relaxed) => {
                self.survival.check().await?;
            }
            // The engine knows better why.
            Err(EngineError::Gone { .. }) => self.survival.check().await?,
            _ => {}
        }
        status
    }
}
