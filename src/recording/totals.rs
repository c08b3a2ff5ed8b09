//! What all recordings together have come to, for whoever counts.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts that only grow.
#[derive(Debug, Default)]
pub struct Totals {
    begun: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    truncated: AtomicU64,
    repaired: AtomicU64,
    removed: AtomicU64,
    gaps: AtomicU64,
    events_lost: AtomicU64,
    bytes_lost: AtomicU64,
    bytes_written: AtomicU64,
    /// Bytes that wait for a disk now: the only one that falls.
    pub(super) pending: AtomicUsize,
}

/// [`Totals`] at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Recordings that were begun.
    pub begun: u64,
    /// Recordings that were completed, truncated ones and those with gaps included.
    pub completed: u64,
    /// Recordings that the disk did not take, or not to their end.
    pub failed: u64,
    /// Recordings that ended at their greatest size.
    pub truncated: u64,
    /// Recordings of an earlier run that were closed at the start of this one.
    pub repaired: u64,
    /// Recordings that were removed for their age, or for room.
    pub removed: u64,
    /// Gaps in recordings.
    pub gaps: u64,
    /// Events that are missing there.
    pub events_lost: u64,
    /// Bytes that are missing there.
    pub bytes_lost: u64,
    /// Bytes of recordings that were written.
    pub bytes_written: u64,
}

impl Totals {
    /// Where they stand.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            begun: read(&self.begun),
            completed: read(&self.completed),
            failed: read(&self.failed),
            truncated: read(&self.truncated),
            repaired: read(&self.repaired),
            removed: read(&self.removed),
            gaps: read(&self.gaps),
            events_lost: read(&self.events_lost),
            bytes_lost: read(&self.bytes_lost),
            bytes_written: read(&self.bytes_written),
        }
    }

    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn complete(&self) {
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn truncate(&self) {
        self.truncated.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn repair(&self, count: u64) {
        self.repaired.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn remove(&self) {
        self.removed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lose(&self, bytes: u64) {
        self.events_lost.fetch_add(1, Ordering::Relaxed);
        self.bytes_lost.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn write(&self, bytes: u64) {
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }
}
