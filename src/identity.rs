//! Who a client is, once proven.

use crate::ids::Username;

/// A proven user. Only `auth` makes one (`tests/architecture.rs` holds it to that).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    username: Username,
    key_fingerprint: Option<String>,
}

impl Identity {
    /// A user whose public key was found and whose signature was checked.
    pub(crate) fn by_public_key(username: Username, fingerprint: String) -> Self {
        Self { username, key_fingerprint: Some(fingerprint) }
    }

    /// The name that the user logged in with.
    #[must_use]
    pub fn username(&self) -> &Username {
        &self.username
    }

    /// `SHA256:…` of the key that proved it, if a key did.
    #[must_use]
    pub fn key_fingerprint(&self) -> Option<&str> {
        self.key_fingerprint.as_deref()
    }
}
