//! Paths of another machine: compared by their words, since nothing of them may be there to look at.

/// An absolute path without `.`, `..`, doubled and trailing slashes; `None` when it is not absolute.
pub(super) fn clean(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let mut steps: Vec<&str> = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    Some(format!("/{}", steps.join("/")))
}

/// Whether `path` is `folder` or in it; both are clean.
pub(super) fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || folder.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (path, same) in [("/", "/"), ("//a/./b/", "/a/b"), ("/a/../../b", "/b"), ("/a/b/..", "/a")] {
            assert_eq!(clean(path).as_deref(), Some(same));
        }
        assert_eq!(clean("volume"), None);
        assert!(is_below("/a", "/") && is_below("/a/b", "/a") && is_below("/a", "/a"));
        assert!(!is_below("/ab", "/a") && !is_below("/", "/a"));
    }
}
