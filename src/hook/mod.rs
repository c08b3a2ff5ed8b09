//! Web hooks: services of the operator's that are asked about logins and for configuration, in the words of
//! ContainerSSH's. Knows HTTP and JSON; what follows from an answer is decided elsewhere.

mod client;
pub mod config;
mod delivery;
mod facts;
mod merge;
mod wire;

use std::fmt;
use std::net::SocketAddr;

use serde_json::Value;

use self::client::{Reply, Service};
use self::config::WebhookConfig;
pub use self::delivery::{Delivery, Undelivered};
pub use self::facts::{Facts, Marked};
pub use self::merge::merge;
use crate::ids::{ConnectionId, Username};
use crate::secret::Secret;
pub use crate::tls::CertificateError;

/// Longest answer about a login, in bytes.
const VERDICT_BYTES_MAX: usize = 1 << 20;
/// Longest answer of the configuration hook, in bytes.
const CONFIG_BYTES_MAX: usize = 4 << 20;

/// Who logs in, as far as it is known before.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name that is logged in with.
    pub username: Username,
    /// Where the client is.
    pub remote_address: SocketAddr,
    /// The SSH connection.
    pub connection_id: ConnectionId,
    /// The client's version string (RFC 4253 §4.2), such as `SSH-2.0-OpenSSH_9.9`.
    pub client_version: String,
}

/// Whether a hook lets somebody in.
#[derive(Debug)]
pub enum HookVerdict {
    /// Yes, and what it says about them.
    Accept(Facts),
    /// No.
    Deny(Denial),
}

/// How a hook said no. Shown in the log: a 404 is rather a wrong address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// By an answer without `"success": true`.
    Answer,
    /// By this HTTP status, a 4xx.
    Status(u16),
}

/// What the configuration hook answered.
#[derive(Debug)]
pub struct ConfigAnswer {
    /// The object `config`; see [`merge`].
    pub config: Secret<Value>,
    /// What it says about the user besides.
    pub facts: Facts,
}

/// Why a hook said neither yes nor no. Nobody gets in on account of that.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// There is nobody to ask.
    #[error("no `url` is configured")]
    NoAddress,
    /// A certificate or key of the configuration.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be set up: {reason}")]
    NoClient {
        /// What is in the way.
        reason: String,
    },
    /// The question could not be put into words.
    #[error("the question cannot be written as JSON: {reason}")]
    BadQuestion {
        /// What is in the way.
        reason: String,
    },
    /// Within the time-out no try had an answer but HTTP 5xx.
    #[error("the hook `{url}` gave no answer in {tries} tries, the last time: {reason}")]
    NoAnswer {
        /// Whom we asked.
        url: String,
        /// How often.
        tries: u32,
        /// What became of the last try.
        reason: String,
    },
    /// It cannot be understood, is too long, or says what must not be.
    #[error("the hook `{url}` cannot be used: {reason}")]
    BadAnswer {
        /// Whom we asked.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The configuration hook refuses: HTTP 4xx.
    #[error("the hook `{url}` refuses with HTTP {status}")]
    Refused {
        /// Whom we asked.
        url: String,
        /// A 4xx.
        status: u16,
    },
}

/// Asks whether a password is right: `POST {url}/password`.
#[derive(Debug)]
pub struct PasswordHook(Service);

/// Asks whether a public key is the user's: `POST {url}/pubkey`. Whether the client holds it is proven elsewhere.
#[derive(Debug)]
pub struct PublicKeyHook(Service);

/// Asks whether somebody who has proven who they are may come in: `POST {url}/authz`.
#[derive(Debug)]
pub struct AuthzHook(Service);

/// Asks for the configuration of one connection: `POST {url}`.
#[derive(Debug)]
pub struct ConfigHook(Service);

impl PasswordHook {
    /// A hook with connections of its own.
    ///
    /// # Errors
    /// No address is configured, or a certificate or key cannot be used.
    pub fn new(config: &WebhookConfig) -> Result<Self, HookError> {
        Service::new(config, "password").map(Self)
    }

    /// Asks, again and again while it may help. Cancel safe: a question that is dropped is not asked again.
    ///
    /// # Errors
    /// The hook said neither yes nor no.
    pub async fn ask(&self, caller: &Caller, password: &Secret<String>) -> Result<HookVerdict, HookError> {
        self.0.verdict(wire::password_request(caller, password)).await
    }
}

impl PublicKeyHook {
    /// A hook with connections of its own.
    ///
    /// # Errors
    /// No address is configured, or a certificate or key cannot be used.
    pub fn new(config: &WebhookConfig) -> Result<Self, HookError> {
        Service::new(config, "pubkey").map(Self)
    }

    /// Asks about a key in the format of `authorized_keys`, such as `ssh-ed25519 AAAA…`. Cancel safe.
    ///
    /// # Errors
    /// The hook said neither yes nor no.
    pub async fn ask(&self, caller: &Caller, openssh_public_key: &str) -> Result<HookVerdict, HookError> {
        self.0.verdict(wire::public_key_request(caller, openssh_public_key)).await
    }
}

impl AuthzHook {
    /// A hook with connections of its own.
    ///
    /// # Errors
    /// No address is configured, or a certificate or key cannot be used.
    pub fn new(config: &WebhookConfig) -> Result<Self, HookError> {
        Service::new(config, "authz").map(Self)
    }

    /// Asks about a user of whom this much is known. Where that has no `authenticated_username`, it is the caller's.
    /// What is marked as sensitive is not sent. Cancel safe.
    ///
    /// # Errors
    /// The hook said neither yes nor no.
    pub async fn ask(&self, caller: &Caller, known: &Facts) -> Result<HookVerdict, HookError> {
        self.0.verdict(wire::authz_request(caller, known)).await
    }
}

impl ConfigHook {
    /// A hook with connections of its own.
    ///
    /// # Errors
    /// No address is configured, or a certificate or key cannot be used.
    pub fn new(config: &WebhookConfig) -> Result<Self, HookError> {
        Service::new(config, "").map(Self)
    }

    /// Asks what holds for a connection whose user has come in, of whom this much is known. What is marked as
    /// sensitive is not sent. Cancel safe.
    ///
    /// # Errors
    /// There is no configuration: the hook refused, or did not answer.
    pub async fn ask(&self, caller: &Caller, known: &Facts) -> Result<ConfigAnswer, HookError> {
        let service = &self.0;
        match service.ask(question(wire::config_request(caller, known))?, CONFIG_BYTES_MAX).await? {
            Reply::Answer(body) => parse_config(&body).map_err(|reason| service.bad_answer(reason)),
            Reply::Refusal(status) => Err(HookError::Refused { url: service.shown().to_owned(), status }),
        }
    }
}

impl Service {
    async fn verdict(&self, request: serde_json::Result<Vec<u8>>) -> Result<HookVerdict, HookError> {
        match self.ask(question(request)?, VERDICT_BYTES_MAX).await? {
            Reply::Answer(body) => parse_verdict(&body).map_err(|reason| self.bad_answer(reason)),
            Reply::Refusal(status) => Ok(HookVerdict::Deny(Denial::Status(status))),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer => f.write_str("the hook answered without success"),
            Self::Status(status) => write!(f, "the hook answered with HTTP {status}"),
        }
    }
}

/// Reads the body of an answer about a login.
///
/// # Errors
/// What is wrong with it, without a value of it.
pub fn parse_verdict(body: &[u8]) -> Result<HookVerdict, String> {
    let wire::Answer { success, facts } = wire::read_answer(body)?;
    Ok(if success { HookVerdict::Accept(facts) } else { HookVerdict::Deny(Denial::Answer) })
}

/// Reads the body of an answer of the configuration hook.
///
/// # Errors
/// What is wrong with it, without a value of it.
pub fn parse_config(body: &[u8]) -> Result<ConfigAnswer, String> {
    let (config, facts) = wire::read_config(body)?;
    Ok(ConfigAnswer { config: Secret::new(config), facts })
}

fn question(request: serde_json::Result<Vec<u8>>) -> Result<Vec<u8>, HookError> {
    request.map_err(|error| HookError::BadQuestion { reason: error.to_string() })
}

#[cfg(test)]
mod tests;
