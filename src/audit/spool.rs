//! Records that wait on disk for the web service: segments, each of which is sent as one batch and then removed.
//!
//! What has been added to a segment is on the disk before it is acknowledged, so a kill loses nothing of it. A batch whose
//! answer did not come is sent again: records arrive at least once, and in their order.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Counters;
use super::queue::Line;
use super::writer::Place;

/// Of a segment, and so of a batch, in bytes; past it a new one is begun. With what is added in one go it stays below the
/// mebibyte that web servers take unless they are told otherwise.
const SEGMENT_BYTES: u64 = 512 << 10;

/// Added in one go, unless a single record is longer.
const BATCH_BYTES: usize = 256 << 10;

/// How long a batch is gathered: a login alone is several records.
const LINGER: Duration = Duration::from_millis(200);

/// What the service refused is kept for somebody to look at, up to here in bytes; past it the oldest of it is removed.
const REJECTED_BYTES_MAX: u64 = 16 << 20;

/// Locked while a server uses the folder.
const LOCK_FILE: &str = "lock";

/// How the name of a file of what was refused begins.
const REJECTED: &str = "rejected-";

const ENDING: &str = ".ndjson";

/// The folder of segments.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    bytes_max: u64,
    state: Mutex<State>,
    changed: Condvar,
    counters: Arc<Counters>,
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    /// From the oldest on. More may be added to the last one while `open` is its file.
    segments: VecDeque<Segment>,
    open: Option<File>,
    bytes: u64,
    next: u64,
    closed: bool,
}

/// One file of records that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    number: u64,
    bytes: u64,
}

impl Spool {
    /// Opens the folder, or makes it, and takes up what a run before has left.
    ///
    /// # Errors
    /// It cannot be used, or another server uses it.
    pub(super) fn open(folder: &Path, bytes_max: u64, counters: Arc<Counters>) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let lock = File::create(folder.join(LOCK_FILE))?;
        lock.try_lock().map_err(|_| io::Error::other("another server uses it; give each its own"))?;
        let mut state = State::default();
        for (number, is_rejected) in files(folder)? {
            state.next = state.next.max(number + 1);
            if !is_rejected {
                let bytes = mend(&path(folder, number))?;
                if bytes > 0 {
                    state.segments.push_back(Segment { number, bytes });
                    state.bytes += bytes;
                }
            }
        }
        counters.spooled_bytes.store(state.bytes, Ordering::Relaxed);
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Ok(Self { folder: folder.to_owned(), bytes_max, state, changed, counters, _lock: lock })
    }

    /// Waits for `patience` at most until there is a segment, which then gets no more records. It stays until
    /// [`Spool::sent`] or [`Spool::rejected`].
    pub(super) fn oldest(&self, patience: Duration) -> Option<Segment> {
        let empty = |state: &mut State| state.segments.is_empty() && !state.closed;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, empty);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let gathers = |state: &mut State| !state.closed && state.bytes < SEGMENT_BYTES;
        let waited = if state.segments.len() == 1 && state.open.is_some() {
            self.changed.wait_timeout_while(state, LINGER, gathers).unwrap_or_else(PoisonError::into_inner).0
        } else {
            state
        };
        let mut state = waited;
        let oldest = *state.segments.front()?;
        if state.segments.len() == 1 {
            state.open = None;
        }
        Some(oldest)
    }

    /// The records of a segment.
    pub(super) fn read(&self, segment: Segment) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // What a failed write has left behind them is not theirs.
        File::open(path(&self.folder, segment.number))?.take(segment.bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A segment is where it belongs.
    pub(super) fn sent(&self, segment: Segment) {
        if let Err(error) = fs::remove_file(path(&self.folder, segment.number)) {
            tracing::warn!(segment = segment.number, %error, "records that were sent cannot be removed; the next start sends them again");
        }
        self.forget(segment);
    }

    /// A segment will never be wanted: puts it aside.
    pub(super) fn rejected(&self, segment: Segment) {
        let aside = self.folder.join(format!("{REJECTED}{:020}{ENDING}", segment.number));
        if let Err(error) = fs::rename(path(&self.folder, segment.number), aside).and_then(|()| self.prune())
        {
            tracing::warn!(segment = segment.number, %error, "records that were refused cannot be put aside");
        }
        self.forget(segment);
    }

    /// Waits for `pause`, or until no more comes.
    pub(super) fn rest(&self, pause: Duration) {
        let open = |state: &mut State| !state.closed;
        drop(
            self.changed.wait_timeout_while(self.lock(), pause, open).unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// No more comes.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Records wait in so many bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// A segment is no more.
    pub(super) fn forget(&self, segment: Segment) {
        let mut state = self.lock();
        state.segments.retain(|one| one.number != segment.number);
        state.bytes = state.bytes.saturating_sub(segment.bytes);
        self.counters.spooled_bytes.store(state.bytes, Ordering::Relaxed);
    }

    /// Removes the oldest of what was refused.
    fn prune(&self) -> io::Result<()> {
        let mut sizes = Vec::new();
        for (number, _) in files(&self.folder)?.into_iter().filter(|(_, is_rejected)| *is_rejected) {
            let file = self.folder.join(format!("{REJECTED}{number:020}{ENDING}"));
            sizes.push((fs::metadata(&file)?.len(), file));
        }
        let mut total: u64 = sizes.iter().map(|(bytes, _)| bytes).sum();
        for (bytes, file) in sizes {
            if total <= REJECTED_BYTES_MAX {
                break;
            }
            fs::remove_file(file)?;
            total -= bytes;
        }
        Ok(())
    }

    fn begin(&self, state: &mut State) -> io::Result<()> {
        let number = state.next;
        let file =
            OpenOptions::new().append(true).create_new(true).mode(0o600).open(path(&self.folder, number))?;
        // A number is never used twice, also where nothing comes of it.
        state.next += 1;
        File::open(&self.folder)?.sync_all()?;
        state.open = Some(file);
        state.segments.push_back(Segment { number, bytes: 0 });
        Ok(())
    }

    fn add(&self, lines: &[Line]) -> (usize, io::Result<()>) {
        let mut state = self.lock();
        let mut bytes = Vec::new();
        let mut count = 0;
        for line in lines {
            if state.bytes + (bytes.len() + line.text.len()) as u64 > self.bytes_max {
                break;
            }
            bytes.extend_from_slice(&line.text);
            count += 1;
        }
        if count == 0 {
            let full = "the spool is full; what it holds has to be sent first";
            return (0, Err(io::Error::new(io::ErrorKind::StorageFull, full)));
        }
        let is_long = state.segments.back().is_none_or(|segment| segment.bytes >= SEGMENT_BYTES);
        let outcome = if state.open.is_none() || is_long { self.begin(&mut state) } else { Ok(()) };
        let outcome = outcome.and_then(|()| append(&mut state, &bytes));
        if let Some(unused) = state.segments.pop_back_if(|segment| segment.bytes == 0)
            && let Err(error) = fs::remove_file(path(&self.folder, unused.number))
        {
            tracing::debug!(%error, "an empty segment of the spool cannot be removed");
        }
        self.counters.spooled_bytes.store(state.bytes, Ordering::Relaxed);
        drop(state);
        self.changed.notify_all();
        (if outcome.is_ok() { count } else { 0 }, outcome)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All or nothing: of a segment only what its `bytes` count is sent, and after a failure it gets no more.
fn append(state: &mut State, bytes: &[u8]) -> io::Result<()> {
    let Some(file) = state.open.as_mut() else { return Err(io::ErrorKind::NotFound.into()) };
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    let known = state.segments.back().map_or(0, |segment| segment.bytes);
    if let Err(error) = written {
        // The next start finds its end by the last line's.
        if let Err(error) = file.set_len(known) {
            tracing::debug!(%error, "a segment of the spool cannot be cut");
        }
        state.open = None;
        return Err(error);
    }
    if let Some(segment) = state.segments.back_mut() {
        segment.bytes += bytes.len() as u64;
        state.bytes += bytes.len() as u64;
    }
    Ok(())
}

/// The spool as the thread that writes sees it.
impl Place for Arc<Spool> {
    fn append(&mut self, lines: &[Line]) -> (usize, io::Result<()>) {
        self.add(lines)
    }

    fn room(&self) -> usize {
        BATCH_BYTES
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}{ENDING}"))
}

/// The numbers of the files in the folder, in their order, and whether they were refused. Others are not ours.
fn files(folder: &Path) -> io::Result<Vec<(u64, bool)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(ENDING)) else { continue };
        let (digits, is_rejected) =
            stem.strip_prefix(REJECTED).map_or((stem, false), |digits| (digits, true));
        if let Ok(number) = digits.parse() {
            found.push((number, is_rejected));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Cuts half a line off, which nobody was told is safe; removes a file with nothing in it. Its bytes.
fn mend(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1) as u64;
    if whole == 0 {
        fs::remove_file(path)?;
    } else if whole < bytes.len() as u64 {
        OpenOptions::new().write(true).open(path)?.set_len(whole)?;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests;
