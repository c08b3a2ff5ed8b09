//! The section `auth` of the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Group, Methods, User};
use crate::hook::config::MethodConfig;
use crate::ids::Username;
use crate::value::{Section, section, written_as_text};

/// How clients prove who they are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Auth")]
pub struct Config {
    /// Public keys, in the format of OpenSSH's `authorized_keys`. `%u` stands for the user name; a file without
    /// it serves every user name. Not set: nobody can log in.
    pub authorized_keys_file: Option<AuthorizedKeysFile>,
    /// Who is asked about passwords. With nobody, `passwordHash` of the users decides.
    #[serde(deserialize_with = "section")]
    pub password: MethodConfig,
    /// Who is asked about public keys. With nobody, `authorizedKeysFile` and `authorizedKeys` of the users decide.
    #[serde(deserialize_with = "section")]
    pub public_key: MethodConfig,
    /// Who is asked whether somebody who has proven who they are may come in. With nobody, they may.
    #[serde(deserialize_with = "section")]
    pub authz: MethodConfig,
    /// Users by their names. Names that are not here may still come in, by `authorizedKeysFile` and the like.
    pub users: BTreeMap<String, User>,
    /// Groups by their names.
    pub groups: BTreeMap<String, Group>,
    /// Which proofs a login needs.
    #[serde(deserialize_with = "section")]
    pub methods: Methods,
}

/// The name of a file of public keys, with `%u` for the user name and `%%` for a percent sign.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct AuthorizedKeysFile(String);

impl Config {
    /// What works and is hardly meant, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = super::proofs::warnings(self);
        let lists_keys = self.users.values().any(|user| !user.authorized_keys.is_empty());
        let has_passwords = self.users.values().any(|user| user.password_hash.is_some());
        let asks = [&self.password, &self.public_key].into_iter().any(|method| method.hook().is_some());
        if self.authorized_keys_file.is_none()
            && !lists_keys
            && !has_passwords
            && !asks
            && warnings.is_empty()
        {
            warnings.push("nobody can log in: `auth` has neither keys nor passwords".to_owned());
        }
        warnings
    }
}

impl Section for Config {
    fn check(&self) -> Result<(), String> {
        for (name, user) in &self.users {
            if let Some(group) = user.groups.iter().find(|group| !self.groups.contains_key(*group)) {
                return Err(format!(
                    "`users.{name}` is in the group `{group}`, which `groups` does not have"
                ));
            }
        }
        if let Some(group) = self.methods.groups.keys().find(|group| !self.groups.contains_key(*group)) {
            return Err(format!("`methods.groups.{group}`: there is no such group in `groups`"));
        }
        Ok(())
    }
}

impl Config {
    /// Takes relative paths as seen from `folder`.
    pub(crate) fn resolve(&mut self, folder: &Path) {
        for method in [&mut self.password, &mut self.public_key, &mut self.authz] {
            method.resolve(folder);
        }
        for user in self.users.values_mut() {
            user.resolve(folder);
        }
        if let Some(file) = &mut self.authorized_keys_file
            && Path::new(&file.0).is_relative()
            && let Some(folder) = folder.to_str()
            && !folder.is_empty()
        {
            file.0 = format!("{}/{}", folder.replace('%', "%%"), file.0);
        }
    }
}

impl AuthorizedKeysFile {
    /// The file of this user. `None` when the name would lead to another folder.
    #[must_use]
    pub fn of(&self, username: &Username) -> Option<PathBuf> {
        let mut path = String::new();
        let mut letters = self.0.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '%' => match letters.next() {
                    Some('u') if username.is_path_component() => path.push_str(username.as_str()),
                    Some('%') => path.push('%'),
                    _ => return None,
                },
                letter => path.push(letter),
            }
        }
        Some(PathBuf::from(path))
    }
}

impl FromStr for AuthorizedKeysFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("expected the name of a file; leave the key out to let nobody in".to_owned());
        }
        let rest = text.replace("%%", "").replace("%u", "");
        if rest.contains('%') {
            return Err(format!("only `%u` (user name) and `%%` have a meaning in `{text}`"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for AuthorizedKeysFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text! { AuthorizedKeysFile }

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(pattern: &str, username: &str) -> Option<PathBuf> {
        pattern.parse::<AuthorizedKeysFile>().unwrap().of(&Username::parse(username).unwrap())
    }

    #[test]
    fn the_user_name_becomes_part_of_the_path() {
        assert_eq!(file_of("/keys/%u/100%%", "alice"), Some("/keys/alice/100%".into()));
        assert_eq!(file_of("/keys/all", "../x"), Some("/keys/all".into()));
    }

    /// A9
    #[test]
    fn a_user_name_leads_to_no_other_folder() {
        assert_eq!(file_of("/keys/%u", "../x"), None);
        assert_eq!(file_of("/keys/%u", ".."), None);
    }

    #[test]
    fn a_pattern_that_means_nothing_is_refused() {
        for pattern in ["", "/keys/%h", "/keys/%"] {
            assert!(pattern.parse::<AuthorizedKeysFile>().is_err(), "{pattern:?}");
        }
    }

    #[test]
    fn a_relative_file_is_seen_from_the_folder_of_the_configuration() {
        let mut config = Config { authorized_keys_file: "keys/%u".parse().ok(), ..Config::default() };

        config.resolve(Path::new("/etc/50%"));

        let file = config.authorized_keys_file.unwrap().of(&Username::parse("bob").unwrap());
        assert_eq!(file, Some("/etc/50%/keys/bob".into()));
    }
}
