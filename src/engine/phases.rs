//! What took how long in a launch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use crate::events::Phase;

/// Parts of one launch that are remembered; one that begins again and again has more, and those are not told.
const PHASES_MAX: usize = 32;

/// The parts of one launch that are done. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Phases(Arc<Mutex<Vec<Phase>>>);

impl Phases {
    /// Does a part. Counts also what fails, and not what is given up.
    pub async fn time<T>(&self, name: &'static str, work: impl Future<Output = T>) -> T {
        let (begun, watch) = (SystemTime::now(), Instant::now());
        // Else every future that has this one in it is as large again.
        let done = Box::pin(work).await;
        let mut phases = self.lock();
        if phases.len() < PHASES_MAX {
            phases.push(Phase { name, begun, took: watch.elapsed() });
        }
        done
    }

    /// In the order in which they were done.
    #[must_use]
    pub fn list(&self) -> Vec<Phase> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Phase>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
