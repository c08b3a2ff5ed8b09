//! What hooks say about a user, and the bounds that hold for it.

use std::collections::BTreeMap;
use std::fmt;

use crate::ids::Username;
use crate::secret::Secret;

/// Most characters of a name that an error repeats.
const QUOTED_CHARACTERS_MAX: usize = 64;
/// Most entries in each of `metadata`, `environment` and `files`.
const ENTRIES_MAX: usize = 128;
/// Longest name of a variable or an entry of the metadata, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Longest value of one, in bytes.
const VALUE_BYTES_MAX: usize = 32 * 1024;
/// Most bytes that the names and values of `metadata`, or those of `environment`, may have together.
const VALUES_BYTES_MAX: usize = 128 * 1024;
/// Longest path of a file, in bytes; Linux itself stops there.
const PATH_BYTES_MAX: usize = 4096;
/// Most bytes that the contents of all files may have together.
const FILES_BYTES_MAX: usize = 1 << 20;

/// What hooks say about a user whom they let in.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Who the user is, where that is not the name that was logged in with.
    pub authenticated_username: Option<Username>,
    /// What hooks tell each other.
    pub metadata: BTreeMap<String, Marked<String>>,
    /// Variables for every program.
    pub environment: BTreeMap<String, Marked<String>>,
    /// Files for the container: absolute paths without `.` and `..`, and their contents.
    pub files: BTreeMap<String, Marked<Secret<Vec<u8>>>>,
}

/// A value that a hook may mark as not to be shown to other hooks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Marked<T> {
    /// The value.
    pub value: T,
    /// Whether other hooks are not told of it.
    pub sensitive: bool,
}

impl Facts {
    /// What was known before, and what `later` adds or says anew. Names that `later` does not have stay as they are.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        self.authenticated_username = later.authenticated_username.or(self.authenticated_username);
        self.metadata.extend(later.metadata);
        self.environment.extend(later.environment);
        self.files.extend(later.files);
        self
    }

    /// The metadata without its marks.
    #[must_use]
    pub fn metadata_values(&self) -> BTreeMap<String, String> {
        self.metadata.iter().map(|(name, marked)| (name.clone(), marked.value.clone())).collect()
    }

    /// The variables without their marks, as name and value.
    #[must_use]
    pub fn environment_values(&self) -> Vec<(String, String)> {
        self.environment.iter().map(|(name, marked)| (name.clone(), marked.value.clone())).collect()
    }

    /// The files without their marks, as path and contents.
    #[must_use]
    pub fn file_contents(&self) -> Vec<(String, Secret<Vec<u8>>)> {
        self.files.iter().map(|(path, marked)| (path.clone(), marked.value.clone())).collect()
    }

    /// Whether everything is fit to be used; else what is not. The reason shows names, never values.
    pub(super) fn check(&self) -> Result<(), String> {
        check_values("metadata", &self.metadata)?;
        check_values("environment", &self.environment)?;
        if let Some(name) = self.environment.keys().find(|name| !is_variable_name(name)) {
            return Err(format!("`environment` has {}, which is no name of a variable", quoted(name)));
        }
        check_count("files", self.files.len())?;
        if let Some(path) = self.files.keys().find(|path| !is_plain_path(path)) {
            let path = quoted(path);
            return Err(format!(
                "`files` has {path}, which is no absolute path of a file without `.` and `..`"
            ));
        }
        let total: usize = self.files.values().map(|file| file.value.expose().len()).sum();
        if total > FILES_BYTES_MAX {
            return Err(format!("`files` has {total} bytes, more than {FILES_BYTES_MAX}"));
        }
        Ok(())
    }
}

/// Shows nothing: what is not marked may still be somebody's secret.
impl<T> fmt::Debug for Marked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A name as an error repeats it: harmless, and not at any length.
pub(super) fn quoted(name: &str) -> String {
    let start: String = name.chars().take(QUOTED_CHARACTERS_MAX).collect();
    format!("{start:?}")
}

fn check_values(what: &str, values: &BTreeMap<String, Marked<String>>) -> Result<(), String> {
    check_count(what, values.len())?;
    for (name, Marked { value, .. }) in values {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
            return Err(format!("`{what}` has a name that is empty, too long or has control characters"));
        }
        if value.len() > VALUE_BYTES_MAX {
            let (name, bytes) = (quoted(name), value.len());
            return Err(format!("{name} in `{what}` has {bytes} bytes, more than {VALUE_BYTES_MAX}"));
        }
        if value.contains('\0') {
            return Err(format!("{} in `{what}` has a zero byte", quoted(name)));
        }
    }
    let total: usize = values.iter().map(|(name, marked)| name.len() + marked.value.len()).sum();
    if total > VALUES_BYTES_MAX {
        return Err(format!("`{what}` has {total} bytes, more than {VALUES_BYTES_MAX}"));
    }
    Ok(())
}

fn check_count(what: &str, count: usize) -> Result<(), String> {
    if count > ENTRIES_MAX {
        return Err(format!("`{what}` has {count} entries, more than {ENTRIES_MAX}"));
    }
    Ok(())
}

fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|letter: char| letter.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_plain_path(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX
        && !path.contains(char::is_control)
        && path.strip_prefix('/').is_some_and(|relative| {
            relative.split('/').all(|component| !matches!(component, "" | "." | ".."))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Marked<String> {
        Marked { value: value.to_owned(), sensitive: false }
    }

    fn environment(name: &str, value: &str) -> Facts {
        Facts { environment: BTreeMap::from([(name.to_owned(), text(value))]), ..Facts::default() }
    }

    fn file(path: &str, bytes: usize) -> Facts {
        let contents = Marked { value: Secret::new(vec![b'x'; bytes]), sensitive: false };
        Facts { files: BTreeMap::from([(path.to_owned(), contents)]), ..Facts::default() }
    }

    #[test]
    fn names_and_paths_that_could_do_harm_are_refused() {
        assert_eq!(environment("A_1", "x\ny").check(), Ok(()));
        for name in ["", "A B", "A=B", "1A", "Ä", "A\0", &"A".repeat(NAME_BYTES_MAX + 1)] {
            assert!(environment(name, "x").check().is_err(), "{name:?}");
        }
        assert!(environment("A", "x\0y").check().is_err());
        assert_eq!(file("/home/u/.ssh/config", 1).check(), Ok(()));
        for path in ["", "/", "etc/x", "/etc/", "/a/../b", "/a/./b", "/a//b", "/..", "/a\0", "/a\nb"] {
            assert!(file(path, 1).check().is_err(), "{path:?}");
        }
        assert!(file(&format!("/{}", "a".repeat(PATH_BYTES_MAX)), 1).check().is_err());
    }

    #[test]
    fn what_is_past_a_bound_is_refused_and_its_values_are_not_shown() {
        let secret = "SECRET".repeat(VALUE_BYTES_MAX);
        let error = environment("A", &secret).check().unwrap_err();
        assert!(error.contains("\"A\" in `environment`") && !error.contains("SECRET"), "{error}");

        let names = (0..).map(|index: usize| (format!("N{index}"), text(&"x".repeat(VALUE_BYTES_MAX))));
        let facts = Facts { metadata: names.take(5).collect(), ..Facts::default() };
        assert!(facts.check().unwrap_err().contains("more than 131072"));

        let names = (0..=ENTRIES_MAX).map(|index| (format!("N{index}"), text("")));
        let facts = Facts { environment: names.collect(), ..Facts::default() };
        assert!(facts.check().unwrap_err().contains("129 entries"));

        assert_eq!(file("/a", FILES_BYTES_MAX).check(), Ok(()));
        assert!(file("/a", FILES_BYTES_MAX + 1).check().is_err());
    }

    #[test]
    fn what_a_later_hook_says_wins_and_what_it_leaves_out_stays() {
        let first = Facts {
            authenticated_username: Username::parse("alice"),
            ..environment("A", "1").and(environment("B", "1")).and(file("/f", 1))
        };

        let both = first.and(environment("B", "2"));

        let expected = [("A", "1"), ("B", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(both.environment_values(), expected);
        assert_eq!(both.authenticated_username, Username::parse("alice"));
        assert_eq!(both.file_contents().len(), 1);
    }

    #[test]
    fn facts_do_not_show_their_values() {
        let facts = environment("TOKEN", "SECRET").and(file("/x", 1));

        assert!(!format!("{facts:?}").contains("SECRET"));
    }
}
