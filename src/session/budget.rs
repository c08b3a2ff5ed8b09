//! How much of the clients' input may be kept, counted per connection and for the whole server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::config::StdinLimits;

/// A buffer's own allocation, its handle and its place in a queue, rounded up.
const CHUNK_OVERHEAD_BYTES: u64 = 128;

/// Makes the budgets of connections and holds what they have in common.
#[derive(Clone, Debug)]
pub struct Budgets {
    limits: Arc<StdinLimits>,
    directory: Arc<Path>,
    total_spilled: Arc<AtomicU64>,
}

impl Budgets {
    /// With these bounds, and files in `directory`.
    #[must_use]
    pub fn new(limits: StdinLimits, directory: PathBuf) -> Self {
        Self { limits: Arc::new(limits), directory: directory.into(), total_spilled: Arc::default() }
    }

    /// The budget of one connection.
    #[must_use]
    pub fn of_connection(&self) -> Arc<Budget> {
        Arc::new(Budget {
            limits: Arc::clone(&self.limits),
            directory: Arc::clone(&self.directory),
            in_flight: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            spilled: AtomicU64::new(0),
            total_spilled: Arc::clone(&self.total_spilled),
        })
    }
}

/// What one connection has in memory on its way to a session, and on disk.
#[derive(Debug)]
pub struct Budget {
    limits: Arc<StdinLimits>,
    directory: Arc<Path>,
    in_flight: AtomicU64,
    kept: AtomicU64,
    spilled: AtomicU64,
    total_spilled: Arc<AtomicU64>,
}

impl Budget {
    /// Bytes between the transport and the sessions; past it the disk is too slow and we read at a trickle.
    pub const IN_FLIGHT_BYTES_HIGH: u64 = 8 << 20;
    /// Bytes between the transport and the sessions; past it a channel is ended.
    pub const IN_FLIGHT_BYTES_MAX: u64 = 64 << 20;

    /// Bytes kept in memory for all channels together, however many are forwarded; past it they go to disk.
    pub const KEPT_BYTES_MAX: u64 = 64 << 20;

    /// Bytes kept in memory per channel.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.limits.memory.bytes()
    }

    /// Where files go.
    pub(super) fn directory(&self) -> Arc<Path> {
        Arc::clone(&self.directory)
    }

    /// Bytes per second at which the client is to be read now; `None` for as fast as it comes.
    #[must_use]
    pub fn pace(&self) -> Option<u64> {
        let slow = self.spilled.load(Ordering::Relaxed) > self.limits.spill.bytes()
            || self.in_flight.load(Ordering::Relaxed) > Self::IN_FLIGHT_BYTES_HIGH;
        slow.then_some(self.limits.trickle.bytes())
    }

    /// Copies bytes that have come in, and counts them for as long as they are on their way. `None` past the bound.
    pub(super) fn take_in(self: &Arc<Self>, bytes: &[u8]) -> Option<InFlight> {
        let cost = cost(bytes.len());
        if self.in_flight.fetch_add(cost, Ordering::Relaxed) + cost > Self::IN_FLIGHT_BYTES_MAX {
            self.in_flight.fetch_sub(cost, Ordering::Relaxed);
            return None;
        }
        Some(InFlight { bytes: Bytes::copy_from_slice(bytes), cost, budget: Arc::clone(self) })
    }

    /// Counts bytes that are kept in memory; `false`, and nothing counted, past the bound.
    pub(super) fn keep(&self, bytes: u64) -> bool {
        let fits = self.kept.fetch_add(bytes, Ordering::Relaxed) + bytes <= Self::KEPT_BYTES_MAX;
        if !fits {
            self.unkeep(bytes);
        }
        fits
    }

    /// Whether so much more could be kept in memory.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.kept.load(Ordering::Relaxed) + bytes <= Self::KEPT_BYTES_MAX
    }

    /// Counts bytes that are kept in memory whatever the bound.
    pub(super) fn must_keep(&self, bytes: u64) {
        self.kept.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn unkeep(&self, bytes: u64) {
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that go to disk; `false`, and nothing counted, past a bound.
    pub(super) fn spill(&self, bytes: u64) -> bool {
        let own = self.spilled.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let total = self.total_spilled.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = own <= self.limits.cap.bytes() && total <= self.limits.total.bytes();
        if !fits {
            self.unspill(bytes);
        }
        fits
    }

    pub(super) fn unspill(&self, bytes: u64) {
        self.spilled.fetch_sub(bytes, Ordering::Relaxed);
        self.total_spilled.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What a chunk takes in memory: a peer may send its bytes one by one.
pub(super) fn cost(bytes: usize) -> u64 {
    bytes as u64 + CHUNK_OVERHEAD_BYTES
}

/// Bytes between the transport and a session. Counted off when dropped, wherever that happens.
#[derive(Debug)]
pub(super) struct InFlight {
    bytes: Bytes,
    cost: u64,
    budget: Arc<Budget>,
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.budget.in_flight.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::ByteSize;

    fn budgets() -> Budgets {
        let size = ByteSize::from_bytes;
        let limits = StdinLimits {
            memory: size(10),
            spill: size(100),
            trickle: size(7),
            cap: size(200),
            total: size(300),
            directory: None,
        };
        Budgets::new(limits, PathBuf::new())
    }

    /// D3
    #[test]
    fn past_the_spill_bound_a_client_is_read_at_a_trickle_until_the_program_catches_up() {
        let budget = budgets().of_connection();

        assert!(budget.spill(100));
        assert_eq!(budget.pace(), None);
        assert!(budget.spill(1));
        assert_eq!(budget.pace(), Some(7));
        budget.unspill(1);
        assert_eq!(budget.pace(), None);
    }

    #[test]
    fn a_connection_and_all_of_them_have_a_cap() {
        let budgets = budgets();
        let (one, other) = (budgets.of_connection(), budgets.of_connection());

        assert!(one.spill(200));
        assert!(!one.spill(1));
        assert!(other.spill(100));
        assert!(!other.spill(1));
        one.unspill(200);
        assert!(other.spill(100));
    }

    #[test]
    fn what_is_in_flight_is_bounded_and_counted_by_what_it_takes() {
        let budget = budgets().of_connection();
        let half = vec![0; usize::try_from(Budget::IN_FLIGHT_BYTES_MAX / 2).unwrap() - 1000];

        let one = budget.take_in(&half).unwrap();
        let _other = budget.take_in(&half).unwrap();
        let single: Vec<_> = (0..100).map_while(|_| budget.take_in(b"x")).collect();
        assert!(single.len() < 20, "{} single bytes", single.len());
        drop(one);
        assert!(budget.take_in(&half).is_some());
    }
}
