//! Patterns for names of environment variables.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::Pattern;
use crate::value::written_as_text;

/// A pattern for names of variables.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[A-Za-z0-9_*?]+$"))]
pub struct NamePattern(String);

impl NamePattern {
    /// Whether the whole of `name` fits. Takes time in proportion to pattern × name at most.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut letter) = (0, 0);
        // Where to take up again: just past the last `*`, and the letter that it has not swallowed yet.
        let mut star = None;
        while letter < name.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    at += 1;
                    star = Some((at, letter));
                }
                Some(wanted) if *wanted == b'?' || name.get(letter) == Some(wanted) => {
                    at += 1;
                    letter += 1;
                }
                _ => match star {
                    Some((past_star, swallowed)) => {
                        (at, letter) = (past_star, swallowed + 1);
                        star = Some((past_star, letter));
                    }
                    None => return false,
                },
            }
        }
        pattern.get(at..).is_some_and(|rest| rest.iter().all(|wanted| *wanted == b'*'))
    }
}

impl Pattern for NamePattern {
    type Subject = str;

    fn allows(&self, name: &str) -> bool {
        self.matches(name)
    }
}

impl FromStr for NamePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sound = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'*' | b'?');
        if !text.is_empty() && text.bytes().all(sound) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "expected the name of a variable, of letters, digits, `_`, `*` and `?`, not `{text}`"
            ))
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text! { NamePattern }

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<NamePattern>().unwrap().matches(name)
    }

    /// V2
    #[test]
    fn a_pattern_has_to_fit_the_whole_name() {
        assert!(matches("LANG", "LANG"));
        assert!(matches("LC_*", "LC_ALL"));
        assert!(matches("LC_*", "LC_"));
        assert!(matches("*_?", "A_B_C"));
        assert!(matches("*", ""));
        assert!(!matches("LANG", "LANGUAGE"));
        assert!(!matches("LC_*", "XLC_ALL"));
        assert!(!matches("A?", "A"));
        assert!(!matches("LANG", "lang"));
    }

    #[test]
    fn a_hostile_name_costs_no_time() {
        assert!(!matches("*a*a*a*a*a*a*a*a*b", &"a".repeat(20_000)));
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        for pattern in ["", "A=B", "A B", "Ä", "A\0"] {
            assert!(pattern.parse::<NamePattern>().is_err(), "{pattern:?}");
        }
    }
}
