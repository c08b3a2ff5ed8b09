//! Who may come in: neutral attempts in, verdicts out. Knows neither russh nor what happens after a login.

mod authorized_keys;
pub mod config;

use async_trait::async_trait;

use crate::identity::Identity;
use crate::ids::Username;

pub use authorized_keys::AuthorizedKeys;
pub use config::Config;

/// One way of proving who one is.
#[async_trait]
pub trait Authenticator: std::fmt::Debug + Send + Sync {
    /// Judges an attempt. Takes the same path, and so about the same time, whether or not the user exists.
    async fn judge(&self, attempt: &Attempt) -> Verdict;
}

/// What a client offers.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// A public key (RFC 4252 §7). Whoever asks has checked, or will check, the signature.
    PublicKey {
        /// Who the client says it is.
        username: Username,
        /// The key.
        key: PublicKey,
    },
}

/// A public key as it travels (RFC 4253 §6.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The encoded key, algorithm name included.
    pub blob: Vec<u8>,
    /// `SHA256:…`
    pub fingerprint: String,
}

/// The answer to an attempt.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It proves this identity.
    Accept(Box<Identity>),
    /// It proves nothing.
    Deny,
}
