//! One launch, followed to its end whoever has gone meanwhile.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{LaunchError, LaunchState, Pool, files};
use crate::engine::{
    Container, ContainerSpec, EngineError, LABEL_CONNECTION, LaunchFailure, LaunchWatch, Phases,
};
use crate::metrics::{Outcome, Way};

/// What a launch is to bring, and whom it tells.
pub(super) struct Launch<'a> {
    pub(super) pool: &'a Pool,
    pub(super) spec: &'a ContainerSpec,
    pub(super) state: &'a watch::Sender<LaunchState>,
    /// Cancelled when nobody wants it any more, by the launch itself when it is too late.
    pub(super) abandoned: &'a CancellationToken,
}

impl Launch<'_> {
    /// Brings a container up, or tells why there is none; one that comes too late is removed.
    pub(super) async fn run(&self) -> Option<Arc<dyn Container>> {
        let (counted, begun) = (self.pool.metrics.launch(Way::Cold), Instant::now());
        let launch_timeout = self.pool.limits.launch_timeout;
        let watch = LaunchWatch {
            abandoned: self.abandoned.clone(),
            starts: self.pool.starts.clone(),
            ..LaunchWatch::default()
        };
        let mut stage = watch.stage.subscribe();
        let deadline = sleep_until(Instant::now() + launch_timeout);
        tokio::pin!(deadline);
        let launch = self.pool.engine.launch(self.spec, &watch);
        tokio::pin!(launch);
        let mut late = false;
        let result = loop {
            tokio::select! {
                result = &mut launch => break result,
                () = &mut deadline, if !late => {
                    late = true;
                    self.state.send_replace(LaunchState::Failed(LaunchError::TimedOut(launch_timeout)));
                    self.abandoned.cancel();
                }
                Ok(()) = stage.changed(), if !late => {
                    let stage = stage.borrow_and_update().clone();
                    self.state.send_replace(LaunchState::InProgress(stage));
                }
            }
        };
        self.pool.note_phases(&watch.phases);
        let (launched, outcome) = match result {
            Ok(container) if late => {
                self.pool.remove(container.as_ref()).await;
                (None, Outcome::TimedOut)
            }
            Ok(container) => match self.furnish(container).await {
                Some(container) => (Some(container), Outcome::Ready),
                None => (None, self.unfurnished()),
            },
            Err(failure) => {
                let outcome = outcome(&failure.error, late);
                self.fail(failure, late);
                (None, outcome)
            }
        };
        counted.ended(outcome);
        self.pool.tell_launch(self.spec, outcome, begun.elapsed(), &watch.phases);
        launched
    }

    /// Puts the files in that programs are to find. A container that cannot have them is no use.
    pub(super) async fn furnish(&self, container: Arc<dyn Container>) -> Option<Arc<dyn Container>> {
        let timeout = self.pool.limits.launch_timeout;
        let written = tokio::select! {
            written = tokio::time::timeout(timeout, files::write(container.as_ref(), self.spec)) => written,
            () = self.abandoned.cancelled() => Ok(Err(EngineError::Abandoned)),
        };
        let error = match written {
            Ok(Ok(())) => {
                // One that waited and needs no files was ready from the first moment.
                if !matches!(*self.state.borrow(), LaunchState::Ready(_)) {
                    self.state.send_replace(LaunchState::Ready(Arc::clone(&container)));
                }
                return Some(container);
            }
            Ok(Err(error)) => LaunchError::Engine(Arc::new(error)),
            Err(_) => LaunchError::TimedOut(timeout),
        };
        let connection = self.spec.labels.get(LABEL_CONNECTION);
        tracing::warn!(connection, %error, "the container cannot have its files");
        self.state.send_replace(LaunchState::Failed(error));
        self.pool.remove(container.as_ref()).await;
        None
    }

    /// What one counts as that could not have its files.
    pub(super) fn unfurnished(&self) -> Outcome {
        if self.abandoned.is_cancelled() { Outcome::Abandoned } else { Outcome::Failed }
    }

    fn fail(&self, failure: LaunchFailure, late: bool) {
        let connection = self.spec.labels.get(LABEL_CONNECTION);
        if failure.maybe_left {
            self.pool.reaper.search(&self.spec.labels);
        }
        if matches!(failure.error, EngineError::Abandoned) {
            tracing::debug!(connection, "the client left before its container came");
        } else if !late {
            tracing::warn!(connection, error = %failure.error, "no container");
            let error = LaunchError::Engine(Arc::new(failure.error));
            self.state.send_replace(LaunchState::Failed(error));
        }
    }
}

/// What a launch that failed counts as.
pub(super) fn outcome(error: &EngineError, late: bool) -> Outcome {
    match error {
        _ if late => Outcome::TimedOut,
        EngineError::Abandoned => Outcome::Abandoned,
        EngineError::TimedOut { .. } => Outcome::TimedOut,
        _ => Outcome::Failed,
    }
}

impl Pool {
    /// Counts what took how long in a launch.
    pub(super) fn note_phases(&self, phases: &Phases) {
        for phase in phases.list() {
            self.metrics.phase(phase.name, phase.took);
        }
    }

    /// Counts somebody who gets no container, if that is for a limit.
    pub(super) fn note_refusal(&self, error: &LaunchError) {
        match error {
            LaunchError::TooMany => self.metrics.refused("containers"),
            LaunchError::TooManyOfUser(_) => self.metrics.refused("containers-of-user"),
            LaunchError::Engine(_) | LaunchError::TimedOut(_) => {}
        }
    }

    /// Removes a container; what the engine keeps, the reaper takes over.
    /// Tells whether it is gone.
    pub(super) async fn remove(&self, container: &dyn Container) -> bool {
        let begun = Instant::now();
        let removed = container.remove().await;
        let is_gone = removed.is_ok();
        self.metrics.removed(is_gone, begun.elapsed());
        if let Err(error) = removed {
            tracing::warn!(%error, container = %container.id(), "left for the reaper");
            self.reaper.take(container.id());
        }
        is_gone
    }
}
