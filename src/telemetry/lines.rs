//! Lines of the log, on their way out: whatever got into one, it stays one line, without a character that could move a
//! cursor or hide what follows.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::SystemTime;

use serde_json::json;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::datagram::syslog_record;
use super::queue::{Gap, Queue};
use super::{Facility, Format};
use crate::ids::is_invisible;

/// Longest line, in bytes; past it it is cut. A client's command may have a megabyte.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

/// Where lines go.
#[derive(Debug)]
pub(super) enum Way {
    Stderr,
    Stdout,
    File(Queue),
    Syslog(Queue, Facility),
}

/// Makes a [`Line`] for each event.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) way: Way,
    pub(super) format: Format,
    /// Whether the library paints them. It escapes what others paint.
    pub(super) painted: bool,
}

/// A line that is being written; it goes out when it is dropped.
#[derive(Debug)]
pub(super) struct Line<'a> {
    lines: &'a Lines,
    level: Level,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { lines: self, level: Level::INFO, text: Vec::new() }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        Line { lines: self, level: *event.level(), text: Vec::new() }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        let mut line = tame(text.trim_end_matches('\n'), self.lines.format, self.lines.painted);
        match &self.lines.way {
            Way::Syslog(queue, facility) => queue.put(syslog_record(*facility, self.level, &line)),
            Way::File(queue) => {
                line.push('\n');
                queue.put(line.into_bytes());
            }
            // Nobody can be told when these fail.
            Way::Stderr => {
                line.push('\n');
                drop(io::stderr().lock().write_all(line.as_bytes()));
            }
            Way::Stdout => {
                line.push('\n');
                let mut stdout = io::stdout().lock();
                drop(stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()));
            }
        }
    }
}

/// One line; in the format for people, of the length that is allowed.
pub(super) fn tame(text: &str, format: Format, painted: bool) -> String {
    let end = match format {
        Format::Text => text.floor_char_boundary(LINE_BYTES_MAX),
        // Half an object is none.
        Format::Json => text.len(),
    };
    let mut line = String::with_capacity(end);
    for letter in text.get(..end).unwrap_or_default().chars() {
        let is_wild = letter.is_control() || is_invisible(letter);
        // Writing to a string cannot fail.
        let outcome = match (is_wild, format) {
            (false, _) => line.write_char(letter),
            (true, Format::Text) if painted && letter == '\x1b' => line.write_char(letter),
            (true, Format::Text) => write!(line, "{}", letter.escape_default()),
            // In JSON it can be but part of a string.
            (true, Format::Json) => write!(line, "\\u{:04x}", u32::from(letter)),
        };
        debug_assert!(outcome.is_ok());
    }
    if end < text.len() {
        line.push('…');
    }
    line
}

/// How a file is told that so many lines were lost.
pub(super) fn gap(format: Format) -> Gap {
    match format {
        Format::Text => Box::new(|lost| {
            let now = humantime::format_rfc3339_micros(SystemTime::now());
            format!("{now}  WARN coracle::telemetry: lines of the log were lost lost={lost}\n").into_bytes()
        }),
        Format::Json => Box::new(|lost| {
            let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
            let message = "lines of the log were lost";
            let line = json!({ "timestamp": timestamp, "level": "WARN", "message": message, "lost": lost });
            format!("{line}\n").into_bytes()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_gets_into_a_line_it_stays_one_and_hides_nothing() {
        let hostile = "a\r\nb\t\u{9b}2J\x1b\u{7f}\u{202e}\0";

        assert_eq!(tame(hostile, Format::Text, false), r"a\r\nb\t\u{9b}2J\u{1b}\u{7f}\u{202e}\u{0}");
        assert_eq!(
            tame(hostile, Format::Json, false),
            r"a\u000d\u000ab\u0009\u009b2J\u001b\u007f\u202e\u0000"
        );
        assert_eq!(tame("ü \"x\" \\n", Format::Text, false), "ü \"x\" \\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_two_letters() {
        let line = tame(&"ü".repeat(LINE_BYTES_MAX), Format::Text, false);

        assert_eq!(line, "ü".repeat(LINE_BYTES_MAX / 2) + "…");
    }
}
