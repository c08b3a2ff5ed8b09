//! Lines in the format of `authorized_keys` (sshd(8)), from a file or from the configuration: who they let in.
//! Pure; whoever asks writes the log.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::key_options::{Circumstances, KeyOptions, OptionError, Refusal, split_options};
use super::wire::{base64_of, check_strength, parse_key};
use crate::value::written_as_text;

/// Lines with the key that did not count and that we tell of, per look; a file may have any number of them.
const PASSED_OVER_MAX: usize = 8;

/// What a look through lines came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look<Found> {
    /// What was looked for.
    pub found: Found,
    /// Lines that have the key and do not count, from the top, the first few of them.
    pub passed_over: Vec<PassedOver>,
}

/// A line that has the key and does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// From 1 on.
    pub line: usize,
    /// Why it does not count.
    pub reason: Reason,
}

/// Why a line with the right key does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// Its options mean nothing: a mistake of whoever wrote it.
    #[error("{0}")]
    Options(#[from] OptionError),
    /// A quote stays open, or there is something else in front of the key that cannot be options.
    #[error("what is in front of the key cannot be read; is a quote missing?")]
    Unreadable,
    /// It is in order, but not for this client, or not now.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

/// A key that one of the lines vouches for signing certificates with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityLine {
    /// From 1 on.
    pub line: usize,
    /// Its options, `cert-authority` among them.
    pub options: KeyOptions,
}

/// One key with its options, as a line of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct AuthorizedKeyLine(String);

/// The options of the first line that lets this key in. As at sshd, a line that does not count is passed over.
#[must_use]
pub fn find_key<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    blob: &[u8],
    circumstances: &Circumstances,
) -> Look<Option<KeyOptions>> {
    let mut passed_over = Vec::new();
    for (line, options) in lines_with(lines, blob) {
        // An authority vouches for others; its own key lets nobody in.
        let outcome = match options {
            Ok(options) if options.cert_authority => continue,
            Ok(options) => options.admit(circumstances).map(|()| options).map_err(Reason::from),
            Err(reason) => Err(reason),
        };
        match outcome {
            Ok(options) => return Look { found: Some(options), passed_over },
            Err(reason) => note(&mut passed_over, line, reason),
        }
    }
    Look { found: None, passed_over }
}

/// The lines that make this key an authority over users' certificates.
#[must_use]
pub fn find_authorities<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    ca_blob: &[u8],
) -> Look<Vec<AuthorityLine>> {
    let mut look = Look { found: Vec::new(), passed_over: Vec::new() };
    for (line, options) in lines_with(lines, ca_blob) {
        match options {
            Ok(options) if options.cert_authority => look.found.push(AuthorityLine { line, options }),
            Ok(_) => {}
            Err(reason) => note(&mut look.passed_over, line, reason),
        }
    }
    look
}

/// Whether any line makes any key an authority.
#[must_use]
pub fn has_authorities<'a>(lines: impl IntoIterator<Item = &'a str>) -> bool {
    lines.into_iter().any(|line| match parse_line(line) {
        Line::Key { options, .. } if !options.is_empty() => {
            KeyOptions::parse(options).is_ok_and(|options| options.cert_authority)
        }
        _ => false,
    })
}

/// The options of each line that has this key, with the line's number.
fn lines_with<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    blob: &[u8],
) -> impl Iterator<Item = (usize, Result<KeyOptions, Reason>)> {
    let base64 = base64_of(blob);
    let numbered = lines.into_iter().enumerate();
    numbered.filter_map(move |(index, line)| {
        // Lines of other keys are not worth reading, and there may be many.
        if !line.contains(&base64) {
            return None;
        }
        let options = match parse_line(line) {
            Line::Key { options, blob: found } if found == blob => {
                KeyOptions::parse(options).map_err(Reason::from)
            }
            Line::Key { .. } | Line::Empty => return None,
            Line::Unreadable => Err(Reason::Unreadable),
        };
        Some((index + 1, options))
    })
}

pub(super) fn note(passed_over: &mut Vec<PassedOver>, line: usize, reason: Reason) {
    if passed_over.len() < PASSED_OVER_MAX {
        passed_over.push(PassedOver { line, reason });
    }
}

enum Line<'a> {
    Key { options: &'a str, blob: Vec<u8> },
    Empty,
    Unreadable,
}

/// `[options] type base64 [comment]`
fn parse_line(line: &str) -> Line<'_> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Line::Empty;
    }
    if let Some(blob) = parse_key(line) {
        return Line::Key { options: "", blob };
    }
    match split_options(line).and_then(|(options, key)| Some((options, parse_key(key)?))) {
        Some((options, blob)) => Line::Key { options, blob },
        None => Line::Unreadable,
    }
}

impl AuthorizedKeyLine {
    /// The line as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AuthorizedKeyLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            "expected a public key as in authorized_keys, such as `ssh-ed25519 AAAA… alice@laptop`";
        if text.contains('\n') {
            return Err(format!("{expected}; one per entry, and not several lines"));
        }
        match parse_line(text) {
            Line::Key { options, blob } => {
                KeyOptions::parse(options).map_err(|error| error.to_string())?;
                check_strength(&blob).map_err(|weak| format!("the key lets nobody in: {weak}"))?;
                Ok(Self(text.to_owned()))
            }
            Line::Empty | Line::Unreadable => Err(expected.to_owned()),
        }
    }
}

/// For `config show`: what variables are set to is masked.
impl fmt::Display for AuthorizedKeyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

fn masked(line: &str) -> String {
    const OPTION: &str = "environment=\"";
    // ASCII alone changes its case: places in both are the same.
    let lower = line.to_ascii_lowercase();
    let (mut shown, mut at) = (String::new(), 0);
    while let Some(found) = lower.get(at..).and_then(|rest| rest.find(OPTION)) {
        let begin = at + found + OPTION.len();
        let rest = line.get(begin..).unwrap_or_default();
        let mut escaped = false;
        let end = rest.find(|letter| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        });
        let end = end.unwrap_or(rest.len());
        let name = rest.get(..end).and_then(|value| value.split('=').next()).unwrap_or_default();
        shown += line.get(at..begin).unwrap_or_default();
        shown += name;
        shown += "=***";
        at = begin + end;
    }
    shown + line.get(at..).unwrap_or_default()
}

written_as_text! { AuthorizedKeyLine }

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOfDGk9gGFMLqYJE4R+hXGpGqQ5rj2Fq0V1rk0xDbq5o";

    fn circumstances() -> Circumstances {
        Circumstances { source: "192.0.2.1".parse().unwrap(), now: SystemTime::now() }
    }

    fn look(text: &str) -> Look<Option<KeyOptions>> {
        find_key(text.lines(), &parse_key(KEY).unwrap(), &circumstances())
    }

    fn finds(text: &str) -> bool {
        look(text).found.is_some()
    }

    #[test]
    fn a_key_is_found_among_comments_and_blank_lines() {
        assert!(finds(&format!("# ours\n\n{KEY} alice@laptop\n")));
        assert!(finds(&format!("  {KEY}\r\n")));
        assert!(!finds(&format!("#{KEY}\n")));
        assert!(!finds(""));
    }

    #[test]
    fn what_variables_are_set_to_is_not_shown() {
        let line = r#"no-pty,Environment="A=s\"ecret",command="x",environment="B=s",pty KEY environment"#;

        let expected = r#"no-pty,Environment="A=***",command="x",environment="B=***",pty KEY environment"#;
        assert_eq!(masked(line), expected);
        assert_eq!(masked(KEY), KEY);
    }

    /// A2
    #[test]
    fn a_line_with_options_lets_in_with_them() {
        let found = look(&format!("restrict,command=\"echo \\\"no\\\" more\" {KEY} alice\n")).found.unwrap();

        assert_eq!(found.restrictions.force_command.as_deref(), Some("echo \"no\" more"));
        assert!(found.restrictions.no_terminal);
    }

    /// A2
    #[test]
    fn a_line_that_does_not_count_is_passed_over_and_told_of() {
        let text = format!(
            "no-ptty {KEY}\nfrom=\"10.0.0.1\" {KEY}\ncommand=\"a b {KEY}\nexpiry-time=\"20200101\" {KEY}\nno-pty {KEY}\n{KEY}\n"
        );

        let look = look(&text);

        assert!(look.found.unwrap().restrictions.no_terminal);
        let told: Vec<_> = look.passed_over.iter().map(|at| (at.line, at.reason.to_string())).collect();
        assert_eq!(
            told,
            [
                (1, "unknown option `no-ptty`".to_owned()),
                (2, "not from 192.0.2.1, says `from`".to_owned()),
                (3, "what is in front of the key cannot be read; is a quote missing?".to_owned()),
                (4, "the line has expired".to_owned()),
            ]
        );
    }

    #[test]
    fn no_file_makes_us_tell_more_than_a_few_lines() {
        assert_eq!(look(&format!("x {KEY}\n").repeat(50)).passed_over.len(), PASSED_OVER_MAX);
    }

    /// A4
    #[test]
    fn an_authority_does_not_come_in_by_its_own_key() {
        let text = format!("cert-authority,principals=\"alice\",no-pty {KEY}\n");

        assert_eq!(look(&text), Look { found: None, passed_over: vec![] });
        let authorities = find_authorities(text.lines(), &parse_key(KEY).unwrap());
        assert!(has_authorities(text.lines()) && !has_authorities([KEY, "cert-authority"]));
        assert_eq!(authorities.found.len(), 1);
        assert_eq!(authorities.found[0].options.principals, Some(vec!["alice".to_owned()]));
        assert_eq!(find_authorities([KEY], &parse_key(KEY).unwrap()).found, []);
    }

    #[test]
    fn a_line_that_disagrees_with_itself_grants_nothing() {
        assert!(!finds(&KEY.replacen("ssh-ed25519", "ssh-rsa", 1)));
        assert!(!finds("ssh-ed25519 !!!!"));
        assert!(!finds("ssh-ed25519"));
    }

    #[test]
    fn a_line_of_the_configuration_is_checked_when_it_is_read() {
        let error = |text: &str| text.parse::<AuthorizedKeyLine>().unwrap_err();

        assert!(format!("no-pty {KEY} x").parse::<AuthorizedKeyLine>().is_ok());
        assert_eq!(error(&format!("no-ptty {KEY}")), "unknown option `no-ptty`");
        assert!(error("alice").starts_with("expected a public key"));
        assert!(error("").starts_with("expected a public key"));
        assert!(error(&format!("{KEY}\n{KEY}")).contains("one per entry"));
        assert!(error("ssh-dss AAAAB3NzaC1kc3M=").contains("a DSA key"));
    }

    proptest! {
        #[test]
        fn no_text_makes_us_fail(text: String) {
            look(&text);
            look(&format!("{text} {KEY}"));
            text.parse::<AuthorizedKeyLine>().ok();
        }
    }
}
