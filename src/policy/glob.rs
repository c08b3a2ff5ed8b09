//! Wildcards in names of hosts and in paths.

/// What a wildcard stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// A host's name, in any letter case: `*` stands for any bytes.
    Host,
    /// A path: `*` and `?` do not stand for `/`, `**` does.
    Path,
}

/// One step of a pattern.
enum Step {
    Byte(u8),
    One,
    Any,
    /// Any, and `/`.
    Deep,
}

/// Whether the whole of `text` fits. Takes time in proportion to pattern × text.
pub(super) fn fits(pattern: &str, text: &str, kind: Text) -> bool {
    let steps = steps(pattern, kind);
    // Behind which steps we may stand; a wildcard that stands for nothing is passed at once.
    let mut stands = vec![false; steps.len() + 1];
    stand(&mut stands, &steps, 0);
    for byte in text.bytes() {
        let byte = if kind == Text::Host { byte.to_ascii_lowercase() } else { byte };
        let inside = kind == Text::Host || byte != b'/';
        let mut next = vec![false; steps.len() + 1];
        for (at, step) in steps.iter().enumerate().filter(|(at, _)| stands.get(*at) == Some(&true)) {
            match step {
                Step::Byte(wanted) if *wanted == byte => stand(&mut next, &steps, at + 1),
                Step::One if inside => stand(&mut next, &steps, at + 1),
                Step::Any if inside => stand(&mut next, &steps, at),
                Step::Deep => stand(&mut next, &steps, at),
                _ => {}
            }
        }
        stands = next;
    }
    stands.last() == Some(&true)
}

/// Whether there is a wildcard in it.
pub(super) fn is_wild(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

fn stand(stands: &mut [bool], steps: &[Step], from: usize) {
    for at in from..stands.len() {
        if let Some(stands) = stands.get_mut(at) {
            *stands = true;
        }
        if !matches!(steps.get(at), Some(Step::Any | Step::Deep)) {
            return;
        }
    }
}

fn steps(pattern: &str, kind: Text) -> Vec<Step> {
    let mut steps = Vec::with_capacity(pattern.len());
    for byte in pattern.bytes() {
        match (byte, steps.last()) {
            (b'*', Some(Step::Any | Step::Deep)) => {
                steps.pop();
                steps.push(Step::Deep);
            }
            (b'*', _) => steps.push(Step::Any),
            (b'?', _) => steps.push(Step::One),
            (byte, _) if kind == Text::Host => steps.push(Step::Byte(byte.to_ascii_lowercase())),
            (byte, _) => steps.push(Step::Byte(byte)),
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_what_its_kind_of_text_lets_it() {
        for (pattern, text, kind, expected) in [
            ("*", "", Text::Host, true),
            ("*", "a.b", Text::Host, true),
            ("*.lab.example", "DB.Lab.example", Text::Host, true),
            ("*.lab.example", "lab.example", Text::Host, false),
            ("db?", "db1", Text::Host, true),
            ("db?", "db", Text::Host, false),
            ("db", "db.evil", Text::Host, false),
            ("/tmp/*", "/tmp/x.sock", Text::Path, true),
            ("/tmp/*", "/tmp/a/b", Text::Path, false),
            ("/tmp/*", "/tmp/", Text::Path, true),
            ("/tmp/**", "/tmp/a/b", Text::Path, true),
            ("/tmp/**.sock", "/tmp/a/b.sock", Text::Path, true),
            ("/tmp/*/x", "/tmp/a/x", Text::Path, true),
            ("/tmp?x", "/tmp/x", Text::Path, false),
            ("/tmp/A", "/tmp/a", Text::Path, false),
            ("/a*a*b", "/aXaYb", Text::Path, true),
        ] {
            assert_eq!(fits(pattern, text, kind), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_text_costs_no_time() {
        assert!(!fits("*a*a*a*a*a*a*a*a*b", &"a".repeat(20_000), Text::Host));
    }
}
