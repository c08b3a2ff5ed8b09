//! systemd's journal, in its own protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): a field for each field of an
//! event, so that `journalctl CORACLE_CONNECTION=…` finds what happened to a connection.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level as Severity, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::Format;
use super::datagram::{IDENTIFIER, severity};
use super::lines::tame;
use super::queue::Queue;

/// In front of the names of our fields.
const PREFIX: &str = "CORACLE_";

/// Longest value of a field, in bytes; past it it is cut. All of an event has to fit into a datagram.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// Sends events to the journal.
#[derive(Debug)]
pub(super) struct Journald {
    queue: Queue,
}

impl Journald {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue }
    }
}

impl<S: Subscriber> Layer<S> for Journald {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = Entry::default();
        event.record(&mut entry);
        let severity = severity(*metadata.level()).to_string();
        self.queue.put(entry.finish(&severity, metadata.target()));
    }
}

/// Says that so many entries were lost.
pub(super) fn gap(lost: u64) -> Vec<u8> {
    let message = format!("lines of the log were lost lost={lost}");
    Entry { message, ..Entry::default() }.finish(&severity(Severity::WARN).to_string(), "coracle::telemetry")
}

/// An entry that is being written.
#[derive(Default)]
struct Entry {
    message: String,
    /// The same fields for people.
    rest: String,
    fields: Vec<u8>,
}

impl Entry {
    fn finish(mut self, severity: &str, target: &str) -> Vec<u8> {
        let message = format!("{}{}", self.message, self.rest);
        put(&mut self.fields, "MESSAGE", &tame(&message, Format::Text, false));
        put(&mut self.fields, "PRIORITY", severity);
        put(&mut self.fields, "SYSLOG_IDENTIFIER", IDENTIFIER);
        put(&mut self.fields, &format!("{PREFIX}TARGET"), target);
        self.fields
    }

    fn take(&mut self, field: &Field, value: &str, shown: fmt::Arguments<'_>) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        put(&mut self.fields, &name(field.name()), value);
        // Writing to a string cannot fail.
        let written = write!(self.rest, " {}={shown}", field.name());
        debug_assert!(written.is_ok());
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value, format_args!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, &format!("{value:?}"), format_args!("{value:?}"));
    }
}

/// Capital letters, digits and underscores.
fn name(field: &str) -> String {
    let letter = |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_uppercase() } else { '_' };
    PREFIX.chars().chain(field.chars().map(letter)).collect()
}

fn put(to: &mut Vec<u8>, name: &str, value: &str) {
    let value = value.get(..value.floor_char_boundary(VALUE_BYTES_MAX)).unwrap_or_default().as_bytes();
    to.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        // With its length, it cannot be taken for another field.
        to.push(b'\n');
        to.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        to.push(b'=');
    }
    to.extend_from_slice(value);
    to.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::queue::Sink;

    struct Ear(mpsc::Sender<Vec<u8>>);

    impl Sink for Ear {
        fn write(&mut self, line: &[u8]) -> io::Result<()> {
            self.0.send(line.to_owned()).map_err(io::Error::other)
        }

        fn reopen(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn name(&self) -> String {
            "an ear".to_owned()
        }
    }

    fn heard(log: impl FnOnce()) -> String {
        let (tell, hear) = mpsc::channel();
        let queue = Queue::start(Box::new(Ear(tell)), Box::new(gap)).unwrap();
        let subscriber = tracing_subscriber::registry().with(Journald::new(queue));
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(hear.recv_timeout(Duration::from_mins(1)).unwrap()).unwrap()
    }

    #[test]
    fn each_field_of_an_event_is_one_of_its_entry() {
        let entry = heard(|| {
            let (connection, user) = (Some(tracing::field::display("9f3k")), "alice");
            tracing::warn!(connection, user, session = 2, error = Option::<&str>::None, "session ended");
        });

        let lines: Vec<_> = entry.lines().collect();
        let expected = [
            "CORACLE_CONNECTION=9f3k",
            "CORACLE_USER=alice",
            "CORACLE_SESSION=2",
            "MESSAGE=session ended connection=9f3k user=\"alice\" session=2",
            "PRIORITY=4",
            "SYSLOG_IDENTIFIER=coracle",
            "CORACLE_TARGET=coracle::telemetry::journald::tests",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_value_with_lines_is_one_value_and_cannot_become_another_field() {
        let entry = heard(|| tracing::info!(detail = "a\nPRIORITY=0\nMESSAGE=forged", "x\nPRIORITY=0"));

        let value = "a\nPRIORITY=0\nMESSAGE=forged";
        let length = String::from_utf8((value.len() as u64).to_le_bytes().to_vec()).unwrap();
        assert!(entry.starts_with(&format!("CORACLE_DETAIL\n{length}{value}\n")), "{entry:?}");
        let rest = entry.split_once("forged\n").unwrap().1;
        assert!(
            rest.starts_with(r#"MESSAGE=x\nPRIORITY=0 detail="a\nPRIORITY=0\nMESSAGE=forged""#),
            "{rest:?}"
        );
        assert_eq!(rest.lines().count(), 4, "{rest:?}");
    }
}
