//! What of a login is the transport's business: which signatures count, and how a refusal is put.

use std::ops::RangeInclusive;

use russh::keys::{Algorithm, PublicKey};
use russh::server::Auth;
use russh::{MethodKind, MethodSet};

/// Sizes of RSA keys that may log in.
const RSA_BITS: RangeInclusive<u32> = 2048..=8192;

/// No signature with SHA-1, as at sshd, and no RSA key that is weak or costs much to check.
pub(super) fn is_strong(key: &PublicKey, algorithm: &Algorithm) -> bool {
    let rsa_fits = key.key_data().rsa().is_none_or(|rsa| RSA_BITS.contains(&rsa.key_size()));
    rsa_fits && !matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa)
}

/// A refusal that leaves the method open: without it a user who mistyped gets one try instead of several.
pub(super) fn reject() -> Auth {
    Auth::Reject {
        proceed_with_methods: Some(MethodSet::from(&[MethodKind::PublicKey][..])),
        partial_success: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOfDGk9gGFMLqYJE4R+hXGpGqQ5rj2Fq0V1rk0xDbq5o";

    #[test]
    fn a_signature_with_sha1_does_not_count() {
        let key = PublicKey::from_openssh(ED25519).unwrap();

        assert!(is_strong(&key, &Algorithm::Ed25519));
        assert!(!is_strong(&key, &Algorithm::Rsa { hash: None }));
    }
}
