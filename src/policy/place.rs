//! Patterns for what is dialled and listened on: hosts with ports, and paths.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::glob::{self, Text};
use crate::value::written_as_text;

/// Bytes of a host's name (RFC 1035 §2.3.4).
pub(super) const HOST_BYTES_MAX: usize = 255;
/// Bytes of the path of a socket (unix(7): `sun_path`, without its NUL).
pub(super) const PATH_BYTES_MAX: usize = 107;

/// `host:port` in a pattern, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot<'a> {
    /// Without brackets.
    pub(super) host: &'a str,
    /// `None`: any.
    pub(super) port: Option<u16>,
}

/// What may be dialled: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct DialPattern {
    host: String,
    port: Option<u16>,
}

/// What may be listened on: `[host:]port`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("type" = ["string", "integer"]))]
pub struct ListenPattern {
    host: String,
    port: Option<u16>,
}

/// Sockets of the file system that may be dialled and listened on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^/"))]
pub struct PathPattern(String);

impl<'a> Spot<'a> {
    /// Reads `host:port`, where an IPv6 address stands in brackets. As to the host, only that brackets are closed is seen to.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once("]:")?,
            None => text.split_once(':')?,
        };
        Some(Self { host, port: port_of(port)? })
    }

    fn has_port(&self, port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port)
    }

    /// With wildcards in the host.
    pub(super) fn fits(&self, host: &str, port: u16) -> bool {
        self.has_port(port) && glob::fits(self.host, host, Text::Host)
    }

    /// As sshd takes `permitopen`, where only `*` by itself is a wildcard.
    pub(super) fn fits_without_globs(&self, host: &str, port: u16) -> bool {
        self.has_port(port) && (self.host == "*" || self.host.eq_ignore_ascii_case(host))
    }
}

impl DialPattern {
    pub(super) fn fits(&self, host: &str, port: u16) -> bool {
        Spot { host: &self.host, port: self.port }.fits(host, port)
    }

    /// Whether it says who it means: some of the host's name, not wildcards alone.
    pub(super) fn names(&self) -> bool {
        self.host.contains(|letter: char| !matches!(letter, '*' | '?' | '.' | ':'))
    }
}

impl ListenPattern {
    pub(super) fn fits(&self, host: &str, port: u16) -> bool {
        Spot { host: &self.host, port: self.port }.fits(host, port)
    }

    /// Whether this very host stands in it.
    pub(super) fn names(&self, host: &str) -> bool {
        !glob::is_wild(&self.host) && self.host.eq_ignore_ascii_case(host)
    }
}

impl PathPattern {
    pub(super) fn fits(&self, path: &str) -> bool {
        glob::fits(&self.0, path, Text::Path)
    }
}

/// What is wrong with a path for a socket, if something is.
pub(super) fn fault_of_path(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        Some("it is not absolute")
    } else if path.len() > PATH_BYTES_MAX {
        Some("it has more than 107 bytes")
    } else if path.contains(char::is_control) {
        Some("there is a control character in it")
    } else if path.split('/').any(|part| part == "." || part == "..") {
        Some("there is a `.` or `..` in it")
    } else {
        None
    }
}

/// What is wrong with a host's name, if something is. `%` is what a zone begins with (RFC 4007 §11): an interface of the
/// container's is nobody's to choose.
pub(super) fn fault_of_host(host: &str) -> Option<&'static str> {
    if host.len() > HOST_BYTES_MAX {
        Some("its name has more than 255 bytes")
    } else if host.contains(|letter: char| letter.is_control() || letter.is_whitespace()) {
        Some("there is a space or a control character in its name")
    } else if host.contains('%') {
        Some("there is a zone in its address")
    } else {
        None
    }
}

/// A port, where the inner `None` is `*`.
#[expect(clippy::option_option, reason = "a port that is none, and any port")]
fn port_of(text: &str) -> Option<Option<u16>> {
    if text == "*" {
        return Some(None);
    }
    let digits = !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_digit());
    if digits { text.parse().ok().map(Some) } else { None }
}

/// A host of a pattern, as an error says it.
fn check_host(host: &str) -> Result<(), String> {
    if let Some(fault) = fault_of_host(host) {
        return Err(format!("no host fits `{host}`: {fault}"));
    }
    if host.contains(['[', ']', '/']) {
        return Err(format!(
            "no host fits `{host}`: expected a name, an address or `*`, without a network's `/`"
        ));
    }
    Ok(())
}

/// The host that stands in front of a port with more than one `:` before it needs brackets.
fn without_brackets(text: &str) -> bool {
    !text.starts_with('[') && text.matches(':').count() > 1
}

impl FromStr for DialPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("expected `host:port` such as `db:5432`, `*:443` or `[::1]:*`, not `{text}`{why}")
        };
        if without_brackets(text) {
            return Err(wrong("; an IPv6 address stands in brackets"));
        }
        let Some(spot) = Spot::parse(text).filter(|spot| !spot.host.is_empty()) else {
            return Err(wrong("; a port is a number from 1 to 65535 or `*`"));
        };
        if spot.port == Some(0) {
            return Err(wrong("; a port is a number from 1 to 65535 or `*`"));
        }
        check_host(spot.host)?;
        Ok(Self { host: spot.host.to_owned(), port: spot.port })
    }
}

impl FromStr for ListenPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "expected `[host:]port` such as `8080`, `localhost:*` or `0.0.0.0:9000`, not `{text}`{why}"
            )
        };
        if without_brackets(text) {
            return Err(wrong("; an IPv6 address stands in brackets"));
        }
        let spot = if text.contains(':') {
            Spot::parse(text)
        } else {
            // A port alone may be listened on at any address.
            port_of(text).map(|port| Spot { host: "*", port })
        };
        let spot = spot.ok_or_else(|| wrong("; a port is a number from 0 to 65535 or `*`"))?;
        check_host(spot.host)?;
        Ok(Self { host: spot.host.to_owned(), port: spot.port })
    }
}

impl FromStr for PathPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match fault_of_path(text) {
            Some(fault) => {
                Err(format!("expected a path such as `/run/x.sock` or `/tmp/*`, not `{text}`: {fault}"))
            }
            None => Ok(Self(text.to_owned())),
        }
    }
}

fn write(f: &mut fmt::Formatter<'_>, host: &str, port: Option<u16>) -> fmt::Result {
    if host.contains(':') {
        write!(f, "[{host}]:")?;
    } else {
        write!(f, "{host}:")?;
    }
    match port {
        None => f.write_str("*"),
        Some(port) => write!(f, "{port}"),
    }
}

impl fmt::Display for DialPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, &self.host, self.port)
    }
}

impl fmt::Display for ListenPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, &self.host, self.port)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text! { DialPattern ListenPattern PathPattern }
