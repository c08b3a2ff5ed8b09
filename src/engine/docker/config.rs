//! The section `docker` of the configuration: the keys of ContainerSSH's `dockerrun`, with the same meaning.

mod launcher;
mod registries;
mod values;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bollard::models::{ContainerCreateBody, HostConfig, NetworkingConfig};
use schemars::JsonSchema;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};

use crate::any_case::{self, Spelling};
use crate::value::{Pem, Section, Span, Timeout, section};

pub use launcher::{Init, Launcher};
pub use registries::{Proof, Registries, Registry, RegistryLogin};
use values::TextOrList;
pub use values::{ContainerName, Endpoint, EngineAddress, IdleCommand, Program};

/// The image that containers are made of unless configured otherwise.
const IMAGE_DEFAULT: &str = "coracle/guest";

/// The Docker Engine and what it runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Docker")]
pub struct Config {
    /// Where the engine answers: `unix://`, `tcp://`, `http://` or `https://`.
    pub host: Endpoint,
    /// PEM text or file: who the engine's certificate must be signed by.
    pub cacert: Pem,
    /// PEM text or file: our certificate.
    pub cert: Pem,
    /// PEM text or file: its private key.
    pub key: Pem,
    /// Who we are to registries that ask, for pulls.
    #[schemars(with = "BTreeMap<String, RegistryLogin>")]
    pub registries: Registries,
    /// What is run.
    #[serde(deserialize_with = "launch_config")]
    pub config: LaunchConfig,
}

/// The container of a connection and the programs in it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Launch")]
pub struct LaunchConfig {
    /// The container, with the fields of the Engine API's `POST /containers/create` in any letter case.
    #[serde(deserialize_with = "container", serialize_with = "container_masked")]
    #[schemars(with = "HashMap<String, serde_json::Value>")]
    pub container: ContainerCreateBody,
    /// Its resources and its place on the host: the fields of `HostConfig`, in any letter case.
    #[serde(deserialize_with = "any_case", serialize_with = "sorted")]
    #[schemars(with = "HashMap<String, serde_json::Value>")]
    pub host: HostConfig,
    /// Its networks: the fields of `NetworkingConfig`, in any letter case.
    #[serde(deserialize_with = "any_case", serialize_with = "sorted")]
    #[schemars(with = "HashMap<String, serde_json::Value>")]
    pub network: NetworkingConfig,
    /// The platform it is made for. Empty: the engine's own.
    #[serde(deserialize_with = "section")]
    pub platform: Platform,
    /// Who shares a container, and for how long it lives.
    pub mode: Mode,
    /// The containers of the mode `persistent`.
    #[serde(deserialize_with = "section")]
    pub persistent: Persistent,
    /// The container's name on the engine, which allows one at a time. Empty: a name for each.
    pub container_name: ContainerName,
    /// Programs behind the names of subsystems (RFC 4254 §6.5).
    #[schemars(with = "BTreeMap<String, TextOrList>")]
    pub subsystems: BTreeMap<String, Program>,
    /// Refuse commands.
    pub disable_command: bool,
    /// Refuse shells.
    pub disable_shell: bool,
    /// Refuse subsystems.
    pub disable_subsystem: bool,
    /// The program of a shell. Empty: the login shell of the image's user, else `/bin/sh`.
    pub shell_command: Vec<String>,
    /// How programs are started in it.
    pub launcher: Launcher,
    /// The first process of containers, where that is ours.
    #[serde(deserialize_with = "section")]
    pub init: Init,
    /// What the container itself runs, instead of the image's entrypoint and command. It has to last.
    pub idle_command: IdleCommand,
    /// When the image is fetched.
    pub image_pull_policy: ImagePullPolicy,
    /// For everything until the container runs.
    pub timeout: Timeout,
}

/// Who shares a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// The sessions of a connection; it goes with the connection.
    #[default]
    Connection,
    /// Nobody: each session has its own, which goes with the session.
    Session,
    /// All connections of a user name; it goes when there was none for `persistent.idleTimeout`.
    Persistent,
}

/// The containers of the mode `persistent`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Persistent {
    /// Time without a connection of the user, after which the container is removed. 0: never.
    pub idle_timeout: Span,
}

/// What the image has to be made for, as the Engine API's `platform` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Platform {
    /// `linux` …
    pub os: String,
    /// `amd64`, `arm64` …
    pub architecture: String,
    /// `v7` …
    pub variant: String,
}

/// When the image is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// For every container.
    Always,
    /// When the engine does not have it, or it is tagged `latest`.
    #[default]
    IfNotPresent,
    /// Not at all.
    Never,
}

impl Config {
    /// Whether we speak TLS with the engine.
    #[must_use]
    pub fn uses_tls(&self) -> bool {
        match self.host {
            Endpoint::Unix(_) | Endpoint::Http(_) => false,
            Endpoint::Tcp(_) => self.cacert.is_set() || self.cert.is_set(),
            Endpoint::Https(_) => true,
        }
    }

    /// Takes relative paths as seen from `folder`.
    pub(crate) fn resolve(&mut self, folder: &Path) {
        for pem in [&mut self.cacert, &mut self.cert, &mut self.key] {
            pem.resolve(folder);
        }
        for login in self.registries.values_mut() {
            login.resolve(folder);
        }
    }
}

impl Section for Config {
    fn check(&self) -> Result<(), String> {
        if self.cert.is_set() != self.key.is_set() {
            return Err("`cert` and `key` go together: set both or none".to_owned());
        }
        if matches!(self.host, Endpoint::Http(_)) && (self.cacert.is_set() || self.cert.is_set()) {
            return Err(format!("`cacert` and `cert` need `https://`, but `host` is `{}`", self.host));
        }
        Ok(())
    }
}

impl Default for LaunchConfig {
    fn default() -> Self {
        let sftp = Program::from("/usr/lib/openssh/sftp-server");
        Self {
            container: ContainerCreateBody { image: Some(IMAGE_DEFAULT.to_owned()), ..Default::default() },
            host: HostConfig::default(),
            network: NetworkingConfig::default(),
            platform: Platform::default(),
            mode: Mode::default(),
            persistent: Persistent::default(),
            container_name: ContainerName::default(),
            subsystems: BTreeMap::from([("sftp".to_owned(), sftp)]),
            disable_command: false,
            disable_shell: false,
            disable_subsystem: false,
            shell_command: Vec::new(),
            launcher: Launcher::default(),
            init: Init::default(),
            idle_command: IdleCommand::default(),
            image_pull_policy: ImagePullPolicy::default(),
            timeout: Timeout::from_seconds(60),
        }
    }
}

impl Default for Persistent {
    fn default() -> Self {
        Self { idle_timeout: Span::from_seconds(60 * 60) }
    }
}

impl Section for Persistent {}

impl Section for Platform {
    fn check(&self) -> Result<(), String> {
        if self.os.is_empty() && !(self.architecture.is_empty() && self.variant.is_empty()) {
            return Err("`platform` needs `os`, such as `linux`".to_owned());
        }
        if self.architecture.is_empty() && !self.variant.is_empty() {
            return Err("`variant` needs `architecture`, such as `arm`".to_owned());
        }
        Ok(())
    }
}

impl LaunchConfig {
    /// The image that containers are made of.
    #[must_use]
    pub fn image(&self) -> &str {
        self.container.image.as_deref().unwrap_or(IMAGE_DEFAULT)
    }
}

impl Platform {
    /// As the Engine API takes it: `os[/architecture[/variant]]`, empty for the engine's own.
    #[must_use]
    pub fn query(&self) -> String {
        let parts = [self.os.as_str(), &self.architecture, &self.variant];
        parts.into_iter().take_while(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }
}

/// What of the container's fields is ours or has its place elsewhere.
const CONTAINER_FIELDS: Spelling = Spelling {
    refused: &[
        ("Cmd", "the container itself only idles; `idleCommand` says how, `shellCommand` what a shell is"),
        ("Entrypoint", "`idleCommand` replaces the image's entrypoint and command"),
        ("HostConfig", "its place is `docker.config.host`"),
        ("NetworkingConfig", "its place is `docker.config.network`"),
    ],
    ..Spelling::ANY_CASE
};

/// ContainerSSH's spelling of the one key that it does not write in camel case.
const LAUNCH_KEYS: Spelling =
    Spelling { any_case: false, renamed: &[("containername", "containerName")], refused: &[] };

/// Reads `docker.config`.
///
/// # Errors
/// What is not right in it.
pub fn launch_config<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LaunchConfig, D::Error> {
    any_case::read(deserializer, &LAUNCH_KEYS)
}

fn any_case<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    any_case::read(deserializer, &Spelling::ANY_CASE)
}

fn container<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ContainerCreateBody, D::Error> {
    let mut body: ContainerCreateBody = any_case::read(deserializer, &CONTAINER_FIELDS)?;
    let image = body.image.get_or_insert_with(|| IMAGE_DEFAULT.to_owned());
    if image.trim().is_empty() {
        return Err(D::Error::custom("`image` must name an image"));
    }
    Ok(body)
}

/// For `config show`: environment variables are where passwords are.
fn container_masked<S: Serializer>(body: &ContainerCreateBody, serializer: S) -> Result<S::Ok, S::Error> {
    let mut shown = body.clone();
    for variable in shown.env.iter_mut().flatten() {
        if let Some((name, _)) = variable.split_once('=') {
            *variable = format!("{name}=***");
        }
    }
    sorted(&shown, serializer)
}

/// The engine's maps have no order; what people read should have one.
fn sorted<T: Serialize, S: Serializer>(fields: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let fields = serde_json::to_value(fields).map_err(serde::ser::Error::custom)?;
    fields.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A deserializer that only tells which fields are asked for.
    struct FieldNames(Vec<&'static str>);

    impl<'de> Deserializer<'de> for &mut FieldNames {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(Error::custom("not a struct"))
        }

        fn deserialize_struct<V: serde::de::Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend(fields);
            Err(Error::custom("nothing in it"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn fields_of<'de, T: Deserialize<'de>>() -> Vec<&'static str> {
        let mut names = FieldNames(Vec::new());
        assert!(T::deserialize(&mut names).is_err());
        names.0
    }

    #[test]
    fn every_field_of_the_engines_api_is_known_in_any_case() {
        let refused: Vec<_> = CONTAINER_FIELDS.refused.iter().map(|(name, _)| *name).collect();
        let sections = [
            ("container", fields_of::<ContainerCreateBody>(), 22),
            ("host", fields_of::<HostConfig>(), 60),
            ("network", fields_of::<NetworkingConfig>(), 1),
        ];
        for (section, fields, fields_min) in sections {
            assert!(fields.len() >= fields_min, "{section}: {fields:?}");
            for name in fields.into_iter().filter(|name| !refused.contains(name)) {
                for spelled in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                    let text = format!(r#"{{"{section}": {{"{spelled}": null}}}}"#);
                    let read = serde_json::from_str::<LaunchConfig>(&text);
                    assert!(read.is_ok(), "{text}: {read:?}");
                }
            }
        }
    }

    #[test]
    fn an_endpoint_is_a_socket_or_an_address() {
        let endpoint = |text: &str| text.parse::<Endpoint>();

        for text in [
            "unix:///run/docker.sock",
            "tcp://10.0.0.1:2376",
            "http://[::1]:80",
            "https://docker.example:2376",
        ] {
            assert_eq!(endpoint(text).map(|endpoint| endpoint.to_string()).as_deref(), Ok(text));
        }
        let tcp = |text: &str| match endpoint(text) {
            Ok(Endpoint::Tcp(address)) => (address.host().to_owned(), address.port()),
            other => panic!("{other:?}"),
        };
        assert_eq!(tcp("tcp://h:1/"), ("h".to_owned(), Some(1)));
        assert_eq!(tcp("tcp://engine"), ("engine".to_owned(), None));
        assert_eq!(tcp("tcp://[::1]:99"), ("::1".to_owned(), Some(99)));
        for text in [
            "",
            "/run/docker.sock",
            "unix://run/docker.sock",
            "tcp://",
            "tcp://h:1/path",
            "ssh://h",
            "http://u@h",
            "http://h:1@h:1",
            "tcp://h:",
            "tcp://:2375",
            "tcp://h:99999",
            "tcp://::1",
        ] {
            assert!(endpoint(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_platform_is_as_exact_as_it_is_configured() {
        let platform = |os: &str, architecture: &str, variant: &str| {
            Platform { os: os.into(), architecture: architecture.into(), variant: variant.into() }.query()
        };

        assert_eq!(platform("", "", ""), "");
        assert_eq!(platform("linux", "", ""), "linux");
        assert_eq!(platform("linux", "arm", "v7"), "linux/arm/v7");
    }
}
