//! The configuration as a whole: one YAML file. Each section is a type of the module that it configures; if a
//! file parsed, it is valid.

mod error;
mod merged;
mod place;
mod profiles;
mod suggest;
mod warm;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use error::Complaint;
pub use error::ConfigError;
pub use profiles::{Profile, ProfileDocker, ProfileName, Source};
use serde_saphyr::Error as YamlError;

use crate::any_case::{self, Spelling};
use crate::hook::config::{WebhookConfig, webhook};
use crate::value::section;
use crate::{
    audit, auth, control, engine, metrics, policy, pool, recording, session, shutdown, ssh, telemetry, traces,
};

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Config {
    /// How we listen and what we tell clients before they log in.
    #[serde(deserialize_with = "section")]
    pub ssh: ssh::config::Config,
    /// How clients prove who they are.
    #[serde(deserialize_with = "section")]
    pub auth: auth::config::Config,
    /// Which environment variables a client may set.
    #[serde(deserialize_with = "section")]
    pub env: policy::config::EnvConfig,
    /// What users may do.
    #[serde(deserialize_with = "section")]
    pub policy: policy::config::PolicyConfig,
    /// The Docker Engine and what it runs.
    #[serde(deserialize_with = "section")]
    pub docker: engine::docker::Config,
    /// What containers may do where `docker.config` does not say.
    pub sandbox: engine::docker::Sandbox,
    /// Settings of `docker.config` that open the engine's host to users, and are meant.
    pub allow_dangerous: Vec<engine::docker::Danger>,
    /// Containers that wait, started, for somebody to log in.
    #[serde(deserialize_with = "section")]
    pub pool: pool::config::Config,
    /// How much one connection, and all of them together, may take.
    #[serde(deserialize_with = "section")]
    pub limits: session::config::Limits,
    /// A web service that is asked what a connection gets, besides all this.
    #[serde(deserialize_with = "webhook")]
    pub configserver: WebhookConfig,
    /// What some users get instead, by the profile's name.
    pub profiles: BTreeMap<ProfileName, Profile>,
    /// What is kept of sessions, to be played back.
    #[serde(deserialize_with = "section")]
    pub recording: recording::Config,
    /// What is written down of all that happens, for those who have to answer for it.
    #[serde(deserialize_with = "section")]
    pub audit: audit::Config,
    /// How the server ends.
    #[serde(deserialize_with = "section")]
    pub shutdown: shutdown::Config,
    /// Folder for what has to outlive the process: generated host keys, this installation's id.
    pub state_dir: PathBuf,
    /// How the server is asked what it does, and told what to do.
    #[serde(deserialize_with = "section")]
    pub control: control::Config,
    /// What is logged, and how.
    #[serde(deserialize_with = "section")]
    pub log: telemetry::Config,
    /// Where numbers about the server, and how it does, can be asked for.
    #[serde(deserialize_with = "section")]
    pub metrics: metrics::Config,
    /// What becomes of each connection, for a collector of traces.
    #[serde(deserialize_with = "section")]
    pub traces: traces::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ssh: ssh::config::Config::default(),
            auth: auth::config::Config::default(),
            env: policy::config::EnvConfig::default(),
            policy: policy::config::PolicyConfig::default(),
            docker: engine::docker::Config::default(),
            sandbox: engine::docker::Sandbox::default(),
            allow_dangerous: Vec::new(),
            pool: pool::config::Config::default(),
            limits: session::config::Limits::default(),
            configserver: WebhookConfig::default(),
            profiles: BTreeMap::new(),
            recording: recording::Config::default(),
            audit: audit::Config::default(),
            shutdown: shutdown::Config::default(),
            state_dir: PathBuf::from("/var/lib/coracle"),
            control: control::Config::default(),
            log: telemetry::Config::default(),
            metrics: metrics::Config::default(),
            traces: traces::Config::default(),
        }
    }
}

/// ContainerSSH's name of the section is understood.
const SECTIONS: Spelling = Spelling { any_case: false, renamed: &[("dockerrun", "docker")], refused: &[] };

/// Far more than any configuration has; what is larger is the wrong file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a configuration. Relative paths in it are seen from the folder it is in.
///
/// # Errors
/// The file cannot be read, or something in it is not right: then the error shows where, and what would be.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    load_with_source(path).map(|(config, _)| config)
}

/// The same, with what a configuration hook's answers are merged over.
///
/// # Errors
/// As [`load`].
pub fn load_with_source(path: &Path) -> Result<(Config, Source), ConfigError> {
    let mut text = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text));
    read.map_err(|reason| ConfigError::Unreadable { path: path.to_owned(), reason })?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let (mut config, source) = parse(&text, path)?;
    config.resolve(path.parent().unwrap_or(Path::new("")));
    Ok((config, source))
}

/// Where a configuration is looked for when none is named: in the working directory, then system-wide.
const USUAL_FILES: [&str; 2] = ["config.yaml", "/etc/coracle/config.yaml"];

/// The file of [`load`] when none is named: `./config.yaml`, else `/etc/coracle/config.yaml`, if there is one.
#[must_use]
pub fn usual_file() -> Option<PathBuf> {
    USUAL_FILES.into_iter().map(PathBuf::from).find(|path| path.exists())
}

impl Config {
    /// What works and is hardly meant, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        warnings.extend(self.auth.warnings());
        warnings.extend(self.configserver.warning("configserver"));
        warnings.extend(self.metrics.warning());
        warnings.extend(self.audit.warning());
        let docker = &self.docker.config;
        if let Some(name) = docker.container_name.get() {
            let what = match docker.mode {
                engine::docker::Mode::Connection => "connection",
                engine::docker::Mode::Session => "session",
                engine::docker::Mode::Persistent => "user",
            };
            warnings.push(format!("only one {what} at a time: every container is named `{name}`"));
        }
        warnings.extend(self.warm_warning());
        warnings.extend(self.policy.warnings());
        warnings.extend(self.recording.warning());
        warnings.extend(self.profiles.iter().flat_map(|(name, profile)| {
            let ways = profile.policy.forwards_in_vain_under(&self.policy);
            ways.map(move |way| {
                format!(
                    "`policy.forwarding.{way}` of the profile `{}` gives nothing: it is not enabled in `policy` outside of it",
                    name.as_str()
                )
            })
        }));
        let off = self.policy.off();
        if (docker.disable_shell || off.shell)
            && (docker.disable_command || off.command)
            && (docker.disable_subsystem || docker.subsystems.is_empty() || off.subsystem)
        {
            warnings.push("nothing can be run: shells, commands and subsystems are all disabled".to_owned());
        }
        if matches!(self.docker.host, engine::docker::Endpoint::Tcp(_) | engine::docker::Endpoint::Http(_))
            && !self.docker.uses_tls()
        {
            warnings.push(format!("the connection to the engine at `{}` is not encrypted", self.docker.host));
        }
        warnings
    }

    /// The first thing that no section can know for itself to be wrong: its path in the file, and why.
    fn unlawful(&self) -> Option<(Vec<String>, String)> {
        let everybodys = (vec!["docker".to_owned()], &self.docker.config);
        let of_profiles = self.profiles.iter().map(|(name, profile)| {
            let place = ["profiles", name.as_str(), "docker"].map(str::to_owned).to_vec();
            (place, &profile.docker.config)
        });
        let has_profile = |name: &str| self.profiles.keys().any(|known| known.as_str() == name);
        if let Some((path, reason)) = self.auth.dangling(&has_profile) {
            return Some((std::iter::once("auth".to_owned()).chain(path).collect(), reason));
        }
        if let Some(unlawful) = self.warm_against_reason() {
            return Some(unlawful);
        }
        let (mut place, setting) = std::iter::once(everybodys)
            .chain(of_profiles)
            .find_map(|(place, launch)| self.danger(launch).map(|setting| (place, setting)))?;
        place.push("config".to_owned());
        place.extend(setting.path.iter().cloned());
        Some((place, setting.to_string()))
    }

    /// The first dangerous setting that is not allowed.
    #[must_use]
    pub fn danger(&self, launch: &engine::docker::LaunchConfig) -> Option<engine::docker::DangerousSetting> {
        let found = engine::docker::dangers(launch, &self.docker.host);
        found.into_iter().find(|setting| !self.allow_dangerous.contains(&setting.danger))
    }

    /// Takes relative paths as seen from `folder`.
    fn resolve(&mut self, folder: &Path) {
        self.ssh.resolve(folder);
        self.auth.resolve(folder);
        self.configserver.resolve(folder);
        self.docker.resolve(folder);
        self.limits.resolve(folder);
        self.recording.resolve(folder);
        self.audit.resolve(folder);
        self.control.resolve(folder);
        self.log.resolve(folder);
        self.state_dir = folder.join(&self.state_dir);
    }
}

/// Reads `text`, which came from `path`. Relative paths in it stay as they are.
///
/// # Errors
/// Something in it is not right.
pub fn parse(text: &[u8], path: &Path) -> Result<(Config, Source), ConfigError> {
    let invalid = |complaint: Complaint| ConfigError::invalid(path, complaint);
    let text =
        std::str::from_utf8(text).map_err(|error| invalid(Complaint::not_utf8(text, error.valid_up_to())))?;
    let wrong = |error: YamlError| invalid(Complaint::from_yaml(&error, text));
    let mut config: Config =
        serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
            any_case::read(deserializer, &SECTIONS)
        })
        .map_err(wrong)?;
    let raw = serde_saphyr::from_str_with_options(text, options()).map_err(wrong)?;
    let source = Source::new(raw);
    for (name, profile) in &mut config.profiles {
        profile.docker.config = source.launch(Some(name.as_str())).map_err(|reason| {
            let place = ["profiles", name.as_str()].map(str::to_owned);
            let reason = format!("merged with what is outside of it: {reason}");
            invalid(Complaint::at(&place, &reason, text))
        })?;
    }
    match config.unlawful() {
        Some((path, reason)) => Err(invalid(Complaint::at(&path, &reason, text))),
        None => Ok((config, source)),
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            // Aliases are for sharing a few lines; what multiplies beyond this is a bomb.
            max_events: 100_000,
            max_aliases: 1_000,
            max_depth: 64,
        },
    }
}

#[cfg(test)]
mod tests;
