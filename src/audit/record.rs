//! What happened as one line of JSON.

use std::io;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use serde_json::{Map, Value};

use crate::events::Event;

/// Of the format. What is added to it leaves it as it is; what is taken away or means something else does not.
pub const VERSION: u32 = 1;

/// Longest text in a record, in bytes. What is longer is cut, and its field named in `cut`: commands come with whole
/// scripts in them, and a client must not be able to fill the disk with one request.
pub const TEXT_BYTES_MAX: usize = 8 << 10;

/// What is the same in all records of one run of the server.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// This installation.
    pub(super) instance: String,
    /// This run of it: `seq` begins anew with each.
    pub(super) run: String,
}

/// A record without its number.
#[derive(Debug)]
pub(super) struct Record {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Record {
    /// Of something that happened to a connection.
    pub(super) fn of(source: &Source, event: &Event<'_>) -> Self {
        let mut fields = Map::new();
        if let Some(connection) = event.connection {
            fields.insert("connection".to_owned(), connection.as_str().into());
        }
        fields.insert("client".to_owned(), event.client.to_string().into());
        if let Some(user) = event.user {
            fields.insert("user".to_owned(), user.into());
        }
        let what = serde_json::to_value(event.what).unwrap_or_default();
        Self::new(source, event.at, fields, what)
    }

    /// Of the stream itself.
    pub(super) fn of_stream(source: &Source, what: Value) -> Self {
        Self::new(source, SystemTime::now(), Map::new(), what)
    }

    fn new(source: &Source, at: SystemTime, mut fields: Map<String, Value>, what: Value) -> Self {
        let time = DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Micros, true);
        let Source { instance, run } = source;
        let head = format!(r#"{{"v":{VERSION},"time":"{time}","instance":"{instance}","run":"{run}","seq":"#);
        if let Value::Object(what) = what {
            fields.extend(what);
        }
        let cut: Vec<Value> =
            fields.iter_mut().filter_map(|(name, value)| cut(value).then(|| name.clone().into())).collect();
        if !cut.is_empty() {
            fields.insert("cut".to_owned(), cut.into());
        }
        // Numbers, texts and lists of our own: all of it can be written.
        let tail = written(&fields).unwrap_or_else(|_| b"{}".to_vec());
        Self { head: head.into_bytes(), tail }
    }

    /// The line with its end.
    pub(super) fn line(&self, seq: u64) -> Vec<u8> {
        let Self { head, tail } = self;
        let mut line = Vec::with_capacity(head.len() + tail.len() + 24);
        line.extend_from_slice(head);
        line.extend_from_slice(seq.to_string().as_bytes());
        line.push(b',');
        line.extend_from_slice(tail.strip_prefix(b"{").unwrap_or(tail));
        line.push(b'\n');
        line
    }
}

/// Whether something in it was too long.
fn cut(value: &mut Value) -> bool {
    match value {
        Value::String(text) if text.len() > TEXT_BYTES_MAX => {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            text.push('…');
            true
        }
        Value::Object(fields) => fields.values_mut().map(cut).fold(false, |one, other| one | other),
        _ => false,
    }
}

fn written(fields: &Map<String, Value>) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fields.serialize(&mut Serializer::with_formatter(&mut bytes, Visible(CompactFormatter)))?;
    Ok(bytes)
}

/// JSON leaves characters as they are that a terminal acts on, or that change how the rest of a line is shown.
struct Visible(CompactFormatter);

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut plain = fragment;
        while let Some((at, letter)) = plain.char_indices().find(|(_, letter)| is_unseen(*letter)) {
            let (before, rest) = plain.split_at(at);
            self.0.write_string_fragment(writer, before)?;
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain = rest.get(letter.len_utf8()..).unwrap_or_default();
        }
        self.0.write_string_fragment(writer, plain)
    }
}

fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn source() -> Source {
        Source { instance: "i".to_owned(), run: "r".to_owned() }
    }

    #[test]
    fn hostile_text_stays_one_line_of_ascii_controls_and_comes_back_as_it_was() {
        let hostile = "a\n\"\\\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{2028}\u{feff}ö😀";

        let line = Record::of_stream(&source(), json!({"event": "x", "detail": hostile})).line(7);

        let text = String::from_utf8(line).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(!text.trim_end().chars().any(is_unseen), "{text:?}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["detail"], &value["seq"], &value["v"]), (&json!(hostile), &json!(7), &json!(1)));
        assert!(value.get("cut").is_none());
    }

    #[test]
    fn what_is_too_long_is_cut_and_said_to_be() {
        let long = "é".repeat(TEXT_BYTES_MAX);

        let line =
            Record::of_stream(&source(), json!({"detail": long, "deep": {"id": long}, "n": 1})).line(1);

        let value: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["cut"], json!(["deep", "detail"]));
        assert_eq!(value["detail"].as_str().unwrap().len(), TEXT_BYTES_MAX + "…".len());
        assert!(value["deep"]["id"].as_str().unwrap().ends_with('…'));
    }
}
