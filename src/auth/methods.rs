//! Which proofs a login needs, and in which order: `auth.methods`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Section, written_as_text};

/// One way of proving who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Nothing at all (RFC 4252 §5.2).
    None,
    /// A key that is known (RFC 4252 §7).
    PublicKey,
    /// A key with a certificate of an authority that is trusted.
    Certificate,
    /// A password (RFC 4252 §8).
    Password,
    /// A code of an authenticator app (RFC 6238), asked for by keyboard-interactive (RFC 4256).
    Totp,
}

const NAMES: [(&str, Method); 5] = [
    ("none", Method::None),
    ("publicKey", Method::PublicKey),
    ("certificate", Method::Certificate),
    ("password", Method::Password),
    ("totp", Method::Totp),
];

impl Method {
    /// As the configuration has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, method)| *method == self).map_or("none", |(name, _)| name)
    }
}

/// Proofs that are all needed, in this order: `publicKey+totp`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Requirement(Vec<Method>);

/// What is needed to log in: each entry is enough by itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Methods {
    /// For everybody else. What is not set up (passwords without any hash, certificates without an authority) is
    /// not offered.
    pub default: Vec<Requirement>,
    /// For the users in a group; of several groups the first that a user names counts.
    pub groups: BTreeMap<String, Vec<Requirement>>,
    /// For one user, whatever the groups say.
    pub users: BTreeMap<String, Vec<Requirement>>,
}

impl Section for Methods {}

impl Default for Methods {
    fn default() -> Self {
        let single = |method| Requirement(vec![method]);
        let default = [Method::PublicKey, Method::Password, Method::Certificate].map(single).into();
        Self { default, groups: BTreeMap::new(), users: BTreeMap::new() }
    }
}

impl Methods {
    /// What is enough for a user of that name with these groups.
    #[must_use]
    pub fn of(&self, username: &str, groups: &[String]) -> &[Requirement] {
        let of_groups = || groups.iter().find_map(|group| self.groups.get(group));
        self.users.get(username).or_else(of_groups).unwrap_or(&self.default)
    }

    /// Every requirement there is.
    pub fn all(&self) -> impl Iterator<Item = &Requirement> {
        self.default.iter().chain(self.groups.values().flatten()).chain(self.users.values().flatten())
    }
}

impl Requirement {
    /// The proofs, in their order; never empty.
    #[must_use]
    pub fn methods(&self) -> &[Method] {
        &self.0
    }

    /// What has to come after `passed`; `None` where these are not its beginning, or all of it.
    #[must_use]
    pub fn next(&self, passed: &[Method]) -> Option<Method> {
        self.0.strip_prefix(passed).and_then(|rest| rest.first()).copied()
    }
}

impl FromStr for Requirement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut methods = Vec::new();
        for word in text.split('+').map(str::trim) {
            let known = NAMES.iter().find(|(name, _)| *name == word);
            let (_, method) = known.ok_or_else(|| {
                let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
                format!("expected one of `{}`, or several joined by `+`, not `{text}`", names.join("`, `"))
            })?;
            if methods.contains(method) {
                return Err(format!("`{word}` is in `{text}` twice"));
            }
            methods.push(*method);
        }
        if methods.len() > 1 && methods.contains(&Method::None) {
            return Err(format!("`none` proves nothing and cannot be combined, as in `{text}`"));
        }
        Ok(Self(methods))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            |method: &Method| NAMES.iter().find(|(_, one)| one == method).map_or("", |(name, _)| *name);
        f.write_str(&self.0.iter().map(name).collect::<Vec<_>>().join("+"))
    }
}

written_as_text! { Requirement }

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(text: &str) -> Requirement {
        text.parse().unwrap()
    }

    /// A6
    #[test]
    fn proofs_come_in_their_order() {
        let both = requirement("publicKey+totp");

        assert_eq!(both.next(&[]), Some(Method::PublicKey));
        assert_eq!(both.next(&[Method::PublicKey]), Some(Method::Totp));
        assert_eq!(both.next(&[Method::Totp]), None);
        assert_eq!(both.next(&[Method::PublicKey, Method::Totp]), None);
        assert_eq!(both.to_string(), "publicKey+totp");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["", "key", "publicKey+", "publicKey+publicKey", "none+password"] {
            assert!(text.parse::<Requirement>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_user_comes_before_a_group_and_a_group_before_the_rest() {
        let methods = Methods {
            groups: BTreeMap::from([("admins".to_owned(), vec![requirement("publicKey+totp")])]),
            users: BTreeMap::from([("eve".to_owned(), vec![requirement("password")])]),
            ..Methods::default()
        };
        let admins = ["staff".to_owned(), "admins".to_owned()];

        assert_eq!(methods.of("alice", &admins), [requirement("publicKey+totp")]);
        assert_eq!(methods.of("eve", &admins), [requirement("password")]);
        assert_eq!(methods.of("bob", &[]), Methods::default().default);
    }
}
