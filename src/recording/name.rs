//! What the files of a recording are called. Nothing that a user chooses is in it.

use std::time::SystemTime;

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::ids::{ConnectionId, InstanceId};

/// What ends the name of a file that is not complete.
pub(super) const PARTIAL: &str = ".partial";

/// What a name tells of the start, in UTC.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// Letters of that.
const TIME_LETTERS: usize = 16;

/// `20250131T235959Z-k3v9…-1`: the session's start, its connection, its number there. Names sort by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(String);

impl Name {
    pub(super) fn new(started: SystemTime, connection: &ConnectionId, session: u32) -> Self {
        Self(format!("{}-{connection}-{session}", DateTime::<Utc>::from(started).format(TIME)))
    }

    /// `None` for what is no recording's name: it is somebody else's.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (time, connection, session) = (parts.next()?, parts.next()?, parts.next()?);
        let sound = time.len() == TIME_LETTERS
            && NaiveDateTime::parse_from_str(time, TIME).is_ok()
            && !connection.is_empty()
            && connection.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            && session.parse::<u32>().is_ok()
            && parts.next().is_none();
        sound.then(|| Self(text.to_owned()))
    }

    /// The name and the suffix of a file that is complete.
    pub(super) fn parse_file(file: &str) -> Option<(Self, &str)> {
        let (name, suffix) = file.split_once('.')?;
        Some((Self::parse(name)?, suffix))
    }

    /// The name and the suffix of a file that is not complete, of this installation.
    pub(super) fn parse_partial<'a>(file: &'a str, instance: &InstanceId) -> Option<(Self, &'a str)> {
        let rest = file.strip_prefix('.')?.strip_prefix(instance.as_str())?.strip_prefix('.')?;
        Self::parse_file(rest.strip_suffix(PARTIAL)?)
    }

    /// When the session started.
    pub(super) fn started(&self) -> Option<SystemTime> {
        let time = NaiveDateTime::parse_from_str(self.0.get(..TIME_LETTERS)?, TIME).ok()?;
        Some(time.and_utc().into())
    }

    /// The connection and the number of the session on it.
    pub(super) fn session(&self) -> Option<(&str, u32)> {
        let mut parts = self.0.split('-').skip(1);
        Some((parts.next()?, parts.next()?.parse().ok()?))
    }

    /// Of a complete file.
    pub(super) fn file(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.0)
    }

    /// Of one that is not complete: hidden, and with the installation's id, so that servers that share a folder leave one
    /// another's alone.
    pub(super) fn partial(&self, instance: &InstanceId, suffix: &str) -> String {
        format!(".{instance}.{}.{suffix}{PARTIAL}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_name_is_read_back_and_others_are_not_ours() {
        let (connection, instance) = (ConnectionId::random(), InstanceId::random());
        let started = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let name = Name::new(started, &connection, 3);

        assert_eq!(name.file("cast"), format!("20231114T221320Z-{connection}-3.cast"));
        assert_eq!(Name::parse_file(&name.file("cast")), Some((name.clone(), "cast")));
        assert_eq!(name.started(), Some(started));
        assert_eq!(name.session(), Some((connection.as_str(), 3)));
        let partial = name.partial(&instance, "json");
        assert_eq!(Name::parse_partial(&partial, &instance), Some((name, "json")));
        assert_eq!(Name::parse_partial(&partial, &InstanceId::random()), None);
        for other in
            ["notes.cast", "20231114T221320Z-abc.cast", "20231114T221320Z-../x-1.cast", "x-abc-1.json"]
        {
            assert_eq!(Name::parse_file(other), None, "{other}");
        }
    }
}
