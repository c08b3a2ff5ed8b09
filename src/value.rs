//! Values as people write them in the configuration: spans of time, sizes, PEM text or the file it is in.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};

use crate::secret::Secret;

/// A section of the configuration.
pub(crate) trait Section: Default {
    /// What no single value can know: how they go together. The error gets the section's position.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Reads a section; one with nothing in it (all of its keys commented out) is the default.
pub(crate) fn section<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Section + Deserialize<'de>,
    D: Deserializer<'de>,
{
    let section = Option::<T>::deserialize(deserializer)?.unwrap_or_default();
    section.check().map_err(D::Error::custom)?;
    Ok(section)
}

/// A span of time such as `60s`, `1m30s` or `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("type" = ["string", "integer"]))]
pub struct Span(Duration);

impl Span {
    pub(crate) const fn from_seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The span, zero included.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }

    /// The span, where zero means that the thing is switched off.
    #[must_use]
    pub fn unless_zero(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "0" {
            return Ok(Self::default());
        }
        humantime::parse_duration(text.trim())
            .map(Self)
            .map_err(|_| format!("expected a span of time such as `60s` or `1m30s`, not `{text}`"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A span of time that is not zero: a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("type" = ["string", "integer"]))]
pub struct Timeout(Span);

impl Timeout {
    pub(crate) const fn from_seconds(seconds: u64) -> Self {
        Self(Span::from_seconds(seconds))
    }

    /// The span; never zero.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0.get()
    }
}

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span: Span = text.parse()?;
        span.unless_zero().map(|_| Self(span)).ok_or_else(|| "expected a span of time over zero".to_owned())
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of bytes such as `512KiB`, `4MiB`, `10GB` or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("type" = ["string", "integer"]))]
pub struct ByteSize(u64);

/// From small to large; the powers of two are those that sizes are shown in.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl ByteSize {
    #[cfg(test)]
    pub(crate) const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub(crate) const fn from_mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (digits, unit) =
            text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
        let factor = match unit.trim() {
            "" => Some(1),
            unit => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor),
        };
        let bytes =
            digits.parse::<u64>().ok().zip(factor).and_then(|(count, factor)| count.checked_mul(factor));
        bytes.map(Self).ok_or_else(|| {
            format!("expected a size such as `512KiB`, `4MiB` or `10GB`, or a number of bytes, not `{text}`")
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = UNITS.iter().rev().filter(|(name, _)| name.ends_with("iB"));
        match binary.into_iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor)) {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// For `#[serde(try_from = "String", into = "String")]`.
macro_rules! written_as_text {
    ($($kind:ty)*) => {$(
        impl TryFrom<String> for $kind {
            type Error = <Self as FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }
    )*};
}
pub(crate) use written_as_text;

written_as_text! { Span Timeout ByteSize }

/// Something in PEM: the text itself, or the file that holds it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String")]
pub enum Pem {
    /// Not configured.
    #[default]
    Unset,
    /// In this file.
    File(PathBuf),
    /// In the configuration itself.
    Text(Secret<String>),
}

impl Pem {
    /// Whether something is configured.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !matches!(self, Self::Unset)
    }

    /// The text; reads the file if it is in one. `None` when nothing is configured.
    ///
    /// # Errors
    /// The file cannot be read; the error names it.
    pub fn read(&self) -> io::Result<Option<Secret<Vec<u8>>>> {
        match self {
            Self::Unset => Ok(None),
            Self::Text(text) => Ok(Some(Secret::new(text.expose().clone().into_bytes()))),
            Self::File(path) => match std::fs::read(path) {
                Ok(text) => Ok(Some(Secret::new(text))),
                Err(error) => {
                    Err(io::Error::new(error.kind(), format!("`{}` cannot be read: {error}", path.display())))
                }
            },
        }
    }

    pub(crate) fn resolve(&mut self, folder: &Path) {
        if let Self::File(path) = self {
            *path = folder.join(&path);
        }
    }
}

impl From<String> for Pem {
    fn from(text: String) -> Self {
        match text.trim() {
            "" => Self::Unset,
            // A secret may come without its armour; no file's name has lines.
            pem if pem.contains("-----BEGIN ") || pem.contains('\n') => Self::Text(Secret::new(text)),
            path => Self::File(PathBuf::from(path)),
        }
    }
}

impl PartialEq for Pem {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unset, Self::Unset) => true,
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Text(one), Self::Text(other)) => one.expose() == other.expose(),
            _ => false,
        }
    }
}

/// For `config show`: text is masked, the name of a file is not.
impl Serialize for Pem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unset => serializer.serialize_str(""),
            Self::File(path) => path.serialize(serializer),
            Self::Text(_) => serializer.serialize_str("***"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown_in_the_largest_unit_that_fits() {
        for (text, bytes, shown) in [
            ("4MiB", 4 << 20, "4MiB"),
            ("512 KiB", 512 << 10, "512KiB"),
            ("2048MiB", 2 << 30, "2GiB"),
            ("10GB", 10_000_000_000, "9765625KiB"),
            ("1000", 1000, "1000"),
            ("0", 0, "0"),
        ] {
            let size: ByteSize = text.parse().unwrap();

            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown));
            assert_eq!(size.to_string().parse(), Ok(size));
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MiB", "4M", "-1", "1.5GiB", "99999999999TiB", "4 mib"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_span_needs_a_unit_unless_it_is_zero() {
        assert_eq!("1m30s".parse(), Ok(Span::from_seconds(90)));
        assert_eq!("0".parse(), Ok(Span::default()));
        assert_eq!(Span::default().to_string().parse(), Ok(Span::default()));
        for text in ["", "15", "soon", "-1s", "1x"] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
        assert!("0s".parse::<Timeout>().is_err());
    }

    #[test]
    fn pem_text_is_told_from_a_file_and_never_shown() {
        let text = Pem::from("-----BEGIN PRIVATE KEY-----\nabc\n".to_owned());

        assert!(matches!(text, Pem::Text(_)));
        assert!(!format!("{text:?}").contains("abc"));
        assert!(matches!(Pem::from("YWJj\nZGVm\n".to_owned()), Pem::Text(_)));
        assert_eq!(Pem::from("certs/key.pem".to_owned()), Pem::File("certs/key.pem".into()));
        assert_eq!(Pem::from(String::new()), Pem::Unset);
    }
}
