//! Containers that wait for somebody: of one profile, made alike.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use rand::RngExt as _;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::census::{Counted, Full, Who};
use super::trouble::Trouble;
use super::{Edition, Limits, Pool};
use crate::engine::Container;
use crate::ids::ContainerId;

/// Waiting containers that are removed at once, over all shelves: many go together, and people have a use for the
/// engine, too.
const REMOVALS_MAX: usize = 4;

/// From which share of its time on a container may be replaced: those that began together must not end together.
const AGE_SHARE_MIN: f64 = 0.8;

/// What a profile is to have waiting.
#[derive(Clone, Debug)]
pub struct Stock {
    /// The profile's name; empty for what everybody gets.
    pub profile: String,
    /// How many.
    pub warm: usize,
    /// How long one may wait before it is replaced; `None` for ever.
    pub max_age: Option<Duration>,
    /// Where they come from: the profile's pool.
    pub pool: Pool,
}

/// Every profile's shelf. Clones are the same.
#[derive(Clone)]
pub(super) struct Shelves {
    shelves: Arc<Mutex<BTreeMap<String, Arc<Shelf>>>>,
    pub(super) removals: Arc<Semaphore>,
}

/// One profile's containers that wait.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) profile: String,
    edition: Edition,
    pub(super) stock: watch::Sender<Stock>,
    state: Mutex<State>,
    /// Cancelled when nothing is to wait here any more.
    pub(super) retired: CancellationToken,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The one that has waited longest is the first.
    pub(super) waiting: VecDeque<Waiting>,
    /// How many are being started.
    pub(super) under_way: usize,
    pub(super) trouble: Trouble,
    /// When the first one was taken that was not replaced yet.
    pub(super) taken: Option<Instant>,
}

/// A container that waits. Whoever takes it out of the shelf has to see to its end.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) taken: Taken,
    /// The image that it was made of, as far as known.
    pub(super) image: Option<String>,
    born: Instant,
    /// The share of the configured age that this one gets.
    age_share: f64,
    /// Tells the task that watches over it that it is in other hands.
    _left: DropGuard,
}

/// A container that was taken off a shelf.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) container: Arc<dyn Container>,
    /// By which the reaper knows it.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) counted: Counted,
}

impl Waiting {
    /// `left` is cancelled once it is taken out.
    pub(super) fn new(taken: Taken, image: Option<String>, left: &CancellationToken) -> Self {
        let age_share = rand::rng().random_range(AGE_SHARE_MIN..=1.0);
        Self { taken, image, born: Instant::now(), age_share, _left: left.clone().drop_guard() }
    }

    /// When it is to be replaced.
    pub(super) fn expires(&self, max_age: Option<Duration>) -> Option<Instant> {
        max_age.map(|max_age| self.born + max_age.mul_f64(self.age_share))
    }

    fn is_sound(&self) -> bool {
        self.taken.container.lost().now_or_never().is_none()
    }
}

impl Default for Shelves {
    fn default() -> Self {
        Self { shelves: Arc::default(), removals: Arc::new(Semaphore::new(REMOVALS_MAX)) }
    }
}

/// Not what is in it: a shelf knows its pool, and that its shelves.
impl fmt::Debug for Shelves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelves").finish_non_exhaustive()
    }
}

impl Shelves {
    /// The shelf of a profile, if what waits there is made alike.
    pub(super) fn find(&self, profile: &str, edition: Edition) -> Option<Arc<Shelf>> {
        self.of(profile).filter(|shelf| shelf.edition == edition)
    }

    /// The shelf of a profile, whatever waits there.
    pub(super) fn of(&self, profile: &str) -> Option<Arc<Shelf>> {
        self.lock().get(profile).map(Arc::clone)
    }

    pub(super) fn all(&self) -> Vec<Arc<Shelf>> {
        self.lock().values().map(Arc::clone).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Shelf>>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn new(stock: Stock, edition: Edition) -> Arc<Self> {
        Arc::new(Self {
            profile: stock.profile.clone(),
            edition,
            retired: stock.pool.draining.child_token(),
            stock: watch::Sender::new(stock),
            state: Mutex::default(),
        })
    }

    pub(super) fn pool(&self) -> Pool {
        self.stock.borrow().pool.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.state().waiting.len()
    }

    /// Takes the container that has waited longest, for somebody. None where there is none; an error where somebody may
    /// not have it.
    pub(super) fn take(&self, who: &Who, limits: &Limits) -> Result<Option<Taken>, Full> {
        let mut state = self.state();
        if self.retired.is_cancelled() {
            return Ok(None);
        }
        // One that has ended is left to the task that watches over it.
        let Some(index) = state.waiting.iter().position(Waiting::is_sound) else { return Ok(None) };
        if let Some(waiting) = state.waiting.get_mut(index) {
            waiting.taken.counted.claim(who, limits)?;
        }
        let waiting = state.waiting.remove(index);
        state.taken.get_or_insert_with(Instant::now);
        drop(state);
        self.pool().census.note_change();
        Ok(waiting.map(|waiting| waiting.taken))
    }

    /// Puts a container there that was under way.
    pub(super) fn put(&self, waiting: Waiting) {
        tracing::debug!(profile = self.profile, container = %waiting.taken.container.id(), "a container waits");
        let mut state = self.state();
        state.under_way -= 1;
        state.waiting.push_back(waiting);
        drop(state);
        self.pool().census.note_change();
    }

    /// Takes one out to be removed, if it is still there.
    pub(super) fn take_out(&self, id: &ContainerId) -> Option<Waiting> {
        let mut state = self.state();
        let index = state.waiting.iter().position(|waiting| waiting.taken.container.id() == id)?;
        state.waiting.remove(index)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// From now on these are to wait, and nothing else. What waits already and is made alike stays.
    pub fn stock(&self, stocks: Vec<Stock>) {
        let mut shelves = self.shelves.lock();
        let mut before = std::mem::take(&mut *shelves);
        for stock in stocks.into_iter().filter(|stock| stock.warm > 0) {
            let Some(edition) = stock.pool.edition else { continue };
            let profile = stock.profile.clone();
            let current = match before.remove(&profile) {
                Some(kept) if kept.edition == edition => {
                    kept.stock.send_replace(stock);
                    kept
                }
                other => {
                    before.extend(other.map(|other| (profile.clone(), other)));
                    let fresh = Shelf::new(stock, edition);
                    self.tasks.spawn(Arc::clone(&fresh).keep_stocked());
                    fresh
                }
            };
            shelves.insert(profile, current);
        }
        drop(shelves);
        for shelf in before.values() {
            shelf.retired.cancel();
        }
    }
}
