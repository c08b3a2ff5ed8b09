//! Profiles: what some users get instead of what everybody gets, merged over it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{merged, options};
use crate::engine::docker::{LaunchConfig, Sandbox, launch_config};
use crate::hook::merge;
use crate::policy::config::PolicyConfig;
use crate::pool::config::ProfilePool;
use crate::secret::Secret;
use crate::session::config::ProfileLimits;
use crate::value::{Section, section, written_as_text};

/// Longest name of a profile, in bytes: it becomes a label, and part of a user name.
const NAME_BYTES_MAX: usize = 64;

/// A profile's name: letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[A-Za-z0-9._-]+$"))]
pub struct ProfileName(String);

/// What a profile changes. What it does not mention is as outside of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Profile {
    /// The container and its programs.
    #[serde(deserialize_with = "section")]
    pub docker: ProfileDocker,
    /// What containers may do where `docker.config` does not say.
    pub sandbox: Option<Sandbox>,
    /// Containers that wait for its users.
    #[serde(deserialize_with = "section")]
    pub pool: ProfilePool,
    /// What may be done; it can only take away from the policy outside.
    #[serde(deserialize_with = "section")]
    pub policy: PolicyConfig,
    /// How long connections last.
    #[serde(deserialize_with = "section")]
    pub limits: ProfileLimits,
}

/// What runs a profile's containers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct ProfileDocker {
    /// The keys of `docker.config`; those that are set here are merged over those there.
    #[serde(deserialize_with = "launch_config")]
    pub config: LaunchConfig,
}

impl Section for Profile {}
impl Section for ProfileDocker {}

/// `docker.config` as it was written, for what is merged over it later.
#[derive(Clone, Debug)]
pub struct Source {
    default: Secret<Value>,
    /// Each with its profile merged over it.
    profiles: BTreeMap<String, Secret<Value>>,
}

/// Keys of a hook's answer that mean something for one connection. ContainerSSH's other names are understood as well.
const ANSWER_KEYS: [&str; 5] = ["docker", "dockerrun", "sandbox", "policy", "limits"];

/// Where `docker` has what a container is made of; the second name is ContainerSSH's.
const LAUNCH_SECTIONS: [&str; 2] = ["config", "execution"];

/// What else `docker` and ContainerSSH's sections have. It is the same for everybody.
const DOCKER_KEYS_FIXED: [&str; 7] =
    ["host", "cacert", "cert", "key", "registries", "connection", "timeouts"];

/// Keys that ContainerSSH has and that have no meaning here.
const LAUNCH_KEYS_DROPPED: [&str; 3] = ["agentPath", "disableAgent", "exposeAuthMetadataAsEnv"];

impl Default for Source {
    fn default() -> Self {
        Self { default: Secret::new(Value::Null), profiles: BTreeMap::new() }
    }
}

impl Source {
    /// Takes `docker.config` out of a configuration as it was written, and that of every profile merged over it.
    pub(super) fn new(mut raw: Value) -> Self {
        let profiles = raw.get_mut("profiles").map(Value::take).unwrap_or_default();
        let default = take_launch(raw);
        let mut merged = BTreeMap::new();
        if let Value::Object(profiles) = profiles {
            for (name, profile) in profiles {
                merged.insert(name, Secret::new(merge(default.clone(), take_launch(profile))));
            }
        }
        Self { default: Secret::new(default), profiles: merged }
    }

    fn written(&self, profile: Option<&str>) -> &Value {
        profile.and_then(|name| self.profiles.get(name)).unwrap_or(&self.default).expose()
    }

    /// `docker.config` of a profile.
    pub(super) fn launch(&self, profile: Option<&str>) -> Result<LaunchConfig, String> {
        read_launch(self.written(profile))
    }

    /// A profile with what a configuration hook answered merged over it: a profile of its own.
    ///
    /// # Errors
    /// What of the answer is not right, without its values.
    pub fn overlaid(&self, profile: Option<&str>, answer: Value) -> Result<Profile, String> {
        let Value::Object(answer) = answer else { return Err("`config` is no object".to_owned()) };
        let mut overlay = Map::new();
        for (key, value) in answer {
            match known(&key, &ANSWER_KEYS) {
                // It has been looked at already.
                None if key == "profile" => {}
                None => {
                    tracing::debug!(
                        key,
                        "a key of the configuration hook's answer has no meaning for a connection"
                    );
                }
                Some(known) => {
                    let name = if known == "dockerrun" { "docker" } else { known };
                    if overlay.insert(name.to_owned(), value).is_some() {
                        return Err(format!("`{name}` is there more than once"));
                    }
                }
            }
        }
        let over = overlay.remove("docker").map(launch_of_answer).transpose()?;
        let config = read_launch(&merge(self.written(profile).clone(), over.unwrap_or_default()))?;
        let rest = merge(Value::Object(Map::new()), Value::Object(overlay));
        let rest: Profile =
            merged::read(&rest, "", |text| serde_saphyr::from_str_with_options(text, options()))?;
        Ok(Profile { docker: ProfileDocker { config }, ..rest })
    }
}

fn read_launch(written: &Value) -> Result<LaunchConfig, String> {
    merged::read(written, "docker.config", |text| {
        serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| launch_config(yaml))
    })
}

/// The section `docker` of an answer. What is not meant for containers has no meaning for a connection; what nobody
/// knows may be a slip, and would leave somebody with more than was meant.
fn launch_of_answer(docker: Value) -> Result<Value, String> {
    let mut launch = Value::Null;
    let Value::Object(docker) = docker else {
        return if docker.is_null() { Ok(launch) } else { Err("`docker` is no object".to_owned()) };
    };
    for (key, value) in docker {
        if known(&key, &LAUNCH_SECTIONS).is_some() {
            launch = merge(launch, without_dropped(value));
        } else if known(&key, &DOCKER_KEYS_FIXED).is_none() {
            return Err(format!("`docker.{}`: unknown key; expected `config`", key.escape_debug()));
        }
    }
    Ok(launch)
}

/// The name that a key stands for, in any letter case.
fn known(key: &str, names: &[&'static str]) -> Option<&'static str> {
    names.iter().find(|name| name.eq_ignore_ascii_case(key)).copied()
}

/// `docker.config`, or what ContainerSSH calls it.
fn take_launch(mut raw: Value) -> Value {
    let docker = ["docker", "dockerrun"].into_iter().find_map(|name| raw.get_mut(name).map(Value::take));
    let launch = docker.and_then(|mut docker| {
        LAUNCH_SECTIONS.into_iter().find_map(|name| docker.get_mut(name).map(Value::take))
    });
    without_dropped(launch.unwrap_or_default())
}

fn without_dropped(mut launch: Value) -> Value {
    if let Value::Object(keys) = &mut launch {
        keys.retain(|key, _| known(key, &LAUNCH_KEYS_DROPPED).is_none());
    }
    launch
}

impl ProfileName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProfileName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sound = |letter: u8| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter);
        if !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(sound) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "expected the name of a profile, of up to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`, not `{text}`"
            ))
        }
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text! { ProfileName }

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source() -> Source {
        Source::new(json!({
            "docker": {"config": {"container": {"Image": "debian", "Env": ["A=1"]}, "disableCommand": true}},
            "profiles": {"python": {"docker": {"config": {"container": {"image": "python"}}}}},
        }))
    }

    #[test]
    fn a_profile_changes_what_it_mentions() {
        let python = source().launch(Some("python")).unwrap();

        assert_eq!(python.image(), "python");
        assert_eq!(python.container.env, Some(vec!["A=1".to_owned()]));
        assert!(python.disable_command);
        assert_eq!(source().launch(None).unwrap().image(), "debian");
    }

    #[test]
    fn a_hooks_answer_lies_over_the_profile_by_either_products_names() {
        for answer in [
            json!({"docker": {"config": {"disableCommand": false}}}),
            json!({"dockerrun": {"config": {"disableCommand": false}}, "backend": "docker"}),
            json!({"docker": {"execution": {"disableCommand": false, "disableAgent": true}}}),
        ] {
            let profile = source().overlaid(Some("python"), answer).unwrap();

            assert!(!profile.docker.config.disable_command);
            assert_eq!(profile.docker.config.image(), "python");
        }
    }

    #[test]
    fn an_answer_that_is_not_right_is_refused() {
        for (answer, expected) in [
            (
                json!({"docker": {"config": {"container": {"image": []}}}}),
                "`docker.config.container.Image`: ",
            ),
            (json!({"Docker": {"Config": {"imge": "x"}}}), "`docker.config.imge`: unknown key"),
            (json!({"docker": {"confg": {}}}), "`docker.confg`: unknown key"),
            (json!({"docker": "x"}), "`docker` is no object"),
            (json!({"docker": {}, "dockerrun": {}}), "`docker` is there more than once"),
            (json!({"policy": {"shel": {}}}), "`policy.shel`: unknown key"),
            (json!([]), "`config` is no object"),
        ] {
            let error = source().overlaid(None, answer).expect_err("it is wrong");

            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_is_empty_overrides_and_null_does_not() {
        let answer = json!({
            "docker": {"config": {"disableCommand": false, "container": {"env": [], "image": null},
                                  "persistent": {"idleTimeout": 0}}},
            "limits": {"idleTimeout": 0, "maxLifetime": null},
            "policy": null,
        });

        let profile = source().overlaid(Some("python"), answer).unwrap();

        let launch = &profile.docker.config;
        assert!(!launch.disable_command && launch.container.env == Some(Vec::new()));
        assert_eq!(launch.image(), "python");
        assert_eq!(launch.persistent.idle_timeout.unless_zero(), None);
        assert!(profile.limits.idle_timeout.is_some_and(|span| span.get().is_zero()));
        assert_eq!(profile.limits.max_lifetime, None);
    }
}
