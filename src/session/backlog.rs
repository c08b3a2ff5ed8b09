//! Input that waits for its program: first in memory, past a bound in unlinked files, in order.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::task::spawn_blocking;

use super::budget::{Budget, InFlight, cost};

/// Size at which a file is closed and the next one begun. A file gives its room back once all of it was read, so a
/// long stream that is always a little behind does not pile up.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Read back from disk in one go, while there is room for it in memory.
const READ_BACK_BYTES: u64 = 1 << 20;

/// Read back from disk in one go where there is none.
const READ_BACK_BYTES_FEW: u64 = 32 << 10;

/// A queue of bytes.
#[derive(Debug)]
pub(super) struct Backlog {
    budget: Arc<Budget>,
    memory: VecDeque<Bytes>,
    memory_cost: u64,
    segments: VecDeque<Segment>,
}

/// Why bytes cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum BacklogError {
    #[error("the bound on input kept for programs that do not read it is reached")]
    Full,
    #[error("cannot keep input on disk: {0}")]
    Disk(#[from] io::Error),
}

/// One unlinked file. Its room is counted until it is dropped.
#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    written: u64,
    read: u64,
    budget: Arc<Budget>,
}

impl Backlog {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, memory: VecDeque::new(), memory_cost: 0, segments: VecDeque::new() }
    }

    /// Appends. Not cancel safe.
    pub(super) async fn push(&mut self, chunks: Vec<InFlight>) -> Result<(), BacklogError> {
        let mut to_disk = Vec::new();
        for chunk in chunks {
            // Once something waits on disk, all that follows must queue behind it.
            let cost = cost(chunk.len());
            let fits = self.memory_cost + cost <= self.budget.memory_bytes();
            if self.segments.is_empty() && to_disk.is_empty() && fits && self.budget.keep(cost) {
                self.memory_cost += cost;
                self.memory.push_back(chunk.bytes().clone());
            } else {
                to_disk.push(chunk);
            }
        }
        if to_disk.is_empty() { Ok(()) } else { self.spill(to_disk).await }
    }

    /// The next bytes, if any. They stay until [`Backlog::advance`]. Not cancel safe.
    pub(super) async fn front(&mut self) -> io::Result<Option<Bytes>> {
        if self.memory.is_empty()
            && let Some(segment) = self.segments.front_mut()
        {
            let chunk = segment.read_back().await?;
            if segment.read == segment.written {
                self.segments.pop_front();
            }
            let cost = cost(chunk.len());
            self.budget.must_keep(cost);
            self.memory_cost += cost;
            self.memory.push_back(chunk);
        }
        Ok(self.memory.front().cloned())
    }

    /// Takes `count` bytes off the front.
    pub(super) fn advance(&mut self, count: usize) {
        if let Some(front) = self.memory.front_mut() {
            let before = cost(front.len());
            let _taken = front.split_to(count.min(front.len()));
            let after = if front.is_empty() { 0 } else { cost(front.len()) };
            if after == 0 {
                self.memory.pop_front();
            }
            self.memory_cost -= before - after;
            self.budget.unkeep(before - after);
        }
    }

    /// Drops everything.
    pub(super) fn discard(&mut self) {
        self.memory.clear();
        self.budget.unkeep(std::mem::take(&mut self.memory_cost));
        self.segments.clear();
    }

    async fn spill(&mut self, chunks: Vec<InFlight>) -> Result<(), BacklogError> {
        if self.segments.back().is_none_or(|segment| segment.written >= SEGMENT_BYTES) {
            let segment = Segment::create(&self.budget).await?;
            self.segments.push_back(segment);
        }
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let Some(segment) = self.segments.back_mut() else { return Err(BacklogError::Full) };
        if !self.budget.spill(bytes) {
            return Err(BacklogError::Full);
        }
        let (file, at) = (Arc::clone(&segment.file), segment.written);
        // Counted on the segment before anything can cut us short: it gives the room back when dropped.
        segment.written += bytes;
        blocking(move || {
            let mut at = at;
            chunks.iter().try_for_each(|chunk| {
                file.write_all_at(chunk.bytes(), at)?;
                at += chunk.len() as u64;
                Ok(())
            })
        })
        .await?;
        Ok(())
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.budget.unkeep(self.memory_cost);
    }
}

impl Segment {
    async fn create(budget: &Arc<Budget>) -> io::Result<Self> {
        let directory = budget.directory();
        let file = blocking(move || tempfile::tempfile_in(directory)).await?;
        Ok(Self { file: Arc::new(file), written: 0, read: 0, budget: Arc::clone(budget) })
    }

    async fn read_back(&mut self) -> io::Result<Bytes> {
        let (file, at) = (Arc::clone(&self.file), self.read);
        let most = if self.budget.has_room(READ_BACK_BYTES) { READ_BACK_BYTES } else { READ_BACK_BYTES_FEW };
        let size = usize::try_from((self.written - at).min(most)).unwrap_or(usize::MAX);
        let chunk = blocking(move || {
            let mut chunk = BytesMut::zeroed(size);
            file.read_exact_at(&mut chunk, at)?;
            Ok(chunk.freeze())
        })
        .await?;
        self.read += chunk.len() as u64;
        Ok(chunk)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.budget.unspill(self.written);
    }
}

/// Disks may be slow, and the threads of the runtime serve everybody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::budget::Budgets;
    use crate::session::config::StdinLimits;
    use crate::value::ByteSize;

    fn backlog(memory_bytes: u64, cap_bytes: u64, directory: &std::path::Path) -> Backlog {
        let size = ByteSize::from_bytes;
        let limits = StdinLimits {
            memory: size(memory_bytes),
            spill: size(cap_bytes),
            trickle: size(1),
            cap: size(cap_bytes),
            total: size(cap_bytes),
            directory: None,
        };
        Backlog::new(Budgets::new(limits, directory.to_owned()).of_connection())
    }

    fn chunk(backlog: &Backlog, bytes: &[u8]) -> InFlight {
        backlog.budget.take_in(bytes).unwrap()
    }

    async fn take_all(backlog: &mut Backlog, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(front) = backlog.front().await.unwrap() {
            let taken = step.min(front.len());
            all.extend_from_slice(&front[..taken]);
            backlog.advance(taken);
        }
        all
    }

    /// D1, D3
    #[tokio::test]
    async fn bytes_come_back_in_order_from_memory_and_from_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut backlog = backlog(100, 1 << 30, folder.path());
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();

        for batch in sent.chunks(90_000) {
            let chunks = batch.chunks(70).map(|bytes| chunk(&backlog, bytes)).collect();
            backlog.push(chunks).await.unwrap();
        }

        assert_eq!(take_all(&mut backlog, 7_777).await, sent);
        let again = chunk(&backlog, b"again");
        backlog.push(vec![again]).await.unwrap();
        assert_eq!(take_all(&mut backlog, 2).await, b"again");
        assert!(backlog.segments.is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the files have no names");
    }

    /// F5
    #[tokio::test]
    async fn what_all_channels_keep_in_memory_is_bounded_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = backlog(Budget::KEPT_BYTES_MAX, 1 << 30, folder.path());
        let mut second = Backlog::new(Arc::clone(&first.budget));
        let budget = Arc::clone(&first.budget);
        let piece: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();

        for _ in 0..40 {
            for backlog in [&mut first, &mut second] {
                let chunk = chunk(backlog, &piece);
                backlog.push(vec![chunk]).await.unwrap();
            }
        }

        assert!(!budget.has_room(1 << 20));
        assert!(!first.segments.is_empty() && !second.segments.is_empty());
        let all = take_all(&mut second, 1 << 20).await;
        assert!(all == piece.repeat(40), "{} bytes", all.len());
        first.discard();
        drop((first, second));
        assert!(budget.has_room(Budget::KEPT_BYTES_MAX));
    }

    #[tokio::test]
    async fn past_the_cap_nothing_is_kept_and_what_was_discarded_gives_its_room_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut backlog = backlog(0, 1000, folder.path());
        let (full, more, later) =
            (chunk(&backlog, &[1; 1000]), chunk(&backlog, b"x"), chunk(&backlog, &[2; 1000]));

        backlog.push(vec![full]).await.unwrap();
        assert!(matches!(backlog.push(vec![more]).await, Err(BacklogError::Full)));
        backlog.discard();
        backlog.push(vec![later]).await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_an_error_and_costs_no_budget() {
        let mut backlog = backlog(0, 1000, std::path::Path::new("/nonexistent"));

        for _ in 0..3 {
            let big = chunk(&backlog, &[1; 900]);
            let pushed = backlog.push(vec![big]).await;
            assert!(matches!(pushed, Err(BacklogError::Disk(_))));
        }
        assert!(backlog.budget.spill(1000), "nothing is counted");
    }
}
