//! Recordings read back, ours and other people's: asciicast v2 and v3, and the event log. What is in them is not to be
//! trusted: it was said by whoever was recorded, or the file is none of ours.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::about::Exit;
use super::event::Stream;

/// Longest line that is read, in bytes: a few times what the longest event makes of itself. A longer one ends it.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Later than this nothing in a recording happens; a time past it is taken for this.
const TIME_MAX: Duration = Duration::from_hours(24 * 365);

/// A recording from its first event to its last.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    format: Form,
    /// When the last event was.
    at: Duration,
    line: u64,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// asciicast v2, with times since the start.
    CastV2,
    /// asciicast v3, with times since the event before.
    CastV3,
    /// Our event log.
    Log,
}

/// An event, and when it was, since the start. Times never run back.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Since the start.
    pub at: Duration,
    /// What it was.
    pub what: What,
}

/// What a recording tells.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The client was sent this.
    Output(Stream, Vec<u8>),
    /// The client sent this.
    Input(Vec<u8>),
    /// Anything else, in words.
    Note(String),
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("failed to read `{}`: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        reason: io::Error,
    },
    /// It is something else.
    #[error("`{}` is no recording: it is neither asciicast v2 or v3 nor one of our event logs", .0.display())]
    Foreign(PathBuf),
    /// A line is no event.
    #[error("`{}`, line {line}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl Reader {
    /// Opens a recording.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let unreadable = |reason| ReadError::Unreadable { path: path.to_owned(), reason };
        let file = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut reader = Self { path: path.to_owned(), file, format: Form::Log, at: Duration::ZERO, line: 0 };
        let header = reader.next_line()?.unwrap_or_default();
        let header: Value = serde_json::from_slice(&header).unwrap_or_default();
        reader.format = match (header.get("version").and_then(Value::as_u64), header.get("type")) {
            (Some(1), Some(kind)) if kind == "coracle-events" => Form::Log,
            (Some(2), None) => Form::CastV2,
            (Some(3), None) => Form::CastV3,
            _ => return Err(ReadError::Foreign(path.to_owned())),
        };
        Ok(reader)
    }

    /// How it is written.
    #[must_use]
    pub fn form(&self) -> Form {
        self.format
    }

    /// The next event; `None` after the last one. One that was cut in the middle is no more.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            let Some(line) = self.next_line()? else { return Ok(None) };
            // asciicast v3 has comments.
            if line.trim_ascii().is_empty() || line.starts_with(b"#") {
                continue;
            }
            let read = match self.format {
                Form::Log => self.log_entry(&line),
                Form::CastV2 | Form::CastV3 => self.cast_entry(&line),
            };
            match read {
                Ok(Some(what)) => return Ok(Some(Entry { at: self.at, what })),
                Ok(None) => {}
                Err(_) if !line.ends_with(b"\n") => return Ok(None),
                Err(reason) => {
                    return Err(ReadError::Damaged { path: self.path.clone(), line: self.line, reason });
                }
            }
        }
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let mut line = Vec::new();
        let read = self.file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let read = read.map_err(|reason| ReadError::Unreadable { path: self.path.clone(), reason })?;
        self.line += 1;
        if line.len() as u64 == LINE_BYTES_MAX {
            let reason = "it is longer than any event".to_owned();
            return Err(ReadError::Damaged { path: self.path.clone(), line: self.line, reason });
        }
        Ok((read > 0).then_some(line))
    }

    fn cast_entry(&mut self, line: &[u8]) -> Result<Option<What>, String> {
        let (time, code, data): (f64, String, String) =
            serde_json::from_slice(line).map_err(|error| format!("this is no event: {error}"))?;
        match self.format {
            Form::CastV3 => self.advance_to(self.at.saturating_add(span(time))),
            _ => self.advance_to(span(time)),
        }
        Ok(match code.as_str() {
            "o" => Some(What::Output(Stream::Stdout, data.into_bytes())),
            "i" => Some(What::Input(data.into_bytes())),
            "r" => Some(What::Note(format!("resize {data}"))),
            "m" => Some(What::Note(data)),
            "x" => Some(What::Note(format!("exit status {data}"))),
            // Of a later version.
            _ => None,
        })
    }

    fn log_entry(&mut self, line: &[u8]) -> Result<Option<What>, String> {
        let fields: Value =
            serde_json::from_slice(line).map_err(|error| format!("this is no event: {error}"))?;
        let time = fields.get("at").and_then(Value::as_f64).ok_or("this event has no time")?;
        self.advance_to(span(time));
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        if let Some(stream) = text("stream") {
            let bytes = match (text("text"), text("base64")) {
                (Some(text), _) => text.as_bytes().to_vec(),
                (None, Some(code)) => {
                    BASE64_STANDARD.decode(code).map_err(|error| format!("this is no base64: {error}"))?
                }
                (None, None) => return Err("this event has no data".to_owned()),
            };
            return Ok(match stream {
                "stdout" => Some(What::Output(Stream::Stdout, bytes)),
                "stderr" => Some(What::Output(Stream::Stderr, bytes)),
                "stdin" => Some(What::Input(bytes)),
                _ => None,
            });
        }
        if let Some(exit) = fields.get("exit") {
            let exit: Exit = serde_json::from_value(exit.clone()).map_err(|error| error.to_string())?;
            return Ok(Some(What::Note(format!("exit {exit}"))));
        }
        let number = |path: &str| fields.pointer(path).and_then(Value::as_u64).unwrap_or_default();
        Ok(if let Some(signal) = text("signal") {
            Some(What::Note(format!("signal {signal}")))
        } else if fields.get("gap").is_some() {
            let (events, bytes) = (number("/gap/events"), number("/gap/bytes"));
            Some(What::Note(format!("gap: {events} events of {bytes} bytes are missing")))
        } else if fields.get("truncated").is_some() {
            Some(What::Note("the recording ends here, at its greatest size".to_owned()))
        } else {
            None
        })
    }

    fn advance_to(&mut self, time: Duration) {
        self.at = self.at.max(time.min(TIME_MAX));
    }
}

/// A number of seconds, whatever it is.
fn span(seconds: f64) -> Duration {
    // NaN and what is less than nothing are nothing.
    Duration::try_from_secs_f64(seconds.clamp(0.0, TIME_MAX.as_secs_f64())).unwrap_or_default()
}
