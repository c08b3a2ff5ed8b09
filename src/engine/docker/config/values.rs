//! Values of the section `docker` that have rules of their own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hyper::http::uri::Authority;
use schemars::JsonSchema;
use serde::de::value::{SeqAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::value::written_as_text;

/// Where an engine answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Endpoint {
    /// `unix://`: a socket's path.
    Unix(PathBuf),
    /// `tcp://host:port`: HTTP, or HTTPS when a certificate is configured.
    Tcp(EngineAddress),
    /// `http://host:port`.
    Http(EngineAddress),
    /// `https://host:port`.
    Https(EngineAddress),
}

/// A host, and a port where it is not the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineAddress {
    /// An IPv6 address without its brackets.
    host: String,
    port: Option<u16>,
}

/// A container's name, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ContainerName(String);

/// A program and its arguments; never empty. In YAML a string (the program alone) or a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Program(Vec<String>);

/// One text, or a list of them.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum TextOrList {
    Text(String),
    List(#[schemars(length(min = 1))] Vec<String>),
}

/// The program that keeps the container alive; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[schemars(with = "Vec<String>")]
pub struct IdleCommand(Vec<String>);

impl Default for Endpoint {
    fn default() -> Self {
        Self::Unix(PathBuf::from("/var/run/docker.sock"))
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("", text));
        // Something behind the authority would be a path, which no engine has.
        let address = || EngineAddress::parse(rest.strip_suffix('/').unwrap_or(rest));
        let endpoint = match scheme {
            "unix" => Path::new(rest).is_absolute().then(|| Self::Unix(PathBuf::from(rest))),
            "tcp" => address().map(Self::Tcp),
            "http" => address().map(Self::Http),
            "https" => address().map(Self::Https),
            _ => None,
        };
        endpoint.ok_or_else(|| {
            format!(
                "expected `unix:///path/to/socket`, `tcp://host:port`, `http://host:port` or `https://host:port`, \
                 not `{text}`"
            )
        })
    }
}

impl EngineAddress {
    /// `host`, `host:port` or `[IPv6]:port`.
    fn parse(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let host = authority.host();
        // Neither a user before the host nor an odd port behind it.
        let port = match authority.as_str().strip_prefix(host)? {
            "" => None,
            rest => Some(rest.strip_prefix(':')?.parse().ok()?),
        };
        let host = host.trim_matches(['[', ']']);
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }

    /// A name or an IP address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if one is configured.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]", self.host) } else { f.write_str(&self.host) }?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
            Self::Http(authority) => write!(f, "http://{authority}"),
            Self::Https(authority) => write!(f, "https://{authority}"),
        }
    }
}

impl ContainerName {
    /// The name, if one is configured.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&self.0)
    }
}

impl FromStr for ContainerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sound = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'.' | b'-');
        let starts_well = text.starts_with(|letter: char| letter.is_ascii_alphanumeric());
        if text.is_empty() || (text.len() > 1 && starts_well && text.bytes().all(sound)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "expected a container's name: two or more of letters, digits, `_`, `.`, `-`, not `{text}`"
            ))
        }
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text! { Endpoint ContainerName }

impl Program {
    /// The program and its arguments.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.0
    }
}

impl From<&str> for Program {
    fn from(program: &str) -> Self {
        Self(vec![program.to_owned()])
    }
}

impl<'de> Deserialize<'de> for Program {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrListVisitor;

        impl<'de> Visitor<'de> for TextOrListVisitor {
            type Value = Vec<String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a program, or a list of a program and its arguments")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Vec<String>, E> {
                let text: StrDeserializer<'_, E> = text.into_deserializer();
                String::deserialize(text).map(|program| vec![program])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<String>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list))
            }
        }

        let args = deserializer.deserialize_any(TextOrListVisitor)?;
        match args.first() {
            Some(program) if !program.is_empty() => Ok(Self(args)),
            _ => Err(D::Error::custom("expected a program, not nothing")),
        }
    }
}

impl Default for IdleCommand {
    fn default() -> Self {
        // `sleep` in the background, so that the shell, as PID 1, obeys `docker stop` at once.
        let script = r#"sleep infinity & PID=$!; trap "kill $PID" INT TERM; wait"#;
        Self(["/bin/sh", "-c", script].map(str::to_owned).into())
    }
}

impl IdleCommand {
    /// The program and its arguments.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for IdleCommand {
    type Error = &'static str;

    fn try_from(args: Vec<String>) -> Result<Self, Self::Error> {
        match args.first() {
            Some(program) if !program.is_empty() => Ok(Self(args)),
            _ => Err("expected a program that lasts: a container lives no longer than it"),
        }
    }
}

impl From<IdleCommand> for Vec<String> {
    fn from(command: IdleCommand) -> Self {
        command.0
    }
}
