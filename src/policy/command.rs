//! Patterns for commands. A command is bytes for a shell, so a wildcard that lets `;` through lets everything through:
//! ours errs to the side of refusing, in both lists.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::Pattern;
use crate::value::written_as_text;

/// What a pattern begins with; without it the text is exact.
const GLOB: &str = "glob:";

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;

/// Longest command, in bytes, that a wildcard looks at. A longer one is not allowed by one, and is denied by any.
const COMMAND_BYTES_MAX: usize = 32 * 1024;

/// A command's exact text, or `glob:` and a pattern for the whole of it.
///
/// In `allow`, `*` stands for any number (also none) of ASCII letters, digits and `_ - . , : + @ % =`, and `**` for
/// these and `/`: nothing that a shell gives a meaning, no blank and no quote. Neither stands for the `-` that begins a
/// word, which would make an option of it, nor for a dot beside another one, which would lead out of a folder.
/// In `deny`, both stand for anything.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("minLength" = 1))]
pub struct CommandPattern(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Exact(String),
    Glob { text: String, steps: Vec<Step> },
}

/// One step of a glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Byte(u8),
    /// `*`
    Name,
    /// `**`
    Path,
}

impl CommandPattern {
    /// Whether it is an exact text that was perhaps meant as a pattern.
    pub(super) fn looks_like_a_glob(&self) -> bool {
        matches!(&self.0, Kind::Exact(text) if text.contains('*'))
    }
}

impl Pattern for CommandPattern {
    type Subject = [u8];

    fn allows(&self, command: &[u8]) -> bool {
        match &self.0 {
            Kind::Exact(text) => text.as_bytes() == command,
            Kind::Glob { steps, .. } => {
                command.len() <= COMMAND_BYTES_MAX
                    && fits(steps, command, |wildcard, at| is_harmless(wildcard, command, at))
            }
        }
    }

    fn denies(&self, command: &[u8]) -> bool {
        match &self.0 {
            Kind::Exact(text) => text.as_bytes() == command,
            Kind::Glob { steps, .. } => {
                command.len() > COMMAND_BYTES_MAX || fits(steps, command, |_, _| true)
            }
        }
    }
}

/// Whether `steps` fit the whole of `command`, where `may_be` says whether a wildcard may stand for the byte at an index.
/// Follows all ways at once, so that it takes time in proportion to command × pattern at most.
fn fits(steps: &[Step], command: &[u8], may_be: impl Fn(Step, usize) -> bool) -> bool {
    // How many steps are behind us on each way, from few to many.
    let mut ways = past_wildcards(steps, [0]);
    for (at, byte) in command.iter().enumerate() {
        let onward = ways.iter().filter_map(|way| match steps.get(*way)? {
            Step::Byte(wanted) => (wanted == byte).then_some(way + 1),
            wildcard => may_be(*wildcard, at).then_some(*way),
        });
        ways = past_wildcards(steps, onward);
        if ways.is_empty() {
            return false;
        }
    }
    ways.last() == Some(&steps.len())
}

/// A wildcard may stand for nothing: the ways that `ways` open without a byte. Ascending, each once.
fn past_wildcards(steps: &[Step], ways: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut open: Vec<usize> = Vec::new();
    for way in ways {
        let mut way = way;
        // Up to the last one, an earlier way has been here already.
        while open.last().is_none_or(|last| *last < way) {
            open.push(way);
            if !matches!(steps.get(way), Some(Step::Name | Step::Path)) {
                break;
            }
            way += 1;
        }
    }
    open
}

/// Whether the byte at `at` makes nothing but a longer word.
fn is_harmless(wildcard: Step, command: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| command.get(before)).copied();
    let after = command.get(at + 1).copied();
    match command.get(at).copied() {
        // At the beginning of a word it would make an option of it.
        Some(b'-') => before.is_some_and(is_plain),
        // `..` leads out of the folder that the pattern names.
        Some(b'.') => before != Some(b'.') && after != Some(b'.'),
        Some(b'/') => wildcard == Step::Path,
        byte => byte.is_some_and(is_plain),
    }
}

/// What no shell gives a meaning, wherever it stands inside of a word or of quotes.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.,:+@%=/".contains(&byte)
}

impl FromStr for CommandPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let glob = text.strip_prefix(GLOB);
        if glob.unwrap_or(text).is_empty() {
            return Err("expected a command, or `glob:` and a pattern for one".to_owned());
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("expected at most {PATTERN_BYTES_MAX} bytes, not {}", text.len()));
        }
        Ok(Self(match glob {
            Some(glob) => Kind::Glob { text: glob.to_owned(), steps: steps(glob) },
            None => Kind::Exact(text.to_owned()),
        }))
    }
}

fn steps(glob: &str) -> Vec<Step> {
    let mut steps = Vec::with_capacity(glob.len());
    for byte in glob.bytes() {
        match (byte, steps.last_mut()) {
            // `***` and more are no more than `**`.
            (b'*', Some(last @ (Step::Name | Step::Path))) => *last = Step::Path,
            (b'*', _) => steps.push(Step::Name),
            _ => steps.push(Step::Byte(byte)),
        }
    }
    steps
}

impl fmt::Display for CommandPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Exact(text) => f.write_str(text),
            Kind::Glob { text, .. } => write!(f, "{GLOB}{text}"),
        }
    }
}

written_as_text! { CommandPattern }

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> CommandPattern {
        text.parse().unwrap()
    }

    fn allows(text: &str, command: impl AsRef<[u8]>) -> bool {
        pattern(text).allows(command.as_ref())
    }

    /// Y2
    #[test]
    fn a_text_without_a_prefix_is_exact() {
        assert!(allows("uptime -p", "uptime -p"));
        assert!(allows("ls *", "ls *"));
        for other in ["ls x", "ls *x", "xls *", "ls *\n", "ls * ", ""] {
            assert!(!allows("ls *", other), "{other:?}");
        }
    }

    /// Y2
    #[test]
    fn a_wildcard_fits_the_whole_command_and_names_or_paths() {
        let git = "glob:git-upload-pack '/srv/*.git'";
        assert!(allows(git, "git-upload-pack '/srv/a-b_c.2.git'"));
        assert!(!allows(git, "git-upload-pack '/srv/a/b.git'"));
        assert!(!allows(git, "git-upload-pack '/srv/a.git' "));
        assert!(allows("glob:cat /srv/**", "cat /srv/a/b"));
        assert!(allows("glob:cat /srv/**", "cat /srv/"));
        // The first wildcard has to give way to the second.
        assert!(allows("glob:**a*b", "xa/ab"));
        assert!(allows("glob:*", "") && allows("glob:a***", "a/b"));
        assert!(!allows("glob:a*b*c", "acb"));
    }

    /// Y2: what a shell would make more of than one word.
    #[test]
    fn no_wildcard_lets_a_second_command_through() {
        let git = "glob:git-upload-pack '**'";
        for hostile in [
            "git-upload-pack 'x'; rm -rf /",
            "git-upload-pack 'x'\nrm -rf /'",
            "git-upload-pack ''$(id)''",
            "git-upload-pack 'x' 'y'",
            "git-upload-pack 'a' && id #'",
            "git-upload-pack '--strict'",
            "git-upload-pack '/srv/../etc'",
            "git-upload-pack '..'",
            "git-upload-pack '~root'",
        ] {
            assert!(!allows(git, hostile), "{hostile:?}");
        }
        for byte in (0..=u8::MAX).filter(|byte| !is_plain(*byte)) {
            let command = [b"cat a".as_slice(), &[byte], b"b"].concat();
            assert!(!allows("glob:cat **", &command), "{byte}");
        }
    }

    /// Y2
    #[test]
    fn a_wildcard_makes_no_option_of_a_word() {
        assert!(!allows("glob:tar cf - *", "tar cf - --checkpoint-action=exec=sh"));
        assert!(!allows("glob:**", "-x"));
        assert!(allows(
            "glob:rsync --server --sender -* . /srv/**",
            "rsync --server --sender -vlogDtpre.iLsfxCIvu . /srv/a/"
        ));
        assert!(allows("glob:cat *", "cat a-b"));
    }

    /// Y2
    #[test]
    fn a_wildcard_does_not_lead_out_of_its_folder() {
        for glob in ["glob:cat /srv/**", "glob:cat /srv/*/**", "glob:cat /srv/**.**", "glob:cat /srv/.*/a"] {
            assert!(!allows(glob, "cat /srv/../a"), "{glob}");
        }
        assert!(allows("glob:cat ../*", "cat ../a") && !allows("glob:cat ../**", "cat ../../a"));
    }

    /// Y2
    #[test]
    fn what_is_denied_is_denied_with_whatever_stands_for_the_wildcard() {
        let rm = pattern("glob:rm *");

        assert!(rm.denies(b"rm -rf /; echo '\xff'\n"));
        assert!(!rm.denies(b"rmdir x"));
        assert!(pattern("glob:*sudo*").denies(b"env sudo id"));
        assert!(pattern("id").denies(b"id") && !pattern("id").denies(b"id "));
    }

    /// Y2
    #[test]
    fn too_long_a_command_is_refused_by_a_wildcard_in_either_list() {
        let long = "a".repeat(COMMAND_BYTES_MAX + 1);

        assert!(!allows("glob:*", &long) && pattern("glob:b*").denies(long.as_bytes()));
        assert!(allows("glob:*", &long[1..]));
    }

    #[test]
    fn a_hostile_command_costs_no_time() {
        let begun = Instant::now();

        assert!(!allows("glob:*a*a*a*a*a*a*a*a*b", "a".repeat(20_000)));

        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in ["", "glob:", &"x".repeat(PATTERN_BYTES_MAX + 1)] {
            assert!(text.parse::<CommandPattern>().is_err(), "{text:?}");
        }
        assert_eq!(pattern("glob:a **").to_string(), "glob:a **");
    }

    proptest! {
        /// Y2
        #[test]
        fn whatever_a_pattern_allows_it_denies_too(glob in "[a./*-]{1,6}", command in "[a./;-]{0,8}") {
            let pattern = pattern(&format!("glob:{glob}"));

            if pattern.allows(command.as_bytes()) {
                prop_assert!(pattern.denies(command.as_bytes()));
                prop_assert!(!command.contains(';'));
            }
        }
    }
}
