//! Events as lines of a recording: asciicast v2 and v3 for terminals, an event log for all else.

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::about::{Exit, Facts, TerminalFacts};
use super::config::Format;
use super::event::{Event, Lost, Outcome, Stream};
use super::utf8::Utf8;

/// Version of the event log. It rises when something in it changes its meaning.
pub(super) const LOG_VERSION: u64 = 1;

/// Makes lines.
#[derive(Debug)]
pub(super) enum Encoder {
    Cast(Cast),
    Log,
}

/// asciicast. Text only: what is no UTF-8 becomes U+FFFD.
#[derive(Debug)]
pub(super) struct Cast {
    format: Format,
    terminal: TerminalFacts,
    output: Utf8,
    input: Utf8,
    /// When the last event was, in microseconds: v3 counts from there.
    last: u64,
}

impl Encoder {
    /// For a session; a terminal's is a cast.
    pub(super) fn new(facts: &Facts, format: Format) -> Self {
        match &facts.terminal {
            None => Self::Log,
            Some(terminal) => Self::Cast(Cast {
                format,
                terminal: terminal.clone(),
                output: Utf8::default(),
                input: Utf8::default(),
                last: 0,
            }),
        }
    }

    /// The format, unless it is the event log.
    pub(super) fn format(&self) -> Option<Format> {
        match self {
            Self::Cast(cast) => Some(cast.format),
            Self::Log => None,
        }
    }

    /// How its files' names end.
    pub(super) fn suffix(&self) -> &'static str {
        match self {
            Self::Cast(_) => "cast",
            Self::Log => "jsonl",
        }
    }

    /// The first line.
    pub(super) fn header(&self, facts: &Facts, started: SystemTime) -> String {
        let timestamp = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let title = format!("{} ({}-{})", facts.user, facts.connection, facts.session);
        let mut header = match self {
            Self::Log => json!({
                "version": LOG_VERSION,
                "type": "coracle-events",
                "timestamp": timestamp,
                "title": title,
                "kind": facts.kind,
            }),
            Self::Cast(Cast { format: Format::AsciicastV2, terminal, .. }) => json!({
                "version": 2,
                "width": terminal.columns,
                "height": terminal.rows,
                "timestamp": timestamp,
                "title": title,
                "env": {"TERM": terminal.term},
            }),
            Self::Cast(Cast { format: Format::AsciicastV3, terminal, .. }) => json!({
                "version": 3,
                "term": {"cols": terminal.columns, "rows": terminal.rows, "type": terminal.term},
                "timestamp": timestamp,
                "title": title,
                "env": {"TERM": terminal.term},
            }),
        };
        if let (Some(command), Some(fields)) = (&facts.command, header.as_object_mut()) {
            fields.insert("command".to_owned(), Value::String(command.clone()));
        }
        format!("{header}\n")
    }

    /// Something that happened.
    pub(super) fn event(&mut self, at: Duration, event: &Event, lines: &mut String) {
        match self {
            Self::Cast(cast) => cast.event(at, event, lines),
            Self::Log => log_event(at, event, lines),
        }
    }

    /// Something is missing here.
    pub(super) fn gap(&mut self, at: Duration, lost: Lost, lines: &mut String) {
        let Lost { events, bytes } = lost;
        match self {
            Self::Cast(cast) => {
                cast.finish_characters(at, lines);
                cast.line(at, 'm', &format!("gap: {events} events of {bytes} bytes are missing"), lines);
            }
            Self::Log => log_line(at, &json!({"gap": {"events": events, "bytes": bytes}}), lines),
        }
    }

    /// The recording ends here, and the session goes on.
    pub(super) fn truncated(&mut self, at: Duration, lines: &mut String) {
        match self {
            Self::Cast(cast) => {
                let text = "the recording ends here, at its greatest size; the session went on";
                cast.line(at, 'm', text, lines);
            }
            Self::Log => log_line(at, &json!({"truncated": true}), lines),
        }
    }

    /// The session ends here.
    pub(super) fn exit(&mut self, at: Duration, outcome: &Outcome, lines: &mut String) {
        match self {
            Self::Cast(cast) => {
                cast.finish_characters(at, lines);
                match (cast.format, outcome) {
                    (Format::AsciicastV3, Outcome::Exited(status)) => {
                        cast.line(at, 'x', &status.to_string(), lines);
                    }
                    (_, Outcome::Exited(status)) => {
                        cast.line(at, 'm', &format!("exit status {status}"), lines);
                    }
                    (_, Outcome::Signaled(name)) => cast.line(at, 'm', &format!("exit signal {name}"), lines),
                    (_, Outcome::Failed(reason)) => cast.line(at, 'm', &format!("ended: {reason}"), lines),
                }
            }
            Self::Log => log_line(at, &json!({"exit": Exit::from(outcome)}), lines),
        }
    }
}

impl Cast {
    fn event(&mut self, at: Duration, event: &Event, lines: &mut String) {
        let (code, text) = match event {
            // A person at the terminal saw both.
            Event::Output(_, bytes) => ('o', self.output.decode(bytes)),
            Event::Input(bytes) => ('i', self.input.decode(bytes)),
            Event::Resize { columns, rows } => ('r', format!("{columns}x{rows}")),
            Event::Signal(name) => ('m', format!("signal {name}")),
        };
        // The first byte of a character alone.
        if !text.is_empty() {
            self.line(at, code, &text, lines);
        }
    }

    fn finish_characters(&mut self, at: Duration, lines: &mut String) {
        let rests = [('o', self.output.finish()), ('i', self.input.finish())];
        for (code, text) in rests.into_iter().filter(|(_, text)| !text.is_empty()) {
            self.line(at, code, text, lines);
        }
    }

    fn line(&mut self, at: Duration, code: char, text: &str, lines: &mut String) {
        // Those who tell of events are not one another's clock; a player expects that time does not run back.
        let now = u64::try_from(at.as_micros()).unwrap_or(u64::MAX).max(self.last);
        let time = match self.format {
            Format::AsciicastV2 => now,
            Format::AsciicastV3 => now - self.last,
        };
        self.last = now;
        let text = quoted(text);
        let (seconds, micros) = (time / 1_000_000, time % 1_000_000);
        push(lines, format_args!("[{seconds}.{micros:06},\"{code}\",{text}]\n"));
    }
}

fn log_event(at: Duration, event: &Event, lines: &mut String) {
    let (stream, bytes) = match event {
        Event::Output(Stream::Stdout, bytes) => ("stdout", bytes),
        Event::Output(Stream::Stderr, bytes) => ("stderr", bytes),
        Event::Input(bytes) => ("stdin", bytes),
        Event::Resize { columns, rows } => {
            return log_line(at, &json!({"resize": {"columns": columns, "rows": rows}}), lines);
        }
        Event::Signal(name) => return log_line(at, &json!({"signal": name}), lines),
    };
    let time = log_time(at);
    // Escapes make six letters of a control character; base64 makes four of three bytes, whatever they are.
    if let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(is_binary)) {
        let text = quoted(text);
        push(lines, format_args!("{{\"at\":{time},\"stream\":\"{stream}\",\"text\":{text}}}\n"));
    } else {
        push(lines, format_args!("{{\"at\":{time},\"stream\":\"{stream}\",\"base64\":\""));
        BASE64_STANDARD.encode_string(bytes, lines);
        lines.push_str("\"}\n");
    }
}

/// A character that text seldom has.
fn is_binary(letter: char) -> bool {
    letter.is_control() && !matches!(letter, '\n' | '\r' | '\t' | '\u{8}' | '\u{1b}')
}

fn log_line(at: Duration, fields: &Value, lines: &mut String) {
    let fields = fields.to_string();
    let fields = fields.strip_prefix('{').unwrap_or(&fields);
    push(lines, format_args!("{{\"at\":{},{fields}\n", log_time(at)));
}

fn log_time(at: Duration) -> String {
    format!("{}.{:06}", at.as_secs(), at.subsec_micros())
}

/// As a JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn push(lines: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    lines.write_fmt(text).unwrap_or_default();
}
