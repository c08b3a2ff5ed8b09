//! What is wrong with a configuration, where, and what would be right.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde_saphyr::{Error as YamlError, UserMessageFormatter};

use super::{place, suggest};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: the configuration cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The file is too large to be one.
    #[error("{}: a file of over 1 MiB is no configuration", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Something in the file is not right.
    #[error("{}:{}:{}: {}{}", path.display(), complaint.line, complaint.column, complaint.text, complaint.snippet)]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What, and where.
        complaint: Complaint,
    },
}

impl ConfigError {
    pub(super) fn invalid(path: &Path, complaint: Complaint) -> Self {
        Self::Invalid { path: path.to_owned(), complaint }
    }
}

/// What is wrong in a file, and where.
#[derive(Debug)]
pub struct Complaint {
    /// From 1.
    line: u64,
    /// In characters, from 1.
    column: u64,
    text: String,
    snippet: Snippet,
}

impl Complaint {
    pub(super) fn from_yaml(error: &YamlError, source: &str) -> Self {
        let error = error.without_snippet();
        let (line, column) = error.location().map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
        Self { line, column, text: describe(error), snippet: Snippet::new(source, line, column) }
    }

    /// What is wrong with the value at `path`, which was right by itself.
    pub(super) fn at(path: &[String], reason: &str, source: &str) -> Self {
        Self { text: reason.to_owned(), ..Self::from_yaml(&place::find(source, path, reason), source) }
    }

    pub(super) fn not_utf8(source: &[u8], at: usize) -> Self {
        let before = String::from_utf8_lossy(source.get(..at).unwrap_or_default());
        let line = before.matches('\n').count() as u64 + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
        let text = "expected UTF-8; this byte is none".to_owned();
        let snippet = Snippet::new(&String::from_utf8_lossy(source), line, column);
        Self { line, column, text, snippet }
    }
}

/// In our words where serde's are about types of Rust.
pub(super) fn describe(error: &YamlError) -> String {
    match error {
        YamlError::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        YamlError::SerdeUnknownVariant { variant, expected, .. } => unknown("value", variant, expected),
        YamlError::DuplicateMappingKey { key: Some(key), .. } => {
            format!("`{key}` is set twice in this section")
        }
        YamlError::InvalidScalar { ty, .. } => format!("expected {}", kind_of_number(ty)),
        YamlError::InvalidBooleanStrict { .. } => "expected `true` or `false`".to_owned(),
        YamlError::NullIntoString { .. } => "expected a text, not nothing".to_owned(),
        YamlError::Unexpected { expected, .. } => match *expected {
            "mapping start" => "expected a section with keys of its own (`key: value`)".to_owned(),
            "sequence start" => "expected a list (`[one, two]`, or lines that begin with `- `)".to_owned(),
            "string scalar" | "scalar" => "expected a single value, not a list or a section".to_owned(),
            other => format!("expected {other}"),
        },
        YamlError::SerdeInvalidType { unexpected, expected, .. }
        | YamlError::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("expected {expected}, not {}", unexpected.replace("unit value", "nothing"))
        }
        YamlError::ExternallyTaggedEnumExpectedScalarOrMapping { .. } => {
            "expected a single value, not a list or a section".to_owned()
        }
        YamlError::UnexpectedValueForUnit { .. } => "expected nothing inside (`{}`)".to_owned(),
        YamlError::MultipleDocuments { .. } => "a second document begins here; only one is read".to_owned(),
        YamlError::Budget { .. }
        | YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. } => {
            format!("this is larger or deeper than any configuration: {}", plain(error))
        }
        YamlError::AliasError { error, .. } => format!("{} (in what the alias stands for)", describe(error)),
        other => plain(other),
    }
}

/// The library's own words, without the position that we show ourselves.
fn plain(error: &YamlError) -> String {
    let text = error.render_with_formatter(&UserMessageFormatter);
    match text.rfind(" at line ") {
        Some(at) if text.get(at..).is_some_and(|rest| rest.contains("column")) => {
            text.get(..at).unwrap_or(&text).to_owned()
        }
        _ => text,
    }
}

/// All names are listed up to this many; past it nobody reads them.
const NAMES_LISTED_MAX: usize = 16;

fn unknown(what: &str, written: &str, known: &[&str]) -> String {
    let nearest = suggest::nearest(written, known).map(|name| format!("; did you mean `{name}`?"));
    let names: Vec<_> =
        known.iter().filter(|name| !name.is_empty()).map(|name| format!("`{name}`")).collect();
    let listed = (known.len() <= NAMES_LISTED_MAX).then(|| format!(" (expected {})", names.join(", ")));
    format!("unknown {what} `{written}`{}{}", nearest.unwrap_or_default(), listed.unwrap_or_default())
}

fn kind_of_number(kind: &str) -> String {
    match kind {
        "bool" | "boolean" => "`true` or `false`".to_owned(),
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "i128" => "a whole number".to_owned(),
        "u32" | "u64" | "u128" | "usize" => "a whole number that is not negative".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        other => format!("a valid {other}"),
    }
}

/// Letters of a line that are shown around the fault.
const SNIPPET_LETTERS_MAX: usize = 100;

/// The line with the fault, and a mark under it.
#[derive(Debug)]
struct Snippet {
    line: u64,
    text: String,
    /// Letters before the mark.
    indent: usize,
    /// Letters under which the mark stands.
    width: usize,
}

impl Snippet {
    fn new(source: &str, line: u64, column: u64) -> Self {
        let index = usize::try_from(line - 1).unwrap_or(usize::MAX);
        let mut column = usize::try_from(column - 1).unwrap_or(usize::MAX);
        let text =
            if in_private_key(source, index) { "***" } else { source.lines().nth(index).unwrap_or_default() };
        let mut letters: Vec<char> = without_secret(text)
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        if column > SNIPPET_LETTERS_MAX / 2 {
            let cut = (column - SNIPPET_LETTERS_MAX / 2).min(letters.len());
            letters.drain(..cut);
            column -= cut;
        }
        letters.truncate(SNIPPET_LETTERS_MAX);
        let column = column.min(letters.len());
        let word = letters.iter().skip(column).take_while(|letter| !" :,[]{}".contains(**letter)).count();
        Self { line, text: letters.into_iter().collect(), indent: column, width: word.max(1) }
    }
}

impl fmt::Display for Snippet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, text, indent, width } = self;
        write!(f, "\n{line:>5} | {}\n      | {:indent$}{}", text.trim_end(), "", "^".repeat(*width))
    }
}

/// What keys of secrets have in their names, misspelled or not, in lower case.
const SECRET_NAMES: [&str; 3] = ["pas", "tok", "secr"];

/// A line up to the value of the first key that sounds like a secret's.
fn without_secret(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let name = SECRET_NAMES.iter().filter_map(|name| lower.find(name)).min();
    let colon = name.and_then(|name| lower.get(name..)?.find(':').map(|colon| name + colon + 1));
    match colon.and_then(|end| line.get(..end)) {
        Some(shown) => format!("{shown} ***"),
        None => line.to_owned(),
    }
}

/// Whether a line belongs to the text of a private key, which no error may show.
fn in_private_key(source: &str, index: usize) -> bool {
    let before = source.lines().take(index + 1).filter(|line| line.contains("PRIVATE KEY-----"));
    before.last().is_some_and(|line| line.contains("-----BEGIN "))
}
