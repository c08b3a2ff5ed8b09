//! How much of the clients' input may be kept, counted per connection and for the whole server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::config::StdinLimits;

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
    spilled: AtomicU64,
    total_spilled: Arc<AtomicU64>,
}

impl Budget {
    /// Bytes between the transport and the sessions; past it the disk is too slow and we read at a trickle.
    pub const IN_FLIGHT_BYTES_HIGH: u64 = 8 << 20;
    /// Bytes between the transport and the sessions; past it a channel is ended.
    pub const IN_FLIGHT_BYTES_MAX: u64 = 64 << 20;

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

    pub(super) fn enter(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if self.in_flight.fetch_add(bytes, Ordering::Relaxed) + bytes <= Self::IN_FLIGHT_BYTES_MAX {
            return true;
        }
        self.in_flight.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    pub(super) fn leave(&self, bytes: usize) {
        self.in_flight.fetch_sub(bytes as u64, Ordering::Relaxed);
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
    fn what_is_in_flight_is_bounded() {
        let budget = budgets().of_connection();
        let half = usize::try_from(Budget::IN_FLIGHT_BYTES_MAX / 2).unwrap();

        assert!(budget.enter(half));
        assert!(budget.enter(half));
        assert!(!budget.enter(1));
        budget.leave(half);
        assert!(budget.enter(1));
    }
}
