//! Who may come in: neutral attempts in, verdicts out. Knows neither russh nor what happens after a login.

mod authorized_keys;
pub mod config;
mod door;
mod login;
mod methods;
mod password;
mod proofs;
mod totp;
mod users;

pub use crate::hook::Facts;
pub use authorized_keys::AuthorizedKeys;
pub use config::Config;
pub use door::{Answer, Caller, Door, Evidence};
pub use login::Login;
pub use methods::{Method, Methods, Requirement};
pub use password::{PASSWORD_BYTES_MAX, PasswordChecker, PasswordHash};
pub use proofs::hook_caller;
pub use totp::{TimeStep, TotpBook, TotpFileError, TotpSecret};
pub use users::{Group, User};

/// A public key as it travels (RFC 4253 §6.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The encoded key, algorithm name included.
    pub blob: Vec<u8>,
    /// `SHA256:…`
    pub fingerprint: String,
}
