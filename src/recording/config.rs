//! The section `recording` of the configuration.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{ByteSize, Section, Span};

/// Smallest size at which a recording may be told to end: less would hold no screen.
const MAX_BYTES_LEAST: u64 = 64 << 10;

/// What is kept of sessions.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Recording")]
pub struct Config {
    /// Folder of the recordings. Not set: nothing is recorded.
    pub dir: Option<PathBuf>,
    /// How sessions with a terminal are written.
    pub format: Format,
    /// Whether what users type is recorded too: passwords and secrets that no screen shows included.
    pub input: bool,
    /// Size at which a recording ends, in bytes; the session goes on. 0: no limit.
    pub max_bytes: ByteSize,
    /// Age at which recordings are removed, such as `90d`. 0: never.
    pub retention: Span,
    /// Size of all recordings together, past which the oldest are removed. 0: no limit.
    pub max_total_bytes: ByteSize,
}

/// How sessions with a terminal are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "RecordingFormat")]
pub enum Format {
    /// asciicast v2, which every asciinema plays.
    #[default]
    #[serde(rename = "asciicastV2", alias = "asciicast-v2", alias = "v2")]
    AsciicastV2,
    /// asciicast v3, which asciinema plays from version 3 on.
    #[serde(rename = "asciicastV3", alias = "asciicast-v3", alias = "v3")]
    AsciicastV3,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: None,
            format: Format::default(),
            input: false,
            max_bytes: ByteSize::from_mebibytes(256),
            retention: Span::default(),
            max_total_bytes: ByteSize::from_mebibytes(0),
        }
    }
}

impl Section for Config {
    fn check(&self) -> Result<(), String> {
        match self.max_bytes.bytes() {
            0 | MAX_BYTES_LEAST.. => Ok(()),
            _ => Err("`maxBytes` is less than 64KiB, which would hold next to nothing".to_owned()),
        }
    }
}

impl Config {
    pub(crate) fn resolve(&mut self, folder: &Path) {
        if let Some(dir) = &mut self.dir {
            *dir = folder.join(&dir);
        }
    }

    /// What works and is hardly meant.
    pub(crate) fn warning(&self) -> Option<String> {
        let typed =
            "`recording.input`: all that users type is recorded, passwords that no screen shows included";
        (self.dir.is_some() && self.input).then(|| typed.to_owned())
    }

    /// Size at which a recording ends.
    pub(super) fn bytes_max(&self) -> u64 {
        match self.max_bytes.bytes() {
            0 => u64::MAX,
            bytes => bytes,
        }
    }
}
