//! What programs have changed in a container's files.

/// What changed since the container was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files and folders by their paths in the container. A folder in which something changed has changed, too.
    pub files: Vec<(String, Change)>,
    /// There are more than were wanted.
    pub truncated: bool,
}

/// How a file changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Added,
    /// It was there and is another now, or has other attributes.
    Changed,
    /// It is not there any more.
    Deleted,
}

impl Change {
    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }
}
