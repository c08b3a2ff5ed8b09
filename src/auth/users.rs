//! The users that the configuration knows, and their groups: `auth.users`, `auth.groups`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Account, AuthorizedKeyLine, PasswordHash};
use crate::value::Section;

/// One user.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct User {
    /// Public keys, each a line as in sshd's `authorized_keys`, options included.
    pub authorized_keys: Vec<AuthorizedKeyLine>,
    /// The password's hash, as `coracle passwd` makes it: argon2id, bcrypt or sha512-crypt.
    pub password_hash: Option<PasswordHash>,
    /// The file with the secret of the user's authenticator app, as `coracle totp enroll` makes it.
    pub totp_file: Option<PathBuf>,
    /// Principals of certificates that log in as this user. Empty: those of `principalsFile`, else the user's name.
    pub principals: Vec<String>,
    /// The groups the user is in.
    pub groups: Vec<String>,
    /// What the user gets. Not set: what the first of the groups says, else the sections outside `profiles`.
    pub profile: Option<String>,
    /// What the user may ask for with `ssh PROFILE+USER@HOST`.
    pub profiles: Vec<String>,
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Group {
    /// What its users get.
    pub profile: Option<String>,
    /// What its users may ask for with `ssh PROFILE+USER@HOST`.
    pub profiles: Vec<String>,
}

/// Who is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Users {
    pub(super) users: BTreeMap<String, User>,
    pub(super) groups: BTreeMap<String, Group>,
}

impl Section for User {}

impl User {
    /// What counts for keys and certificates.
    pub(super) fn account(&self) -> Account<'_> {
        let principals = (!self.principals.is_empty()).then_some(self.principals.as_slice());
        Account { authorized_keys: &self.authorized_keys, principals }
    }

    /// Takes relative paths as seen from `folder`.
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(file) = &mut self.totp_file {
            *file = folder.join(&file);
        }
    }
}

impl Users {
    pub(super) fn get(&self, username: &str) -> Option<&User> {
        self.users.get(username)
    }

    pub(super) fn groups_of(&self, username: &str) -> &[String] {
        self.get(username).map_or(&[], |user| &user.groups)
    }

    /// The profile that the user's own entry names.
    pub(super) fn own_profile(&self, username: &str) -> Option<&str> {
        self.get(username).and_then(|user| user.profile.as_deref())
    }

    /// The profile of the first of the user's groups that has one.
    pub(super) fn profile_of_groups(&self, username: &str) -> Option<&str> {
        let groups = self.groups_of(username).iter();
        groups.filter_map(|group| self.groups.get(group)).find_map(|group| group.profile.as_deref())
    }

    /// Takes `PROFILE+USER` apart where that user may ask for that profile; any other name is a name as it stands.
    pub(super) fn split<'a>(&self, typed: &'a str) -> (Option<&'a str>, &'a str) {
        match typed.split_once('+') {
            Some((profile, username)) if self.may_ask_for(username, profile) => (Some(profile), username),
            _ => (None, typed),
        }
    }

    fn may_ask_for(&self, username: &str, profile: &str) -> bool {
        let listed = |profiles: &[String]| profiles.iter().any(|listed| listed == profile);
        self.get(username).is_some_and(|user| listed(&user.profiles))
            || self
                .groups_of(username)
                .iter()
                .filter_map(|group| self.groups.get(group))
                .any(|group| listed(&group.profiles))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let lab = Group { profile: Some("python".to_owned()), profiles: vec!["node".to_owned()] };
        let alice = User { groups: vec!["lab".to_owned()], ..User::default() };
        let bob = User { profile: Some("big".to_owned()), ..alice.clone() };
        Users {
            users: BTreeMap::from([("alice".to_owned(), alice), ("bob".to_owned(), bob)]),
            groups: BTreeMap::from([("lab".to_owned(), lab)]),
        }
    }

    #[test]
    fn a_profile_is_a_users_own_or_that_of_a_group() {
        let users = users();

        assert_eq!((users.own_profile("alice"), users.profile_of_groups("alice")), (None, Some("python")));
        assert_eq!((users.own_profile("bob"), users.profile_of_groups("bob")), (Some("big"), Some("python")));
        assert_eq!((users.own_profile("carol"), users.profile_of_groups("carol")), (None, None));
    }

    #[test]
    fn a_profile_in_the_name_counts_where_it_is_allowed() {
        let users = users();

        assert_eq!(users.split("node+alice"), (Some("node"), "alice"));
        assert_eq!(users.split("big+alice"), (None, "big+alice"));
        assert_eq!(users.split("node+carol"), (None, "node+carol"));
        assert_eq!(users.split("alice"), (None, "alice"));
    }
}
