//! Who we are to registries that ask.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::secret::Secret;
use crate::value::written_as_text;

/// Docker Hub as image references have it.
const HUB: &str = "docker.io";

/// Docker Hub under the key that credentials for it have always been kept under.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What Docker Hub is called besides.
const HUB_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// What we tell each registry.
pub type Registries = BTreeMap<Registry, RegistryLogin>;

/// A registry: `host` or `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Registry(String);

/// Who we are to one registry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Login", rename_all = "camelCase")]
#[schemars(with = "Login")]
pub struct RegistryLogin {
    /// The name that goes with a password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// What proves it.
    #[serde(flatten)]
    pub proof: Proof,
}

/// What proves to a registry who we are.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Proof {
    /// A password.
    #[serde(serialize_with = "masked")]
    Password(Secret<String>),
    /// The file that a password is in, read at each pull.
    PasswordFile(PathBuf),
    /// A token in place of name and password.
    #[serde(serialize_with = "masked")]
    IdentityToken(Secret<String>),
}

/// As written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "RegistryLogin")]
#[derive(Default)]
struct Login {
    /// The name that goes with a password.
    username: String,
    /// The password itself …
    #[schemars(with = "Option<String>")]
    password: Option<Secret<String>>,
    /// … or the file that it is in, read at each pull.
    password_file: Option<PathBuf>,
    /// A token in place of name and password.
    #[schemars(with = "Option<String>")]
    identity_token: Option<Secret<String>>,
}

impl Registry {
    /// `host[:port]`; Docker Hub is `docker.io`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0
    }

    /// The key that Docker keeps credentials for it under.
    #[must_use]
    pub fn key(&self) -> &str {
        if self.0 == HUB { HUB_KEY } else { &self.0 }
    }
}

impl Default for Registry {
    /// Where an image comes from that names no registry.
    fn default() -> Self {
        Self(HUB.to_owned())
    }
}

impl FromStr for Registry {
    type Err = String;

    /// Takes what Docker's own files have, too: `https://index.docker.io/v1/`.
    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.trim().trim_start_matches("https://").trim_start_matches("http://");
        let host = address.split('/').next().unwrap_or_default().to_ascii_lowercase();
        let sound = |letter: u8| letter.is_ascii_alphanumeric() || b".-_:[]".contains(&letter);
        if host.is_empty() || !host.bytes().all(sound) {
            return Err(format!(
                "expected a registry such as `docker.io` or `registry.example:5000`, not `{text}`"
            ));
        }
        Ok(Self(if HUB_ALIASES.contains(&host.as_str()) { HUB.to_owned() } else { host }))
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text! { Registry }

impl RegistryLogin {
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Proof::PasswordFile(path) = &mut self.proof {
            *path = folder.join(&path);
        }
    }
}

impl TryFrom<Login> for RegistryLogin {
    type Error = &'static str;

    fn try_from(login: Login) -> Result<Self, Self::Error> {
        let proof = match (login.password, login.password_file, login.identity_token) {
            (Some(password), None, None) => Proof::Password(password),
            (None, Some(path), None) => Proof::PasswordFile(path),
            (None, None, Some(token)) => Proof::IdentityToken(token),
            _ => return Err("a registry needs one of `password`, `passwordFile` and `identityToken`"),
        };
        match (&proof, login.username.is_empty()) {
            (Proof::Password(_) | Proof::PasswordFile(_), true) => Err("a password needs `username`"),
            (Proof::IdentityToken(_), false) => {
                Err("`identityToken` stands for name and password: leave `username` out")
            }
            _ => Ok(Self { username: login.username, proof }),
        }
    }
}

impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Password(one), Self::Password(other))
            | (Self::IdentityToken(one), Self::IdentityToken(other)) => one.expose() == other.expose(),
            (Self::PasswordFile(one), Self::PasswordFile(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Proof {}

fn masked<S: Serializer>(_: &Secret<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("***")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Registries, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn docker_hub_is_one_registry_under_all_of_its_names() {
        for name in ["docker.io", "https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"] {
            let registry: Registry = name.parse().expect("a registry");
            assert_eq!((registry.host(), registry.key()), (HUB, HUB_KEY), "{name}");
        }
        let own: Registry = "http://Registry.example:5000/v2/".parse().expect("a registry");
        assert_eq!((own.host(), own.key()), ("registry.example:5000", "registry.example:5000"));
        for name in ["", "/", "a b", "me@host", "$(id)"] {
            assert!(name.parse::<Registry>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_login_is_a_name_with_one_password_or_a_token() {
        for (login, is_sound) in [
            (r#"{"username": "joe", "password": "x"}"#, true),
            (r#"{"username": "joe", "passwordFile": "/x"}"#, true),
            (r#"{"identityToken": "x"}"#, true),
            (r#"{"password": "x"}"#, false),
            (r#"{"username": "joe"}"#, false),
            (r#"{"username": "joe", "identityToken": "x"}"#, false),
            (r#"{"username": "joe", "password": "x", "passwordFile": "/x"}"#, false),
            (r#"{"username": "joe", "pasword": "x"}"#, false),
        ] {
            assert_eq!(read(&format!(r#"{{"r.example": {login}}}"#)).is_ok(), is_sound, "{login}");
        }
    }

    #[test]
    fn passwords_and_tokens_are_not_shown() {
        let text = r#"{"a.example": {"username": "joe", "password": "SECRET"}, "b.example": {"identityToken": "SECRET"}}"#;
        let registries = read(text).expect("registries");

        let shown = serde_json::to_value(&registries).expect("JSON");

        assert_eq!(shown["a.example"], serde_json::json!({"username": "joe", "password": "***"}));
        assert_eq!(shown["b.example"], serde_json::json!({"identityToken": "***"}));
        assert!(!format!("{registries:?}").contains("SECRET"));
    }
}
