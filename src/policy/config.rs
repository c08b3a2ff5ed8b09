//! The sections `env` and `policy` of the configuration.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::command::CommandPattern;
use super::filter::{Filter, SignalName, SubsystemName};
use super::forward_config::ForwardingConfig;
use super::name::NamePattern;
use crate::value::{Section, section, written_as_text};

/// Which environment variables a client may set (RFC 4254 §6.4).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Env")]
pub struct EnvConfig {
    /// Names, where `*` stands for any letters and `?` for one. The rest is dropped without a word, as sshd does.
    /// `policy.env` can take some of them away again.
    pub accept: Vec<NamePattern>,
}

/// What users may do: one layer. It takes away from what stands above it and never gives; the default takes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Policy")]
pub struct PolicyConfig {
    /// Shells, which `ssh host` asks for.
    pub shell: Switch,
    /// Commands, which `ssh host COMMAND` asks for: exact, or `glob:` and a pattern in which `*` stands for letters
    /// that no shell gives a meaning, `**` for these and `/`.
    #[serde(deserialize_with = "section")]
    pub command: Filter<CommandPattern>,
    /// Subsystems, by name.
    #[serde(deserialize_with = "section")]
    pub subsystem: Filter<SubsystemName>,
    /// Terminals.
    pub pty: Switch,
    /// Environment variables, of those that `env.accept` lets through. `*` stands for any letters, `?` for one.
    #[serde(deserialize_with = "section")]
    pub env: Filter<NamePattern>,
    /// Signals, by name, without `SIG`.
    #[serde(deserialize_with = "section")]
    pub signals: Filter<SignalName>,
    /// Forwarding of ports, sockets, the agent and X11, inside the container. Unlike all else it has to be enabled, in the
    /// outermost policy.
    #[serde(deserialize_with = "section")]
    pub forwarding: ForwardingConfig,
    /// Runs instead of whatever is asked for, which it finds in `SSH_ORIGINAL_COMMAND`. `internal-sftp` stands for the
    /// subsystem `sftp`. Empty: none.
    pub force_command: ForceCommand,
    /// Sessions at a time on one connection. Not set: what `limits.sessionsPerConnection` says, as also where that is
    /// less. 0 allows none.
    pub max_sessions: Option<u16>,
}

/// On or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Switch {
    /// Nothing is taken away.
    #[default]
    Enable,
    /// All such requests are refused.
    Disable,
}

/// What a policy switches off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the keys of the section")]
pub struct Off {
    pub shell: bool,
    pub command: bool,
    pub subsystem: bool,
}

/// A command for the login shell, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ForceCommand(String);

impl Section for EnvConfig {}

impl Default for EnvConfig {
    fn default() -> Self {
        let names = ["LANG", "LC_*", "COLORTERM"];
        Self { accept: names.iter().filter_map(|name| name.parse().ok()).collect() }
    }
}

impl Section for PolicyConfig {}

impl PolicyConfig {
    /// What is valid and hardly meant, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let patterns = [("allow", &self.command.allow), ("deny", &self.command.deny)];
        let doubtful = patterns.into_iter().flat_map(|(key, patterns)| {
            patterns.iter().filter(|pattern| pattern.looks_like_a_glob()).map(move |pattern| {
                format!(
                    "`{pattern}` in `command.{key}` of a policy means exactly that text; `glob:{pattern}` is a pattern"
                )
            })
        });
        doubtful.collect()
    }

    /// The ways to forward that are enabled here and not in the policy outside of it.
    pub fn forwards_in_vain_under<'a>(
        &'a self,
        outermost: &'a Self,
    ) -> impl Iterator<Item = &'static str> + 'a {
        self.forwarding.in_vain_under(&outermost.forwarding)
    }

    /// Which of the three ways to run something it switches off.
    #[must_use]
    pub fn off(&self) -> Off {
        Off {
            shell: !self.shell.is_on(),
            command: self.command.refuses_all(),
            subsystem: self.subsystem.refuses_all(),
        }
    }
}

impl Switch {
    pub(super) fn is_on(self) -> bool {
        self == Self::Enable
    }
}

impl ForceCommand {
    /// The command, if one is forced.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

impl FromStr for ForceCommand {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('\0') {
            Err("a command cannot have a NUL in it".to_owned())
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Display for ForceCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text! { ForceCommand }
