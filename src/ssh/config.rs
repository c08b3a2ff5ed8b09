//! The section `ssh` of the configuration.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::Network;
use crate::value::{Section, Span, Timeout, section, written_as_text};

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
    /// Connections that have not logged in yet, all clients together.
    #[serde(deserialize_with = "section")]
    pub max_startups: MaxStartups,
    /// How clients that misbehave before a login are kept away for a while.
    #[serde(deserialize_with = "section")]
    pub penalties: Penalties,
    /// Proxies in front of us that tell the address of the client.
    #[serde(deserialize_with = "section")]
    pub proxy_protocol: ProxyProtocol,
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

/// Bounds on connections that have not logged in yet: from `start` on one more costs one with a chance of `rate`
/// percent, which grows to certainty at `full`. The client with the most of them loses it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct MaxStartups {
    /// Up to so many everybody is let in.
    pub start: u16,
    /// The chance at `start`, in percent.
    pub rate: Percent,
    /// There are never more.
    pub full: u16,
}

/// 1 to 100 percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "u8", into = "u8")]
pub struct Percent(#[schemars(range(min = 1, max = 100))] u8);

/// What clients do wrong before a login adds up, per IPv4 address or IPv6 network of 64 bits, and is served by waiting.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Penalties {
    /// Whether there are any.
    pub enabled: bool,
    /// For each wrong password, wrong code, or signature by a key that is not known. 0: none.
    pub auth_failure: Span,
    /// For a connection that ends without any attempt to log in. 0: none.
    pub no_auth: Span,
    /// For a connection that has not logged in when `loginGraceTime` is over. 0: none.
    pub grace_exceeded: Span,
    /// Who has so much to serve is refused until it is served.
    pub min: Span,
    /// The most that anybody has to serve.
    pub max: Timeout,
    /// Networks that are never punished.
    pub exempt: Vec<Network>,
}

/// Proxies in front of us that tell the address of the client.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// Networks from which every connection has to begin with a PROXY protocol header, version 1 or 2. Empty: none.
    pub trusted: Vec<Network>,
}

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
            max_startups: MaxStartups::default(),
            penalties: Penalties::default(),
            proxy_protocol: ProxyProtocol::default(),
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

impl Section for MaxStartups {
    fn check(&self) -> Result<(), String> {
        let Self { start, full, .. } = self;
        if *full == 0 {
            return Err("`full` must be over 0, or nobody can log in".to_owned());
        }
        if start > full {
            return Err(format!("`start` ({start}) must not be over `full` ({full})"));
        }
        Ok(())
    }
}

impl Default for MaxStartups {
    /// OpenSSH's 10:30:100 would refuse scripts that log in 50 times at once from one address, which is what they come
    /// here for. A connection costs us some 50 KB before its login, no process, so that there may be more of them.
    fn default() -> Self {
        Self { start: 100, rate: Percent(30), full: 300 }
    }
}

impl Percent {
    /// The number; 1 to 100.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Percent {
    type Error = String;

    fn try_from(percent: u8) -> Result<Self, String> {
        match percent {
            1..=100 => Ok(Self(percent)),
            _ => Err(format!("expected 1 to 100 percent, not {percent}")),
        }
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

impl Section for Penalties {
    fn check(&self) -> Result<(), String> {
        let Self { min, max, .. } = self;
        if min.get() > max.get() {
            return Err(format!("`min` ({min}) must not be over `max` ({max})"));
        }
        Ok(())
    }
}

impl Default for Penalties {
    /// About OpenSSH's own. Loopback is exempt: behind a local proxy that hides its clients' addresses, one of them could
    /// lock all others out.
    fn default() -> Self {
        Self {
            enabled: true,
            auth_failure: Span::from_seconds(2),
            no_auth: Span::from_seconds(1),
            grace_exceeded: Span::from_seconds(10),
            min: Span::from_seconds(15),
            max: Timeout::from_seconds(10 * 60),
            exempt: Network::loopback().to_vec(),
        }
    }
}

impl Section for ProxyProtocol {}

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
