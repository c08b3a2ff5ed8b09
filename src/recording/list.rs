//! Which recordings there are in a folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::about::Sidecar;
use super::name::Name;
use super::repair::read_sidecar;
use super::store::SIDECAR;

/// A recording that is complete.
#[derive(Debug)]
pub struct Listed {
    sidecar: Sidecar,
    dir: PathBuf,
}

/// All of a folder, of whatever server, the oldest first. What cannot be read is left out.
///
/// # Errors
/// The folder cannot be read.
pub fn list(dir: &Path) -> io::Result<Vec<Listed>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let file = entry?.file_name();
        if let Some((name, SIDECAR)) = file.to_str().and_then(Name::parse_file) {
            names.push(name);
        }
    }
    let listed = names.into_iter().filter_map(|name| {
        let sidecar = read_sidecar(&dir.join(name.file(SIDECAR))).ok()?;
        Some(Listed { sidecar, dir: dir.to_owned() })
    });
    let mut listed: Vec<Listed> = listed.collect();
    // Names tell seconds, these more.
    listed.sort_by(|one, other| one.sidecar.started.cmp(&other.sidecar.started));
    Ok(listed)
}

impl Listed {
    /// Who was recorded.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.sidecar.user
    }

    /// The file to replay, if anything of it could be kept.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        // Only a name: else a sidecar that somebody put there could point anywhere.
        let name = self.sidecar.recording.as_deref()?;
        Name::parse_file(name).map(|_| self.dir.join(name))
    }

    /// What lies beside it, as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(&self.sidecar).unwrap_or_default()
    }

    /// What is shown of it in a table: start, length, user, client, what ran, how it ended, the file. Nothing that users
    /// said can do a terminal any harm.
    #[must_use]
    pub fn row(&self) -> [String; 7] {
        let sidecar = &self.sidecar;
        let started = sidecar.started.get(..19).unwrap_or(&sidecar.started);
        let what = match (&sidecar.command, sidecar.kind) {
            (Some(command), _) => shortened(command),
            (None, _) => "(shell)".to_owned(),
        };
        let mut end =
            sidecar.exit.as_ref().map_or_else(|| "?".to_owned(), |exit| shortened(&exit.to_string()));
        for (flag, is_set) in [
            ("interrupted", sidecar.interrupted),
            ("truncated", sidecar.truncated),
            ("gaps", sidecar.lost.gaps > 0),
            ("failed", sidecar.failed.is_some()),
        ] {
            if is_set {
                end = format!("{end} [{flag}]");
            }
        }
        [
            started.replace('T', " ").escape_debug().to_string(),
            sidecar.duration_seconds.map_or_else(|| "?".to_owned(), |seconds| format!("{seconds:.0}s")),
            shortened(&sidecar.user),
            sidecar.client.escape_debug().to_string(),
            what,
            end,
            sidecar
                .recording
                .as_deref()
                .map_or_else(|| "(nothing)".to_owned(), |file| file.escape_debug().to_string()),
        ]
    }
}

/// Letters of a command that a table has room for.
const SHOWN_LETTERS: usize = 40;

fn shortened(text: &str) -> String {
    let mut letters = text.chars();
    let shown: String = letters.by_ref().take(SHOWN_LETTERS).collect();
    let more = if letters.next().is_some() { "…" } else { "" };
    format!("{}{more}", shown.escape_debug())
}
