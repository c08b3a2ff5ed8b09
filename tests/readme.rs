//! What the documents promise is there: the scripts they name, and the files they link to.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Made by tools, or none of ours.
const IGNORED: &[&str] = &["target", "state", "node_modules"];

#[test]
fn scripts_that_documents_name_exist_and_can_be_run() {
    let mut wrong = Vec::new();
    for document in documents(root()) {
        for name in scripts_named_in(&fs::read_to_string(&document).unwrap()) {
            let script = root().join(&name);
            let runs = fs::metadata(&script).is_ok_and(|found| found.permissions().mode() & 0o111 != 0);
            if !runs {
                wrong.push(format!("{}: {name}", document.display()));
            }
        }
    }

    assert!(wrong.is_empty(), "no such script, or not executable:\n{}", wrong.join("\n"));
}

#[test]
fn relative_links_in_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for document in documents(root()) {
        for link in links_in(&fs::read_to_string(&document).unwrap()) {
            let file = link.split('#').next().unwrap();
            let elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
            if !elsewhere && !document.parent().unwrap().join(file).exists() {
                wrong.push(format!("{}: {link}", document.display()));
            }
        }
    }

    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn every_script_says_what_it_will_do() {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(root().join("script")).unwrap() {
        let script = entry.unwrap().path();
        let text = fs::read_to_string(&script).unwrap();
        let library = script.extension().is_some_and(|extension| extension == "sh");
        let helps = text.contains("# Usage: script/") && text.contains("--help");
        if !library && !helps {
            wrong.push(script.display().to_string());
        }
    }

    assert!(wrong.is_empty(), "without a `# Usage:` block or --help:\n{}", wrong.join("\n"));
}

#[test]
fn tests_that_documents_name_exist() {
    let mut wrong = Vec::new();
    let mut found = 0;
    for document in documents(root()) {
        for (file, name) in tests_named_in(&fs::read_to_string(&document).unwrap()) {
            found += 1;
            if !["tests", "src"].iter().any(|folder| has_test(&root().join(folder).join(&file), &name)) {
                wrong.push(format!("{}: {file}::{name}", document.display()));
            }
        }
    }

    assert!(wrong.is_empty(), "no such tests:\n{}", wrong.join("\n"));
    assert!(found > 0, "the threat model names no tests, or they are not found in it");
}

#[test]
fn names_and_links_are_found_where_they_are_written() {
    let text = "run `script/test --full`, see [a](docs/a.md#b) and [b](<c d>); my-script/x is none";

    assert_eq!(scripts_named_in(text), ["script/test"]);
    assert_eq!(links_in(text), ["docs/a.md#b", "c d"]);
    let named = ("it/a.rs".to_owned(), "it_works".to_owned());
    assert_eq!(tests_named_in("seen in `it/a.rs::it_works`, `b.rs` and `c::d`"), [named]);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with('.') || IGNORED.contains(&name) {
            continue;
        }
        if path.is_dir() {
            found.extend(documents(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found
}

fn scripts_named_in(text: &str) -> Vec<String> {
    let in_name = |character: char| character.is_alphanumeric() || "-_".contains(character);
    let mut pieces = text.split("script/");
    let mut before = pieces.next().unwrap_or_default();
    let mut names = Vec::new();
    for piece in pieces {
        let name: String = piece.chars().take_while(|character| in_name(*character)).collect();
        if !name.is_empty() && !before.ends_with(|character| in_name(character) || character == '.') {
            names.push(format!("script/{name}"));
        }
        before = piece;
    }
    names
}

/// The file and the name of each test that is written as `it/file.rs::name`.
fn tests_named_in(text: &str) -> Vec<(String, String)> {
    let spans = text.split('`').skip(1).step_by(2).filter_map(|span| span.split_once(".rs::"));
    let is_name =
        |name: &str| !name.contains(|character: char| !(character.is_alphanumeric() || character == '_'));
    let tests = spans.filter(|(_, name)| is_name(name));
    tests.map(|(file, name)| (format!("{file}.rs"), name.to_owned())).collect()
}

/// Whether a file has the function, or the module that `on_both!` makes.
fn has_test(file: &Path, name: &str) -> bool {
    let Ok(text) = fs::read_to_string(file) else { return false };
    let (function, case) = (format!("fn {name}("), format!("{name},"));
    text.contains(&function) || text.contains("on_both!(") && text.lines().any(|line| line.trim() == case)
}

/// The targets of `[text](target)` and `[text](<target>)`.
fn links_in(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.map(|target| target.trim_matches(['<', '>']).to_owned()).collect()
}
