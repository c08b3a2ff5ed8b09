//! `coracle recordings`: which there are, and what was shown in them.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use regex::Regex;

use super::{Failure, load, print};
use crate::config;
use crate::recording::{self, Entry, Filter, Keep, Listed, Reader, Utf8, What};

/// Longest line of a recording that is searched, in bytes; what is longer is searched in pieces.
const LINE_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Subcommand)]
pub(super) enum Recordings {
    /// List the recordings that are complete, the oldest first
    Ls {
        #[command(flatten)]
        place: Place,
        /// All that is known of each, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print where PATTERN was shown: in the output alone, without what only a terminal reads
    Grep {
        /// A regular expression
        pattern: Regex,
        #[command(flatten)]
        place: Place,
    },
}

/// Which recordings.
#[derive(Args, Debug)]
pub(super) struct Place {
    /// Only of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The folder of the recordings [default: `recording.dir` of the configuration]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Configuration [default: ./config.yaml, else /etc/coracle/config.yaml, else built in]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Recordings {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Ls { place, json: true } => {
                let all: Vec<_> = place.list()?.iter().map(Listed::json).collect();
                let json = serde_json::to_string_pretty(&all).context("failed to show the recordings")?;
                Ok(print(&(json + "\n"))?)
            }
            Self::Ls { place, json: false } => Ok(print(&table(&place.list()?))?),
            Self::Grep { pattern, place } => {
                for listed in place.list()? {
                    // One that is damaged must not hide the others.
                    if let Err(error) = search(&listed, &pattern) {
                        complain(&format!("{error:#}"))?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl Place {
    fn list(&self) -> Result<Vec<Listed>, Failure> {
        let dir = if let Some(dir) = &self.dir {
            dir.clone()
        } else {
            let config = load(self.config.clone().or_else(config::usual_file).as_deref())?;
            let dir = config.recording.dir;
            dir.context("the configuration has no `recording.dir`: name the folder with --dir")?
        };
        let listed = recording::list(&dir);
        let mut listed = listed.with_context(|| format!("failed to read the folder `{}`", dir.display()))?;
        listed.retain(|listed| self.user.as_deref().is_none_or(|user| listed.user() == user));
        Ok(listed)
    }
}

fn table(listed: &[Listed]) -> String {
    let head = ["STARTED (UTC)", "LASTED", "USER", "CLIENT", "COMMAND", "EXIT", "FILE"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(listed.iter().map(Listed::row)).collect();
    let mut text = String::new();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let width = if at + 1 == row.len() { 0 } else { width + 2 };
            // Writing to a string cannot fail.
            write!(text, "{cell:width$}").unwrap_or_default();
        }
        text.push('\n');
    }
    text
}

/// Prints `FILE:TIME: LINE` for each line that matches.
fn search(listed: &Listed, pattern: &Regex) -> anyhow::Result<()> {
    let Some(file) = listed.file() else { return Ok(()) };
    let mut reader = Reader::open(&file)?;
    let tell = |line: &str, at: Duration| {
        if !pattern.is_match(line) {
            return Ok(());
        }
        print(&format!("{}:{:.3}: {line}\n", file.display(), at.as_secs_f64()))
    };
    let (mut utf8, mut filter) = (Utf8::default(), Filter::new(Keep::Text));
    let (mut pending, mut last) = (String::new(), Duration::ZERO);
    while let Some(Entry { at, what }) = reader.next_entry()? {
        let What::Output(_, bytes) = what else { continue };
        filter.pass(&utf8.decode(&bytes), &mut pending);
        last = at;
        let text = std::mem::take(&mut pending);
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => tell(line, at)?,
                None if line.len() > LINE_BYTES_MAX => tell(line, at)?,
                None => line.clone_into(&mut pending),
            }
        }
    }
    tell(&pending, last)
}

fn complain(text: &str) -> anyhow::Result<()> {
    writeln!(io::stderr().lock(), "coracle: {text}").context("failed to write to standard error")
}
