//! Who may come in: neutral attempts in, verdicts out. Knows neither russh nor what happens after a login.

mod authorities;
mod authorized_keys;
mod certificate;
pub mod config;
mod door;
mod expiry;
mod file;
mod key_lines;
mod key_options;
mod krl;
mod login;
mod methods;
mod password;
mod proofs;
mod revocation;
mod revoked_text;
mod source;
mod totp;
mod users;
mod wire;

pub use crate::hook::Facts;
pub use authorities::{Account, Authorities};
pub use authorized_keys::AuthorizedKeys;
pub use certificate::{
    Certificate, CertificateDenied, CertificateError, CertificateGrant, CertificateKind, Principal, Trust,
    judge as judge_certificate,
};
pub use config::Config;
pub use door::{Answer, Caller, Door, Evidence};
pub use key_lines::{
    AuthorityLine, AuthorizedKeyLine, Look, PassedOver, Reason, find_authorities, find_key, has_authorities,
};
pub use key_options::{Circumstances, KeyOptions, OptionError, Refusal};
pub use krl::KrlError;
pub use login::Login;
pub use methods::{Method, Methods, Requirement};
pub use password::{PASSWORD_BYTES_MAX, PasswordChecker, PasswordHash};
pub use proofs::hook_caller;
pub use revocation::{RevocationError, RevocationList, Revoked, RevokedKeys};
pub use source::{SourceError, SourceList};
pub use totp::{TimeStep, TotpBook, TotpFileError, TotpSecret};
pub use users::{Group, User};
pub use wire::WeakKey;

/// A public key as it travels (RFC 4253 §6.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The encoded key, algorithm name included.
    pub blob: Vec<u8>,
    /// `SHA256:…`
    pub fingerprint: String,
}

#[cfg(test)]
mod keygen_tests;
