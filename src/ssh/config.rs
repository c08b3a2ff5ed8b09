//! The section `ssh` of the configuration.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Section, Span, section, written_as_text};

/// How we listen and what we tell clients before they log in.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Ssh")]
pub struct Config {
    /// Address and port; port 0 lets the system choose one.
    pub listen: Listen,
    /// Private key files in OpenSSH's or PEM format. Empty: an Ed25519 key is generated under the state folder.
    pub host_keys: Vec<PathBuf>,
    /// Text that clients show before they log in (RFC 4252 §5.4).
    pub banner: String,
    /// How a silent client is found out.
    #[serde(deserialize_with = "section")]
    pub keep_alive: KeepAlive,
    /// Time to log in, from the TCP connection on. 0: no limit.
    pub login_grace_time: Span,
}

/// How a silent client is found out: it is cut off after `interval` × `maxMissed`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct KeepAlive {
    /// Silence after which we ask whether the client is there. 0: we never ask.
    pub interval: Span,
    /// Questions without an answer before the connection is given up.
    pub max_missed: MaxMissed,
}

/// 1 to 1000 questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "u16", into = "u16")]
pub struct MaxMissed(#[schemars(range(min = 1, max = 1000))] u16);

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Listen(SocketAddr);

impl Section for Config {}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen(SocketAddr::from(([127, 0, 0, 1], 2222))),
            host_keys: Vec::new(),
            banner: String::new(),
            keep_alive: KeepAlive::default(),
            login_grace_time: Span::from_seconds(30),
        }
    }
}

impl Config {
    /// Takes relative paths as seen from `folder`.
    pub(crate) fn resolve(&mut self, folder: &Path) {
        for path in &mut self.host_keys {
            *path = folder.join(&path);
        }
    }
}

impl Section for KeepAlive {}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { interval: Span::from_seconds(15), max_missed: MaxMissed(3) }
    }
}

impl MaxMissed {
    /// The number; never zero.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for MaxMissed {
    type Error = String;

    fn try_from(count: u16) -> Result<Self, String> {
        match count {
            1..=1000 => Ok(Self(count)),
            _ => Err(format!("expected 1 to 1000, not {count}; `interval: 0` switches keep-alive off")),
        }
    }
}

impl From<MaxMissed> for u16 {
    fn from(count: MaxMissed) -> Self {
        count.0
    }
}

impl Listen {
    /// The address.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.trim().parse().map(Self);
        address.map_err(|_| {
            format!("expected an IP address and a port, such as `0.0.0.0:2222` or `[::]:22`, not `{text}`")
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

written_as_text! { Listen }
