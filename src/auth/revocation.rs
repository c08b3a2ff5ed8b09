//! Keys and certificates that no longer count: a list in OpenSSH's binary format ([`krl`](super::krl)) or as text.
//! A list that is configured and cannot be used revokes everything.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::Mutex;

use super::certificate::Certificate;
use super::wire::{fingerprint, sha1, sha256};
use super::{file, krl, revoked_text};

/// Largest list that we read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Authorities that a list may name, each with its own numbers.
const AUTHORITIES_MAX: usize = 4096;

/// A file that changed so recently may change once more without its times showing it.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What is revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationList {
    keys_by_sha256: HashSet<[u8; 32]>,
    keys_by_sha1: HashSet<[u8; 20]>,
    /// By the authority's key; those under `None` are revoked whoever signed them.
    certificates: HashMap<Option<Vec<u8>>, RevokedCertificates>,
}

/// Certificates of one authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RevokedCertificates {
    /// First and last of each; after [`RevocationList::sort`] in order and apart.
    serials: Vec<(u64, u64)>,
    /// The number of the lowest bit, and the bits with the highest first.
    bitmaps: Vec<(u64, Vec<u8>)>,
    key_ids: HashSet<Vec<u8>>,
}

/// Why a key or a certificate does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Revoked {
    /// The key itself.
    #[error("key {0} is revoked")]
    Key(String),
    /// The authority's key.
    #[error("its authority's key {0} is revoked")]
    Authority(String),
    /// The certificate's number.
    #[error("the certificate's serial number {0} is revoked")]
    Serial(u64),
    /// The certificate's name.
    #[error("the certificate's key id `{}` is revoked", .0.escape_debug())]
    KeyId(String),
    /// Whether it is revoked cannot be known.
    #[error("the list of revoked keys cannot be used, so no key counts: {0}")]
    Unknown(String),
}

/// What is wrong with a list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RevocationError {
    /// The binary format.
    #[error("{0}")]
    Krl(#[from] krl::KrlError),
    /// A line of text.
    #[error("line {line}: {problem}")]
    Line {
        /// From 1 on.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// More than we keep.
    #[error("it names more than {AUTHORITIES_MAX} authorities")]
    Authorities,
}

/// The configured list. Read anew when its file has changed, so that a change takes effect at once.
#[derive(Debug, Default)]
pub struct RevokedKeys {
    file: Option<PathBuf>,
    /// Held while the file is read: those who ask meanwhile wait for the answer instead of reading it, too.
    cached: Mutex<Option<Cached>>,
}

#[derive(Clone, Debug)]
struct Cached {
    stamp: Stamp,
    list: Arc<RevocationList>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl RevokedKeys {
    /// Without a file nothing is revoked.
    #[must_use]
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, cached: Mutex::default() }
    }

    /// The list as it is now.
    ///
    /// # Errors
    /// [`Revoked::Unknown`] when there is one and it cannot be used.
    pub async fn list(&self) -> Result<Arc<RevocationList>, Revoked> {
        let Some(path) = &self.file else { return Ok(Arc::default()) };
        let mut cached = self.cached.lock().await;
        let (path, known) = (path.clone(), cached.clone());
        let name = path.display().to_string();
        let read = file::off_loop(move || read(&path, known)).await;
        let outcome = read.unwrap_or_else(|| Err("reading it failed".to_owned()));
        match outcome {
            Ok(Read { list, keep }) => {
                *cached = keep.map(|stamp| Cached { stamp, list: Arc::clone(&list) });
                Ok(list)
            }
            Err(problem) => {
                tracing::error!(
                    path = name,
                    problem,
                    "no key counts: the list of revoked keys cannot be used"
                );
                *cached = None;
                Err(Revoked::Unknown(format!("`{name}`: {problem}")))
            }
        }
    }

    /// Whether a plain key counts.
    ///
    /// # Errors
    /// Why not.
    pub async fn check_key(&self, blob: &[u8]) -> Result<(), Revoked> {
        self.list().await?.check_key(blob)
    }
}

impl RevocationList {
    /// Reads a list, binary or text.
    ///
    /// # Errors
    /// What is wrong with it; nothing of it can be relied on then.
    pub fn parse(bytes: &[u8]) -> Result<Self, RevocationError> {
        let mut list = Self::default();
        if bytes.starts_with(&krl::MAGIC) {
            krl::parse(bytes, &mut list)?;
        } else {
            revoked_text::parse(&String::from_utf8_lossy(bytes), &mut list)?;
        }
        list.sort();
        Ok(list)
    }

    /// Whether a plain key counts.
    ///
    /// # Errors
    /// [`Revoked::Key`]
    pub fn check_key(&self, blob: &[u8]) -> Result<(), Revoked> {
        if self.has_key(blob) { Err(Revoked::Key(fingerprint(blob))) } else { Ok(()) }
    }

    /// Whether a certificate counts: its key, its authority's key, its number and its name.
    ///
    /// # Errors
    /// Why not.
    pub fn check_certificate(&self, certificate: &Certificate) -> Result<(), Revoked> {
        self.check_key(&certificate.key.blob)?;
        if self.has_key(&certificate.ca.blob) {
            return Err(Revoked::Authority(certificate.ca.fingerprint.clone()));
        }
        let by_this = self.certificates.get(&Some(certificate.ca.blob.clone()));
        for revoked in by_this.into_iter().chain(self.certificates.get(&None)) {
            if revoked.key_ids.contains(certificate.key_id.as_bytes()) {
                return Err(Revoked::KeyId(certificate.key_id.clone()));
            }
            // 0 is what authorities that do not number their certificates write.
            if certificate.serial != 0 && revoked.has_serial(certificate.serial) {
                return Err(Revoked::Serial(certificate.serial));
            }
        }
        Ok(())
    }

    fn has_key(&self, blob: &[u8]) -> bool {
        self.keys_by_sha256.contains(&sha256(blob))
            || (!self.keys_by_sha1.is_empty() && self.keys_by_sha1.contains(&sha1(blob)))
    }

    pub(super) fn add_sha256(&mut self, sum: [u8; 32]) {
        self.keys_by_sha256.insert(sum);
    }

    pub(super) fn add_sha1(&mut self, sum: [u8; 20]) {
        self.keys_by_sha1.insert(sum);
    }

    pub(super) fn add_key(&mut self, blob: &[u8]) {
        self.add_sha256(sha256(blob));
    }

    pub(super) fn add_serials(
        &mut self,
        authority: Option<&[u8]>,
        first: u64,
        last: u64,
    ) -> Result<(), RevocationError> {
        self.of(authority)?.serials.push((first, last));
        Ok(())
    }

    pub(super) fn add_bitmap(
        &mut self,
        authority: Option<&[u8]>,
        offset: u64,
        bits: &[u8],
    ) -> Result<(), RevocationError> {
        self.of(authority)?.bitmaps.push((offset, bits.to_owned()));
        Ok(())
    }

    pub(super) fn add_key_id(&mut self, authority: Option<&[u8]>, id: &[u8]) -> Result<(), RevocationError> {
        self.of(authority)?.key_ids.insert(id.to_owned());
        Ok(())
    }

    fn of(&mut self, authority: Option<&[u8]>) -> Result<&mut RevokedCertificates, RevocationError> {
        let authority = authority.map(<[u8]>::to_owned);
        if self.certificates.len() >= AUTHORITIES_MAX && !self.certificates.contains_key(&authority) {
            return Err(RevocationError::Authorities);
        }
        Ok(self.certificates.entry(authority).or_default())
    }

    /// Makes numbers quick to look up.
    fn sort(&mut self) {
        for revoked in self.certificates.values_mut() {
            revoked.serials.sort_unstable();
            revoked.serials.dedup_by(|next, last| {
                let together = next.0 <= last.1.saturating_add(1);
                if together {
                    last.1 = last.1.max(next.1);
                }
                together
            });
        }
    }
}

impl RevokedCertificates {
    fn has_serial(&self, serial: u64) -> bool {
        let after = self.serials.partition_point(|(first, _)| *first <= serial);
        let in_range =
            after.checked_sub(1).and_then(|at| self.serials.get(at)).is_some_and(|(_, last)| serial <= *last);
        in_range || self.bitmaps.iter().any(|(offset, bits)| has_bit(bits, *offset, serial))
    }
}

fn has_bit(bits: &[u8], offset: u64, serial: u64) -> bool {
    let Some(bit) = serial.checked_sub(offset) else { return false };
    let Ok(byte) = usize::try_from(bit / 8) else { return false };
    let value = bits.len().checked_sub(byte + 1).and_then(|at| bits.get(at));
    value.is_some_and(|value| value >> (bit % 8) & 1 == 1)
}

struct Read {
    list: Arc<RevocationList>,
    /// The file's state, if the list may be kept until that changes.
    keep: Option<Stamp>,
}

fn read(path: &Path, known: Option<Cached>) -> Result<Read, String> {
    let text = |error: io::Error| error.to_string();
    let before = std::fs::metadata(path).map_err(text)?;
    let stamp = Stamp::of(&before);
    if let Some(Cached { stamp: old, list }) = known
        && old == stamp
    {
        return Ok(Read { list, keep: Some(stamp) });
    }
    let bytes = file::read(path, FILE_BYTES_MAX).map_err(text)?;
    let list = RevocationList::parse(&bytes).map_err(|error| error.to_string())?;
    let after = std::fs::metadata(path).map_err(text)?;
    let settled = Stamp::of(&after) == stamp && stamp.age().is_some_and(|age| age > SETTLED_AFTER);
    Ok(Read { list: Arc::new(list), keep: settled.then_some(stamp) })
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Since the file, or anything about it, was last changed. Nobody can set that time. `None`: our clock is behind.
    fn age(&self) -> Option<Duration> {
        let (seconds, nanoseconds) = self.changed;
        let since_1970 = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH.checked_add(since_1970)?).ok()
    }
}

#[cfg(test)]
mod tests;
