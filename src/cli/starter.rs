//! A configuration to begin with: short, commented, with what people change first. `coracle init` writes it, the packages
//! come with it, and `coracle serve --image` serves by it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::{self, Config, Source};
use crate::engine::docker::Endpoint;

const TEMPLATE: &str = include_str!("starter.yaml");

/// What is filled in.
#[derive(Clone, Debug)]
pub(super) struct Starter {
    pub(super) listen: SocketAddr,
    pub(super) image: String,
    pub(super) pull_policy: PullPolicy,
    pub(super) engine: Endpoint,
    /// With `%u` for a user's name where each has a file.
    pub(super) keys: String,
    /// Without one it is made in the state folder.
    pub(super) host_key: Option<PathBuf>,
    pub(super) state_dir: PathBuf,
}

/// Whether the image is fetched.
#[derive(Clone, Copy, Debug)]
pub(super) enum PullPolicy {
    /// The engine has it, made there or pulled: what users get changes when somebody wants it to.
    Never,
    IfNotPresent,
}

/// This machine alone, as the defaults have it.
pub(super) fn usual_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 2222))
}

/// The configuration that packages come with: one file of keys per user.
#[must_use]
pub fn of_packages() -> String {
    let defaults = Config::default();
    let starter = Starter {
        listen: usual_address(),
        image: defaults.docker.config.container.image.unwrap_or_default(),
        pull_policy: PullPolicy::IfNotPresent,
        engine: defaults.docker.host,
        keys: "/etc/coracle/keys/%u".to_owned(),
        host_key: None,
        state_dir: defaults.state_dir,
    };
    starter.to_yaml()
}

impl Starter {
    /// The configuration's text.
    pub(super) fn to_yaml(&self) -> String {
        let host_keys = self.host_key.as_ref().map_or_else(String::new, |key| {
            format!(
                "  # Private keys of this server; clients know it by them.\n  hostKeys: [{}]\n",
                path(key)
            )
        });
        let state_holds = if self.host_key.is_none() { ", and its host key" } else { "" };
        let pull_policy = match self.pull_policy {
            PullPolicy::Never => "Never",
            PullPolicy::IfNotPresent => "IfNotPresent",
        };
        fill(&[
            ("listen", &scalar(&self.listen.to_string())),
            ("host_keys", &host_keys),
            ("keys", &scalar(&self.keys)),
            ("engine", &scalar(&self.engine.to_string())),
            ("image", &scalar(&self.image)),
            ("pull_policy", pull_policy),
            ("state_holds", state_holds),
            ("state_dir", &path(&self.state_dir)),
        ])
    }

    /// What the text means. `place` is where it is, or would be.
    pub(super) fn read(&self, place: &Path) -> anyhow::Result<(Config, Source)> {
        config::parse(self.to_yaml().as_bytes(), place)
            .context("what is to be configured makes no configuration")
    }
}

/// The template with these in it. Each is put in once and not looked at again: a path may have braces of its own.
fn fill(values: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once('{') {
        text += before;
        let named = |(name, value): &(&str, &'_ str)| {
            Some((after.strip_prefix(name)?.strip_prefix('}')?, (*value).to_owned()))
        };
        let (after, value) = values.iter().find_map(named).unwrap_or((after, "{".to_owned()));
        text += &value;
        rest = after;
    }
    text + rest
}

/// A path where the configuration has `%u` and `%%`.
pub(super) fn literal(path: &Path) -> String {
    path.display().to_string().replace('%', "%%")
}

fn path(path: &Path) -> String {
    scalar(&path.display().to_string())
}

/// Text as YAML: as it is where that means the same, else in quotes.
fn scalar(text: &str) -> String {
    let means_itself = |read: serde_json::Value| read.as_str() == Some(text);
    let in_list = text.contains([',', '[', ']', '{', '}']);
    if !in_list && serde_saphyr::from_str(text).is_ok_and(means_itself) {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Username;

    fn starter() -> Starter {
        Starter {
            listen: "[::]:22".parse().unwrap(),
            image: "true".to_owned(),
            pull_policy: PullPolicy::Never,
            engine: "unix:///run/podman/a b.sock".parse().unwrap(),
            keys: literal(Path::new("/home/50%: #1/{image}.pub")),
            host_key: Some(PathBuf::from("a, b]")),
            state_dir: PathBuf::from("- \"x\"\n"),
        }
    }

    #[test]
    fn whatever_is_filled_in_means_itself() {
        let (config, _) = starter().read(Path::new("config.yaml")).unwrap();

        assert_eq!(config.ssh.listen.address(), starter().listen);
        assert_eq!(config.ssh.host_keys, [PathBuf::from("a, b]")]);
        assert_eq!(config.docker.config.container.image.as_deref(), Some("true"));
        assert_eq!(config.docker.host, starter().engine);
        let keys = config.auth.authorized_keys_file.unwrap().of(&Username::parse("alice").unwrap()).unwrap();
        assert_eq!(keys, Path::new("/home/50%: #1/{image}.pub"));
        assert_eq!(config.state_dir, starter().state_dir);
    }

    #[test]
    fn what_is_there_to_be_changed_has_its_default() {
        let text = of_packages();

        let (config, _) = config::parse(text.as_bytes(), Path::new("config.yaml")).unwrap();

        assert!(config.warnings().is_empty(), "{:?}", config.warnings());
        let keys = config.auth.authorized_keys_file.clone();
        let mut defaults = Config::default();
        defaults.auth.authorized_keys_file = keys;
        assert_eq!(config, defaults);
        assert!(text.lines().all(|line| line.len() <= 125), "{text}");
    }
}
