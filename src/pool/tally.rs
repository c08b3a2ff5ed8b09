//! How many containers there are, for whoever watches the server.

use std::sync::Arc;

use super::Pool;
use super::shelf::Shelf;
use crate::metrics::{Containers, Tally};

impl Pool {
    /// The same pool, with its containers counted.
    #[must_use]
    pub fn counted_by(self, metrics: &Containers) -> Self {
        let pool = Self { metrics: metrics.clone(), ..self };
        // Both stay for as long as the process.
        let counted = pool.clone();
        metrics.count_by(move || counted.tally());
        pool
    }

    /// As it is now. What changes meanwhile may be missing in one place or seen in two.
    fn tally(&self) -> Tally {
        let shelves = self.shelves.all();
        let sum = |count: &dyn Fn(&Arc<Shelf>) -> usize| shelves.iter().map(count).sum::<usize>();
        let (waiting, refilling) = (sum(&|shelf| shelf.len()), sum(&|shelf| shelf.state().under_way));
        let (persistent, persistent_idle) = self.homes.count();
        let starting = self.metrics.starting();
        let others = starting + waiting + refilling + persistent + persistent_idle;
        let live = self.census.len().saturating_sub(others);
        let wanted = sum(&|shelf| shelf.stock.borrow().warm);
        Tally { starting, live, persistent, persistent_idle, waiting, refilling, wanted }
    }
}
