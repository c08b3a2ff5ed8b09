//! Public keys as bytes: the encoding of RFC 4251 §5, what a key's blob says about itself, its fingerprints.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::PublicKey;

/// Sizes of RSA keys that count: smaller ones are weak, larger ones cost much to check.
const RSA_BITS_MIN: usize = 2048;
/// See [`RSA_BITS_MIN`].
const RSA_BITS_MAX: usize = 8192;

/// Takes values off the front of some bytes. `None` where they end too early; nothing is taken then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

/// Why a key does not count, whatever it signs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakKey {
    /// It was made to be weak, or to be expensive.
    #[error("an RSA key of {0} bits; from {RSA_BITS_MIN} to {RSA_BITS_MAX} are accepted")]
    RsaSize(usize),
    /// DSA knows 1024 bits and SHA-1 only.
    #[error("a DSA key")]
    Dsa,
    /// It does not say what it is.
    #[error("not a public key")]
    Unreadable,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn uint32(&mut self) -> Option<u32> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*taken))
    }

    pub(super) fn uint64(&mut self) -> Option<u64> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*taken))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let before = *self;
        let length = self.uint32()?;
        let taken = usize::try_from(length).ok().and_then(|length| self.bytes(length));
        if taken.is_none() {
            *self = before;
        }
        taken
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }
}

impl PublicKey {
    /// The key of this encoding, with its fingerprint. Does not look at what the blob says.
    #[must_use]
    pub fn from_blob(blob: Vec<u8>) -> Self {
        let fingerprint = fingerprint(&blob);
        Self { blob, fingerprint }
    }

    /// Whether a proof with this key counts (A11).
    ///
    /// # Errors
    /// Why not.
    pub fn check_strength(&self) -> Result<(), WeakKey> {
        check_strength(&self.blob)
    }
}

/// `SHA256:…`, as `ssh-keygen -l` shows it.
pub(super) fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(sha256(blob)))
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&SHA256, bytes).as_ref());
    sum
}

/// For revocation lists, which name keys by it; nothing is proven with it.
pub(super) fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut sum = [0; 20];
    sum.copy_from_slice(digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
    sum
}

pub(super) fn check_strength(blob: &[u8]) -> Result<(), WeakKey> {
    let mut key = Reader::new(blob);
    match key.string() {
        None | Some(b"") => Err(WeakKey::Unreadable),
        Some(b"ssh-dss") => Err(WeakKey::Dsa),
        Some(b"ssh-rsa") => {
            key.string().ok_or(WeakKey::Unreadable)?;
            let bits = bits(key.string().ok_or(WeakKey::Unreadable)?);
            if (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) { Ok(()) } else { Err(WeakKey::RsaSize(bits)) }
        }
        Some(_) => Ok(()),
    }
}

/// The length of a positive `mpint` without its leading zeros.
fn bits(number: &[u8]) -> usize {
    let leading = number.iter().take_while(|byte| **byte == 0).count();
    let first = number.get(leading).map_or(0, |byte| byte.leading_zeros() as usize);
    (number.len() - leading) * 8 - first
}

/// `type base64 [comment]` as the key's blob; `None` for anything else, also for a line that disagrees with itself.
pub(super) fn parse_key(text: &str) -> Option<Vec<u8>> {
    let mut words = text.split_whitespace();
    let algorithm = words.next()?;
    let blob = STANDARD.decode(words.next()?).ok()?;
    (Reader::new(&blob).string()? == algorithm.as_bytes()).then_some(blob)
}

/// The second word of a key's line.
pub(super) fn base64_of(blob: &[u8]) -> String {
    STANDARD.encode(blob)
}

/// The bytes of a `SHA256:…` fingerprint, without that prefix.
pub(super) fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn rsa_of(modulus: &[u8]) -> Vec<u8> {
        [string(b"ssh-rsa"), string(&[1, 0, 1]), string(modulus)].concat()
    }

    /// A11
    #[test]
    fn rsa_keys_that_are_too_small_or_too_large_do_not_count() {
        for (bytes, first, expected) in [
            (128, 0x80, Err(WeakKey::RsaSize(1024))),
            (256, 0x7f, Err(WeakKey::RsaSize(2047))),
            (256, 0x80, Ok(())),
            (1024, 0x80, Ok(())),
            (1025, 0x01, Err(WeakKey::RsaSize(8193))),
            (2048, 0x80, Err(WeakKey::RsaSize(16384))),
        ] {
            let mut modulus = vec![0xff; bytes];
            modulus[0] = first;
            let with_sign = [&[0], &modulus[..]].concat();

            assert_eq!(check_strength(&rsa_of(&modulus)), expected, "{bytes} bytes, {first:#x} first");
            assert_eq!(check_strength(&rsa_of(&with_sign)), expected);
        }
        assert_eq!(check_strength(&rsa_of(&[])), Err(WeakKey::RsaSize(0)));
        assert_eq!(check_strength(&string(b"ssh-dss")), Err(WeakKey::Dsa));
        assert_eq!(check_strength(b"garbage"), Err(WeakKey::Unreadable));
    }

    #[test]
    fn a_string_that_is_longer_than_what_is_left_takes_nothing() {
        let mut reader = Reader::new(&[0, 0, 0, 9, 1]);

        assert_eq!(reader.string(), None);
        assert_eq!(reader.bytes(5), Some(&[0, 0, 0, 9, 1][..]));
        assert_eq!(Reader::new(&[0xff; 8]).string(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_fail(bytes: Vec<u8>, text: String) {
            check_strength(&bytes).ok();
            check_strength(&rsa_of(&bytes)).ok();
            parse_key(&text);
            parse_fingerprint(&text);
        }
    }
}
