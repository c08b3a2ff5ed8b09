//! The tasks that keep a shelf full: one for the shelf, and one for each container from its launch until it is taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::census::Counted;
use super::launch::outcome;
use super::shelf::{Shelf, Stock, Taken, Waiting};
use super::{LaunchError, Pool};
use crate::engine::{
    Container, ContainerSpec, EngineError, LABEL_INSTANCE, LABEL_PROFILE, LABEL_WARM, LaunchWatch,
};
use crate::ids::WarmId;
use crate::metrics::{Outcome, Way};

/// Between two looks whether the image was updated.
const LOOK: Duration = Duration::from_secs(30);

/// From a container's being taken until the next one is started: whoever took it has a program to start, and the engine
/// is to do that first.
const REFILLED_AFTER: Duration = Duration::from_millis(250);

impl Shelf {
    /// Starts what is missing and replaces what is stale, until the shelf is retired.
    pub(super) async fn keep_stocked(self: Arc<Self>) {
        let mut stock = self.stock.subscribe();
        let mut changes = self.pool().census.changes();
        let mut look_at = Instant::now() + LOOK;
        loop {
            stock.mark_unchanged();
            changes.mark_unchanged();
            self.weed_out();
            let retry_at = self.fill();
            let expires_at = self.next_expiry();
            let wake_at = [retry_at, expires_at].into_iter().flatten().fold(look_at, Instant::min);
            tokio::select! {
                () = self.retired.cancelled() => return,
                // Their senders are ours, and in the census.
                _ = stock.changed() => {}
                _ = changes.changed() => {}
                () = sleep_until(wake_at) => {}
            }
            if Instant::now() >= look_at {
                tokio::select! {
                    () = self.retired.cancelled() => return,
                    () = self.look_at_image() => {}
                }
                look_at = Instant::now() + LOOK;
            }
        }
    }

    /// Starts what is missing, as far as limits allow. Tells when to try again where a failure was too short ago.
    fn fill(self: &Arc<Self>) -> Option<Instant> {
        let (pool, warm) = (self.pool(), self.stock.borrow().warm);
        loop {
            let mut state = self.state();
            let at_once = if state.trouble.lasts() { 1 } else { pool.starts.patient_max() };
            if state.waiting.len() + state.under_way >= warm || state.under_way >= at_once {
                return None;
            }
            if let Some(until) = state.trouble.pause_until().filter(|until| Instant::now() < *until) {
                return Some(until);
            }
            let begins = state.taken.map(|taken| taken + REFILLED_AFTER);
            if let Some(begins) = begins.filter(|begins| Instant::now() < *begins) {
                return Some(begins);
            }
            state.taken = None;
            let counted = pool.census.count_unclaimed(&self.profile, &pool.limits)?;
            state.under_way += 1;
            drop(state);
            pool.tasks.spawn(Berth { shelf: Arc::clone(self), pool: pool.clone() }.run(counted));
        }
    }

    /// Takes out what is too old, and what is too much. Removed before it is replaced: so no limit is passed.
    fn weed_out(&self) {
        let Stock { warm, max_age, .. } = *self.stock.borrow();
        let now = Instant::now();
        let mut state = self.state();
        let (old, mut young): (Vec<_>, Vec<_>) = state
            .waiting
            .drain(..)
            .partition(|waiting| waiting.expires(max_age).is_some_and(|expires| expires <= now));
        let surplus = young.drain(..young.len().saturating_sub(warm)).collect::<Vec<_>>();
        state.waiting.extend(young);
        drop(state);
        for waiting in old.into_iter().chain(surplus) {
            self.discard(waiting, "it has waited long enough");
        }
    }

    fn next_expiry(&self) -> Option<Instant> {
        let max_age = self.stock.borrow().max_age;
        self.state().waiting.iter().filter_map(|waiting| waiting.expires(max_age)).min()
    }

    /// Takes out what was made of another image than a launch would use now.
    async fn look_at_image(&self) {
        if self.len() == 0 {
            return;
        }
        let now = match self.pool().engine.image_id().await {
            Ok(Some(now)) => now,
            // What was made of an image that is gone is as good as it was.
            Ok(None) => return,
            Err(error) => return tracing::debug!(profile = self.profile, %error, "no look at the image"),
        };
        let mut state = self.state();
        let (current, outdated): (Vec<_>, Vec<_>) =
            state.waiting.drain(..).partition(|waiting| waiting.image.as_ref() == Some(&now));
        state.waiting.extend(current);
        drop(state);
        for waiting in outdated {
            self.discard(waiting, "its image was updated");
        }
    }

    /// Removes what was taken out, in a task of its own.
    fn discard(&self, waiting: Waiting, reason: &str) {
        let pool = self.pool();
        tracing::debug!(profile = self.profile, container = %waiting.taken.container.id(), reason, "a waiting container is removed");
        pool.tasks.clone().spawn(async move { pool.discard(waiting).await });
    }

    fn note_failure(&self, error: &LaunchError) {
        let reason = error.to_string();
        if self.state().trouble.failed(&reason) {
            tracing::warn!(profile = self.profile, error = reason, "no container can be kept waiting");
        }
    }

    fn note_success(&self) {
        if self.state().trouble.succeeded() {
            tracing::info!(profile = self.profile, "containers can be kept waiting again");
        }
    }
}

impl Pool {
    /// Removes what was taken out of a shelf.
    async fn discard(&self, waiting: Waiting) {
        // Nobody closes it, so there is a permit.
        let _permit = self.shelves.removals.acquire().await.ok();
        drop(self.clear(waiting.taken).await);
    }
}

/// The task behind one container that nobody has.
struct Berth {
    shelf: Arc<Shelf>,
    /// The shelf's, at the time of the launch.
    pool: Pool,
}

impl Berth {
    async fn run(self, counted: Counted) {
        let left = CancellationToken::new();
        let Some((container, waiting)) = self.launch(counted, &left).await else {
            self.shelf.state().under_way -= 1;
            self.pool.census.note_change();
            return;
        };
        self.shelf.put(waiting);
        tokio::select! {
            biased;
            () = left.cancelled() => return,
            () = self.shelf.retired.cancelled() => {}
            reason = container.lost() => {
                tracing::info!(profile = self.shelf.profile, container = %container.id(), reason, "a waiting container is lost");
                self.shelf.state().trouble.pause();
            }
        }
        if let Some(waiting) = self.shelf.take_out(container.id()) {
            self.pool.discard(waiting).await;
        }
    }

    /// Brings one up, and remembers of which image.
    async fn launch(
        &self,
        counted: Counted,
        left: &CancellationToken,
    ) -> Option<(Arc<dyn Container>, Waiting)> {
        let Self { shelf, pool } = self;
        let before = tokio::select! {
            () = shelf.retired.cancelled() => return None,
            () = self.is_in_the_way() => return None,
            before = async { pool.starts.quiet().await; self.image().await } => before,
        };
        let spec = self.spec();
        // Before the engine can have anything of it that the reaper might find.
        pool.reaper.lend(&spec.labels);
        let container = match self.try_launch(&spec).await {
            Ok(container) => container,
            Err(error) => {
                pool.reaper.take_back(&spec.labels);
                if !shelf.retired.is_cancelled() {
                    shelf.note_failure(&error);
                }
                return None;
            }
        };
        // If it changed meanwhile, nobody knows which of them it was: the older one counts, and is replaced.
        let image = if before.is_some() { before } else { self.image().await };
        shelf.note_success();
        let taken = Taken { container: Arc::clone(&container), labels: spec.labels, counted };
        Some((container, Waiting::new(taken, image, left)))
    }

    /// Waits until somebody could have the room.
    async fn is_in_the_way(&self) {
        let mut changes = self.pool.census.changes();
        while !self.pool.census.has_any_line() {
            // The sender is in the census, which is ours.
            drop(changes.changed().await);
        }
    }

    async fn image(&self) -> Option<String> {
        self.pool.engine.image_id().await.ok().flatten()
    }

    async fn try_launch(&self, spec: &ContainerSpec) -> Result<Arc<dyn Container>, LaunchError> {
        let Self { shelf, pool } = self;
        let launch_timeout = pool.limits.launch_timeout;
        let counted = pool.metrics.launch(Way::Refill);
        let watch = LaunchWatch {
            abandoned: shelf.retired.child_token(),
            starts: pool.starts.patient(),
            ..LaunchWatch::default()
        };
        let launch = pool.engine.launch(spec, &watch);
        tokio::pin!(launch);
        let (launched, late) = if let Ok(launched) = timeout(launch_timeout, &mut launch).await {
            (launched, false)
        } else {
            watch.abandoned.cancel();
            (launch.await, true)
        };
        pool.note_phases(&watch.phases);
        counted.ended(match &launched {
            Ok(_) if late => Outcome::TimedOut,
            Ok(_) => Outcome::Ready,
            Err(failure) => outcome(&failure.error, late),
        });
        match launched {
            Ok(container) if late => {
                pool.remove(container.as_ref()).await;
                Err(LaunchError::TimedOut(launch_timeout))
            }
            Ok(container) => Ok(container),
            Err(failure) => {
                if failure.maybe_left {
                    pool.reaper.search(&spec.labels);
                }
                let is_ours = matches!(failure.error, EngineError::Abandoned) && late;
                Err(if is_ours {
                    LaunchError::TimedOut(launch_timeout)
                } else {
                    LaunchError::Engine(Arc::new(failure.error))
                })
            }
        }
    }

    fn spec(&self) -> ContainerSpec {
        let id = WarmId::random();
        let mut labels = BTreeMap::from([
            (LABEL_INSTANCE.to_owned(), self.pool.tenure.instance.to_string()),
            (LABEL_WARM.to_owned(), id.to_string()),
        ]);
        if !self.shelf.profile.is_empty() {
            labels.insert(LABEL_PROFILE.to_owned(), self.shelf.profile.clone());
        }
        ContainerSpec {
            name: format!("coracle-warm-{id}"),
            hostname: format!("coracle-{}", id.short()),
            labels,
            files: Vec::new(),
        }
    }
}
