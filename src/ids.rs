//! Names that travel between modules: parsed once at the border, trusted afterwards.

use std::fmt;

use rand::RngExt;

/// Letters that cannot be mistaken for one another when read aloud (Crockford's base 32, lower case).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 12 letters of 5 bits: collisions stay out of reach for any number of live connections.
const CONNECTION_ID_LETTERS: usize = 12;

/// One TCP + SSH transport (RFC 4253). Shown to users so that they can quote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(String);

impl ConnectionId {
    /// A fresh random id.
    #[must_use]
    pub fn random() -> Self {
        Self(random_letters(CONNECTION_ID_LETTERS))
    }

    /// Reads an id back; `None` when it is not one that [`ConnectionId::random`] could have made.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let sound =
            text.len() == CONNECTION_ID_LETTERS && text.bytes().all(|letter| ALPHABET.contains(&letter));
        sound.then(|| Self(text.to_owned()))
    }

    /// The first letters, for names that people read, such as a host name.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..6).unwrap_or(&self.0)
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A container that was started before anybody wanted it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WarmId(String);

impl WarmId {
    /// A fresh random id.
    #[must_use]
    pub fn random() -> Self {
        Self(random_letters(CONNECTION_ID_LETTERS))
    }

    /// The first letters, for names that people read, such as a host name.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..6).unwrap_or(&self.0)
    }
}

impl fmt::Display for WarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One installation of the server, kept in its state folder: tells our containers from everybody else's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstanceId(String);

impl InstanceId {
    /// A fresh random id.
    #[must_use]
    pub fn random() -> Self {
        Self(random_letters(16))
    }

    /// Reads an id back; `None` when it is not one that [`InstanceId::random`] could have made.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let sound = text.len() == 16 && text.bytes().all(|letter| ALPHABET.contains(&letter));
        sound.then(|| Self(text.to_owned()))
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The engine's own id of a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    /// Wraps what the engine answered.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..12).unwrap_or(&self.0))
    }
}

/// Longest user name that we look at, in bytes; Linux itself stops at 32, directories go further.
const USERNAME_BYTES_MAX: usize = 128;

/// The user name of RFC 4252 §5, as the client sent it and fit to be shown, logged and used as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Username(String);

impl Username {
    /// Refuses what could do harm further on: empty, over 128 bytes, or with control characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let sound = !text.is_empty()
            && text.len() <= USERNAME_BYTES_MAX
            && !text.chars().any(|letter| letter.is_control() || is_invisible(letter));
        sound.then(|| Self(text.to_owned()))
    }

    /// A name that nobody can have: what is judged in place of one that is none, so that both take the same time.
    #[must_use]
    pub fn nobody() -> Self {
        Self("\0".to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is safe as one component of a path.
    #[must_use]
    pub fn is_path_component(&self) -> bool {
        !self.0.starts_with('.') && !self.0.contains(['/', '\\', '\0'])
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name as a client typed it, fit for a line of the log whatever is in it: escaped, and cut where no name goes on.
#[must_use]
pub fn shown_name(typed: &str) -> String {
    let end = typed.floor_char_boundary(USERNAME_BYTES_MAX);
    let more = if end < typed.len() { "…" } else { "" };
    format!("{}{more}", typed.get(..end).unwrap_or_default().escape_debug())
}

/// Characters that change how the rest of a line is shown without being seen themselves.
pub(crate) fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn random_letters(count: usize) -> String {
    let mut random = rand::rng();
    (0..count)
        .map(|_| char::from(ALPHABET.get(random.random_range(0..ALPHABET.len())).copied().unwrap_or(b'0')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_survives_being_written_and_read() {
        let id = InstanceId::random();

        assert_eq!(InstanceId::parse(id.as_str()), Some(id));
        assert_eq!(InstanceId::parse("short"), None);
        assert_eq!(InstanceId::parse("ABCDEFGHIJKLMNOP"), None);
    }

    #[test]
    fn hostile_user_names_are_refused_and_odd_ones_are_data() {
        for hostile in ["", "a\nb", "a\0b", "\u{1b}[2J", "x\u{202e}y"] {
            assert_eq!(Username::parse(hostile), None, "{hostile:?}");
        }
        assert_eq!(Username::parse(&"x".repeat(65_536)), None);
        for odd in ["alice", "$(id)", "a/b:c", "../../x", "😀"] {
            assert!(Username::parse(odd).is_some(), "{odd:?}");
        }
    }

    #[test]
    fn only_plain_names_may_become_part_of_a_path() {
        let may = |name: &str| Username::parse(name).is_some_and(|name| name.is_path_component());

        assert!(may("alice"));
        assert!(!may("../../x"));
        assert!(!may(".."));
        assert!(!may("a/b"));
    }

    /// A9
    #[test]
    fn a_name_in_the_log_is_one_short_line() {
        assert_eq!(shown_name("a\n\u{1b}[2J\u{202e}ö"), "a\\n\\u{1b}[2J\\u{202e}ö");
        assert_eq!(shown_name(&"é".repeat(70)), "é".repeat(64) + "…");
    }
}
