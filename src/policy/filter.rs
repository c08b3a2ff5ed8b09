//! Lists of what may be done and what may not, as a policy has them for commands, subsystems, variables and signals.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::Signal;
use crate::value::{Section, written_as_text};

/// Which of many things may be done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "FilterOf{T}")]
pub struct Filter<T> {
    /// enable: all but `deny`. filter: `allow` without `deny`. disable: nothing.
    pub mode: Mode,
    /// What may be done. Goes with `mode: filter`.
    pub allow: Vec<T>,
    /// What may not be done, in every mode. It wins over `allow`.
    pub deny: Vec<T>,
}

/// How a filter takes its lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyMode")]
pub enum Mode {
    /// All but what is denied.
    #[default]
    Enable,
    /// What is allowed and not denied.
    Filter,
    /// Nothing.
    Disable,
}

/// An entry of a [`Filter`].
pub trait Pattern {
    /// What it is held against.
    type Subject: ?Sized;

    /// Whether it fits, in `allow`.
    fn allows(&self, subject: &Self::Subject) -> bool;

    /// Whether it fits, in `deny`. Where in doubt a pattern does not fit in `allow` and does in `deny`.
    fn denies(&self, subject: &Self::Subject) -> bool {
        self.allows(subject)
    }
}

/// The name of a subsystem; not empty.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("minLength" = 1))]
pub struct SubsystemName(String);

/// A signal of RFC 4254 §6.10 by its name, without `SIG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct SignalName(Signal);

impl<T> Default for Filter<T> {
    fn default() -> Self {
        Self { mode: Mode::default(), allow: Vec::new(), deny: Vec::new() }
    }
}

impl<T> Section for Filter<T> {
    fn check(&self) -> Result<(), String> {
        if self.mode == Mode::Enable && !self.allow.is_empty() {
            return Err("`allow` needs `mode: filter`; without it everything is allowed".to_owned());
        }
        Ok(())
    }
}

impl<T: Pattern> Filter<T> {
    /// Whether this may be done.
    #[must_use]
    pub fn permits(&self, subject: &T::Subject) -> bool {
        let allowed = match self.mode {
            Mode::Enable => true,
            Mode::Filter => self.allow.iter().any(|entry| entry.allows(subject)),
            Mode::Disable => false,
        };
        allowed && !self.deny.iter().any(|entry| entry.denies(subject))
    }
}

impl<T> Filter<T> {
    /// Whether nothing may be done.
    pub(super) fn refuses_all(&self) -> bool {
        match self.mode {
            Mode::Enable => false,
            Mode::Filter => self.allow.is_empty(),
            Mode::Disable => true,
        }
    }
}

impl Pattern for SubsystemName {
    type Subject = str;

    fn allows(&self, name: &str) -> bool {
        self.0 == name
    }
}

impl Pattern for SignalName {
    type Subject = Signal;

    fn allows(&self, signal: &Signal) -> bool {
        self.0 == *signal
    }
}

impl FromStr for SubsystemName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("expected the name of a subsystem, such as `sftp`".to_owned())
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Display for SubsystemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SignalName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Signal::from_name(text).map(Self).ok_or_else(|| {
            format!("expected a signal such as `TERM` or `USR1`, without `SIG` in front, not `{text}`")
        })
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

written_as_text! { SubsystemName SignalName }

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(mode: Mode, allow: &[&str], deny: &[&str]) -> Filter<SubsystemName> {
        let names = |list: &[&str]| list.iter().map(|name| name.parse().unwrap()).collect();
        Filter { mode, allow: names(allow), deny: names(deny) }
    }

    /// Y2
    #[test]
    fn what_is_denied_is_denied_in_every_mode() {
        for (mode, a, b) in
            [(Mode::Enable, true, false), (Mode::Filter, true, false), (Mode::Disable, false, false)]
        {
            let filter = filter(mode, &["a", "b"], &["b"]);

            assert_eq!((filter.permits("a"), filter.permits("b")), (a, b), "{mode:?}");
        }
    }

    /// Y2
    #[test]
    fn only_a_filter_asks_what_is_allowed() {
        assert!(filter(Mode::Enable, &[], &[]).permits("a"));
        assert!(!filter(Mode::Filter, &[], &[]).permits("a"));
        assert!(!filter(Mode::Filter, &["ab"], &[]).permits("a"));
    }

    #[test]
    fn a_list_that_would_do_nothing_is_refused() {
        assert!(filter(Mode::Enable, &["a"], &[]).check().is_err());
        assert!(filter(Mode::Filter, &["a"], &[]).check().is_ok());
        // Switched off for a while.
        assert!(filter(Mode::Disable, &["a"], &["b"]).check().is_ok());
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!("TERM".parse(), Ok(SignalName(Signal::Term)));
        for name in ["SIGTERM", "term", "", "15"] {
            assert!(name.parse::<SignalName>().is_err(), "{name:?}");
        }
    }
}
