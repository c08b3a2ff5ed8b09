//! Who gets a container now: one that waits, a new one, or none because of a limit. What waits for nobody makes room
//! for somebody.

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::census::{Counted, Full, Who};
use super::shelf::Taken;
use super::{LaunchError, Pool};

/// How somebody gets a container.
#[derive(Debug)]
pub(super) enum Admission {
    /// By one that waited.
    Warm(Taken),
    /// By a launch.
    Cold(Counted),
}

impl From<Counted> for Admission {
    fn from(counted: Counted) -> Self {
        Self::Cold(counted)
    }
}

impl Pool {
    /// Never waits. `None` where waiting may help, or others wait already.
    pub(super) fn admit_now(&self, who: &Who) -> Result<Option<Admission>, LaunchError> {
        if self.census.has_line(&who.profile) {
            return Ok(None);
        }
        match self.admit(who) {
            Ok(admission) => Ok(Some(admission)),
            Err(full) if self.census.could_make_room(full, &who.profile) => Ok(None),
            Err(full) => Err(full.into()),
        }
    }

    /// Never waits.
    pub(super) fn admit(&self, who: &Who) -> Result<Admission, Full> {
        let alike = self.edition.and_then(|edition| self.shelves.find(&who.profile, edition));
        if let Some(taken) = alike.and_then(|alike| alike.take(who, &self.limits).transpose()) {
            return taken.map(Admission::Warm);
        }
        self.census.count(who, &self.limits).map(Admission::Cold)
    }

    /// The same where a limit was reached because of containers that nobody has: they are given up, or waited for when
    /// they are just being started or removed. `None` once it is called off.
    pub(super) async fn admit_when_there_is_room<T: From<Counted>>(
        &self,
        who: &Who,
        called_off: &CancellationToken,
        admit: impl Fn() -> Result<T, Full>,
    ) -> Option<Result<T, LaunchError>> {
        let launch_timeout = self.limits.launch_timeout;
        let place = self.census.stand_in_line(&who.profile);
        let mut changes = self.census.changes();
        let deadline = sleep(launch_timeout);
        tokio::pin!(deadline);
        loop {
            changes.mark_unchanged();
            if place.is_first() {
                let full = match admit() {
                    Ok(admitted) => return Some(Ok(admitted)),
                    Err(full) => full,
                };
                match self.give_up_one(who, full) {
                    Ok(Some(given_up)) => {
                        tracing::debug!(container = %given_up.container.id(), "a waiting container makes room");
                        return Some(Ok(self.clear(given_up).await.into()));
                    }
                    Ok(None) if self.census.could_make_room(full, &who.profile) => {}
                    Ok(None) => return Some(Err(full.into())),
                    Err(full) => return Some(Err(full.into())),
                }
            }
            tokio::select! {
                // The sender is in the census, which is ours.
                _ = changes.changed() => {}
                () = &mut deadline => return Some(Err(LaunchError::TimedOut(launch_timeout))),
                () = called_off.cancelled() => return None,
            }
        }
    }

    /// Takes one off whose place somebody may have.
    fn give_up_one(&self, who: &Who, full: Full) -> Result<Option<Taken>, Full> {
        let shelves = match full {
            Full::Server => self.shelves.all(),
            Full::Profile => self.shelves.of(&who.profile).into_iter().collect(),
            Full::User(_) => Vec::new(),
        };
        let fullest = shelves.into_iter().max_by_key(|shelf| shelf.len());
        fullest.map_or(Ok(None), |shelf| shelf.take(who, &self.limits))
    }

    /// Removes a container that was taken off, and gives its place.
    pub(super) async fn clear(&self, taken: Taken) -> Counted {
        let Taken { container, labels, counted } = taken;
        self.remove(container.as_ref()).await;
        self.reaper.take_back(&labels);
        counted
    }
}
