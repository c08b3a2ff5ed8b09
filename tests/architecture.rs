//! Holds the code to the map: who may import whom, where foreign crates may show, and a few house rules.
//! Looks at the words in `src/`, without comments, strings and unit tests; it does not know Rust's grammar.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Past this a file has more than one subject.
const LINES_PER_FILE_MAX: usize = 400;

/// Modules with no opinion; every module may use them, and they only each other.
const LEAVES: &[&str] = &[
    "any_case",
    "events",
    "identity",
    "ids",
    "metrics",
    "secret",
    "shutdown",
    "state",
    "telemetry",
    "tls",
    "traces",
    "value",
];

/// Who may import whom, besides itself and the leaves. A new module gets a line here, and one in ARCHITECTURE.md.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // The way to a web service.
    ("audit", &["hook"]),
    ("auth", &["hook"]),
    (
        "config",
        &["audit", "auth", "control", "engine", "hook", "policy", "pool", "recording", "session", "ssh"],
    ),
    ("control", &["pool", "recording", "session"]),
    ("engine", &[]),
    ("forward", &["engine", "policy", "pool", "session"]),
    ("hook", &[]),
    ("policy", &["engine"]),
    ("pool", &["engine"]),
    ("recording", &[]),
    ("session", &["engine", "policy", "pool", "recording"]),
    // Of the engine only the words of a process: sizes, signals, exit statuses. Of the pool the lease: whoever
    // answers for a connection takes its container on loan and gives it back.
    ("ssh", &["auth", "engine", "forward", "policy", "pool", "recording", "session", "transfers"]),
    ("transfers", &[]),
];

/// The composition root, what starts it, and who examines all of it: they may know everyone, and only each other may know them.
const ROOTS: &[&str] = &["app", "cli", "doctor", "lib", "main"];

/// A foreign crate and the folder where its words may show.
const FOREIGN: &[(&str, &str)] = &[
    ("russh", "ssh/"),
    ("bollard", "engine/docker/"),
    ("hyper", "engine/docker/"),
    ("hyper_util", "engine/docker/"),
    ("http_body_util", "engine/docker/"),
    ("reqwest", "hook/"),
    ("axum", "control/"),
    ("prometheus_client", "metrics"),
    ("opentelemetry", "traces/"),
    ("opentelemetry_http", "traces/"),
    ("opentelemetry_otlp", "traces/"),
    ("opentelemetry_sdk", "traces/"),
];

/// A part of a foreign crate, and the one more folder where it may show.
const FOREIGN_PARTS: &[(&str, &str, &str)] = &[("reqwest", "Client", "traces/")];

#[test]
fn modules_import_only_what_the_map_allows() {
    let wrong = breaches(|source| {
        let module = source.module();
        source.imports().into_iter().filter(|imported| !may_import(module, imported)).collect()
    });

    assert!(wrong.is_empty(), "imports against the map (MAY_IMPORT in this file, ARCHITECTURE.md):\n{wrong}");
}

#[test]
fn every_module_is_on_the_map() {
    let wrong = breaches(|source| {
        let module = source.module();
        let known =
            MAY_IMPORT.iter().map(|(name, _)| name).chain(LEAVES).chain(ROOTS).any(|name| *name == module);
        if known { Vec::new() } else { vec![format!("module `{module}` has no line in MAY_IMPORT")] }
    });

    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn foreign_crates_stay_in_their_folder() {
    let wrong = breaches(|source| {
        let mut found = Vec::new();
        for (name, home) in FOREIGN {
            if source.path.starts_with(home) {
                continue;
            }
            for follows in source.paths_after(name) {
                let excused = FOREIGN_PARTS.iter().any(|(whole, part, place)| {
                    name == whole && follows == *part && source.path.starts_with(place)
                });
                if !excused {
                    found.push(format!("`{name}::{follows}` belongs in src/{home}"));
                }
            }
        }
        found
    });

    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn only_the_composition_root_knows_a_particular_engine() {
    let wrong = breaches(|source| {
        if ["engine", "config", "app", "cli", "doctor"].contains(&source.module()) {
            return Vec::new();
        }
        let parts = source.paths_after("engine");
        parts.into_iter().filter(|part| ["docker", "kubernetes"].contains(&part.as_str())).collect()
    });

    assert!(wrong.is_empty(), "everyone else speaks through the traits in src/engine/mod.rs:\n{wrong}");
}

#[test]
fn the_ssh_side_never_calls_the_engine() {
    let wrong = breaches(|source| {
        let in_ssh = source.module() == "ssh";
        let calls = ["dyn Engine", "dyn Container", "impl Engine", "impl Container"];
        calls.iter().filter(|call| in_ssh && source.code.contains(*call)).map(ToString::to_string).collect()
    });

    assert!(wrong.is_empty(), "containers are the session's business:\n{wrong}");
}

#[test]
fn policy_decides_without_waiting() {
    let wrong = breaches(|source| {
        let waits = ["async", "await", "tokio", "futures"];
        let in_policy = source.module() == "policy";
        source.words().filter(|word| in_policy && waits.contains(word)).map(str::to_owned).collect()
    });

    assert!(wrong.is_empty(), "policy is pure and synchronous:\n{wrong}");
}

#[test]
fn only_auth_can_say_who_somebody_is() {
    let wrong = breaches(|source| {
        if source.path == "identity.rs" || source.module() == "auth" {
            return Vec::new();
        }
        let made = source.paths_after("Identity");
        made.into_iter().filter(|function| function.starts_with(char::is_lowercase)).collect()
    });

    assert!(wrong.is_empty(), "an identity is proof, and only src/auth hands out proof:\n{wrong}");
}

#[test]
fn no_file_is_too_long_to_have_one_subject() {
    let wrong = breaches(|source| {
        if source.lines > LINES_PER_FILE_MAX { vec![format!("{} lines", source.lines)] } else { Vec::new() }
    });

    assert!(wrong.is_empty(), "more than {LINES_PER_FILE_MAX} lines:\n{wrong}");
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let wrong = breaches(|source| {
        let everything = source.code.replace(char::is_whitespace, "");
        if everything.contains("[allow(") {
            vec!["write #[expect(…, reason = \"…\")]".into()]
        } else {
            Vec::new()
        }
    });

    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn this_file_reads_code_and_not_comments_or_text() {
    let source = Source::parse(
        "ssh/example.rs",
        "//! crate::app\nuse crate::{ids::{A, B}, session as s};\nlet a = \"crate::app\"; /* crate::app */\n\
         let b = ['\"', 'x']; crate::policy::decide::<'a>(r#\"\"crate::app\"#);\n#[cfg(test)]\nmod tests { use crate::app; }",
    );

    assert_eq!(source.imports(), ["ids", "session", "policy"]);
}

fn may_import(module: &str, imported: &str) -> bool {
    if module == imported || LEAVES.contains(&imported) {
        return true;
    }
    if ROOTS.contains(&module) {
        return module != "lib" && !(module == "app" && imported == "cli");
    }
    MAY_IMPORT.iter().any(|(name, allowed)| *name == module && allowed.contains(&imported))
}

/// What `find` finds in each file under `src/`, one line each.
fn breaches(find: impl Fn(&Source) -> Vec<String>) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut report = String::new();
    for path in rust_files(&root) {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        if name.ends_with("tests.rs") || name.contains("/tests/") {
            continue;
        }
        let source = Source::parse(name, &fs::read_to_string(&path).unwrap());
        for breach in find(&source) {
            writeln!(report, "  src/{name}: {breach}").unwrap();
        }
    }
    report
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

struct Source {
    /// Below `src/`.
    path: String,
    /// Without comments, the contents of strings, and unit tests.
    code: String,
    lines: usize,
}

impl Source {
    fn parse(path: &str, text: &str) -> Self {
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        Self { path: path.to_owned(), code: without_comments_and_text(code), lines: text.lines().count() }
    }

    /// The first step of the path: a folder, or a file without its ending.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// Names of our own modules that follow `crate::`.
    fn imports(&self) -> Vec<String> {
        self.paths_after("crate")
    }

    /// What follows `name::`, one entry per item of a `{…}` group; just `name` on its own counts as an empty one.
    fn paths_after(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (at, _) in self.code.match_indices(name) {
            let before = self.code[..at].chars().next_back();
            let after = &self.code[at + name.len()..];
            if before.is_some_and(is_word) || after.starts_with(is_word) {
                continue;
            }
            match after.strip_prefix("::").map(str::trim_start) {
                Some(group) if group.starts_with('{') => found.extend(first_words_of_group(group)),
                Some(rest) => found.push(leading_word(rest)),
                None if after.trim_start().starts_with([';', '{', ',', '}']) => found.push(String::new()),
                None => {}
            }
        }
        found.retain(|word| name != "crate" || !word.is_empty());
        found
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.code.split(|character| !is_word(character)).filter(|word| !word.is_empty())
    }
}

/// `{a::{b, c}, d as e}` → `a`, `d`.
fn first_words_of_group(group: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut depth = 0;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && (character == '{' || character == ',') {
            words.push(leading_word(group[at + 1..].trim_start()));
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn leading_word(text: &str) -> String {
    text.chars().take_while(|character| is_word(*character)).collect()
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn without_comments_and_text(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = comment_or_text(rest);
        if skipped > 0 {
            // A gap, so that the words around it stay two.
            code.push(' ');
            rest = &rest[skipped..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// The length of the comment, string or quotation mark as a character that `text` starts with, or 0.
fn comment_or_text(text: &str) -> usize {
    let up_to =
        |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return up_to("*/", 2);
    }
    for quotation_mark in ["'\"'", "'\\\"'"] {
        if text.starts_with(quotation_mark) {
            return quotation_mark.len();
        }
    }
    if text.starts_with("r#\"") {
        return up_to("\"#", 3);
    }
    if !text.starts_with('"') {
        return 0;
    }
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}
