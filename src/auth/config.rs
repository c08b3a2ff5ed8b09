//! The section `auth` of the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Group, Methods, Requirement, User};
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
    /// Users' certificates (`ssh-keygen -s`), and keys that no longer count.
    #[serde(deserialize_with = "section")]
    pub certificates: CertificatesConfig,
}

/// Users' certificates (`ssh-keygen -s`), and keys that no longer count.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Certificates")]
pub struct CertificatesConfig {
    /// Files with the public keys of authorities whose certificates let users in, one key per line.
    #[serde(rename = "trustedCAs")]
    pub trusted_cas: Vec<PathBuf>,
    /// A file of the principals that a user's certificate may have, one per line, key options in front where wanted.
    /// `%u` stands for the user name. Not set: the user's name is the one principal.
    pub principals_file: Option<UserFile>,
    /// What users get whose certificate counts by a principal, by that principal.
    pub profiles: BTreeMap<String, String>,
    /// Keys and certificates that let nobody in: an OpenSSH key revocation list, or public keys one per line. If it
    /// cannot be used, no key lets anybody in.
    pub revoked_keys: Option<PathBuf>,
}

/// The name of a file, with `%u` for the user name and `%%` for a percent sign.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct UserFile(String);

/// The name of a file of public keys.
pub type AuthorizedKeysFile = UserFile;

impl Config {
    /// What works and is hardly meant, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = super::proofs::warnings(self);
        let usable = super::proofs::usable(self);
        let enough = |one: &Requirement| one.methods().iter().all(|method| usable.contains(method));
        if !self.methods.all().any(enough) {
            warnings.push("nobody can log in: `auth` has nothing that `auth.methods` asks for".to_owned());
        }
        warnings
    }
}

impl Section for Config {}

impl Config {
    /// The first name of a profile or a group that stands for nothing: its path in the section, and why.
    #[must_use]
    pub fn dangling(&self, has_profile: &dyn Fn(&str) -> bool) -> Option<(Vec<String>, String)> {
        let no_profile = |name: &str| format!("there is no profile `{name}` in `profiles`");
        let no_group = |name: &str| format!("there is no group `{name}` in `auth.groups`");
        let mut profiles = Vec::new();
        let mut groups = Vec::new();
        for (name, user) in &self.users {
            profiles.extend(named(&["users", name, "profile"], user.profile.as_slice(), Numbered::No));
            profiles.extend(named(&["users", name, "profiles"], &user.profiles, Numbered::Yes));
            groups.extend(named(&["users", name, "groups"], &user.groups, Numbered::Yes));
        }
        for (name, group) in &self.groups {
            profiles.extend(named(&["groups", name, "profile"], group.profile.as_slice(), Numbered::No));
            profiles.extend(named(&["groups", name, "profiles"], &group.profiles, Numbered::Yes));
        }
        for (principal, profile) in &self.certificates.profiles {
            let place = ["certificates", "profiles", principal];
            profiles.extend(named(&place, std::slice::from_ref(profile), Numbered::No));
        }
        for name in self.methods.groups.keys() {
            groups.extend(named(&["methods", "groups", name], std::slice::from_ref(name), Numbered::No));
        }
        let profile = profiles.into_iter().find(|(_, name)| !has_profile(name));
        let group = || groups.into_iter().find(|(_, name)| !self.groups.contains_key(*name));
        profile
            .map(|(place, name)| (place, no_profile(name)))
            .or_else(|| group().map(|(place, name)| (place, no_group(name))))
    }
}

/// Whether a name is an element of a list.
#[derive(Clone, Copy, PartialEq)]
enum Numbered {
    No,
    Yes,
}

/// Each of `names` with its path.
fn named<'a>(place: &[&str], names: &'a [String], numbered: Numbered) -> Vec<(Vec<String>, &'a str)> {
    let place: Vec<String> = place.iter().map(ToString::to_string).collect();
    let path = |index: usize| {
        let index = (numbered == Numbered::Yes).then(|| index.to_string());
        place.iter().cloned().chain(index).collect()
    };
    names.iter().enumerate().map(|(index, name)| (path(index), name.as_str())).collect()
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
        if let Some(file) = &mut self.authorized_keys_file {
            file.resolve(folder);
        }
        self.certificates.resolve(folder);
    }
}

impl Section for CertificatesConfig {}

impl CertificatesConfig {
    fn resolve(&mut self, folder: &Path) {
        for path in self.trusted_cas.iter_mut().chain(&mut self.revoked_keys) {
            *path = folder.join(&path);
        }
        if let Some(file) = &mut self.principals_file {
            file.resolve(folder);
        }
    }
}

impl UserFile {
    fn resolve(&mut self, folder: &Path) {
        if Path::new(&self.0).is_relative()
            && let Some(folder) = folder.to_str()
            && !folder.is_empty()
        {
            self.0 = format!("{}/{}", folder.replace('%', "%%"), self.0);
        }
    }

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

impl FromStr for UserFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("expected the name of a file; leave the key out if there is none".to_owned());
        }
        let rest = text.replace("%%", "").replace("%u", "");
        if rest.contains('%') {
            return Err(format!("only `%u` (user name) and `%%` have a meaning in `{text}`"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for UserFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text! { UserFile }

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(pattern: &str, username: &str) -> Option<PathBuf> {
        pattern.parse::<UserFile>().unwrap().of(&Username::parse(username).unwrap())
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
            assert!(pattern.parse::<UserFile>().is_err(), "{pattern:?}");
        }
    }

    #[test]
    fn a_relative_file_is_seen_from_the_folder_of_the_configuration() {
        let certificates = CertificatesConfig {
            trusted_cas: vec!["ca.pub".into(), "/abs/ca.pub".into()],
            principals_file: Some("principals/%u".parse().unwrap()),
            revoked_keys: Some("revoked.krl".into()),
            ..CertificatesConfig::default()
        };
        let mut config = Config {
            authorized_keys_file: Some("keys/%u".parse().unwrap()),
            certificates,
            ..Config::default()
        };

        config.resolve(Path::new("/etc/50%"));

        let bob = Username::parse("bob").unwrap();
        assert_eq!(config.authorized_keys_file.unwrap().of(&bob), Some("/etc/50%/keys/bob".into()));
        let certificates = config.certificates;
        assert_eq!(certificates.trusted_cas, [Path::new("/etc/50%/ca.pub"), Path::new("/abs/ca.pub")]);
        assert_eq!(certificates.principals_file.unwrap().of(&bob), Some("/etc/50%/principals/bob".into()));
        assert_eq!(certificates.revoked_keys, Some("/etc/50%/revoked.krl".into()));
    }
}
