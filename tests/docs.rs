//! Holds what is written about the program to the program.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "docs/messages.rs"]
mod messages;
#[path = "docs/pages.rs"]
mod pages;
#[path = "docs/typed.rs"]
mod typed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use coracle::config::{self, Config};
use serde_json::Value;

fn top_level(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Files with this extension in a folder and all below it.
fn files_in(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_in(&path, extension));
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Calls `visit` with the path of every key, in lower case.
fn for_each_key(value: &Value, path: &str, visit: &mut dyn FnMut(String)) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{}", key.to_ascii_lowercase());
        for_each_key(value, &path, visit);
        visit(path);
    }
}

fn keys(value: &Value) -> Vec<String> {
    let mut keys = Vec::new();
    for_each_key(value, "", &mut |key| keys.push(key));
    keys.sort();
    keys
}

#[test]
fn the_example_configuration_is_the_defaults() {
    let example = config::load(&top_level("config.yaml.example")).unwrap();

    assert_eq!(example, Config::default());
}

#[test]
fn the_example_configuration_lists_every_key() {
    let text = std::fs::read_to_string(top_level("config.yaml.example")).unwrap();

    let example: Value = serde_saphyr::from_str(&text).unwrap();

    assert_eq!(keys(&example), keys(&serde_json::to_value(Config::default()).unwrap()));
}

#[test]
fn the_schema_of_the_configuration_is_current() {
    let written = std::fs::read_to_string(top_level("docs/config.schema.json")).unwrap_or_default();

    let remedy = "run `cargo run -- config schema > docs/config.schema.json`";
    assert!(written == coracle::cli::schema().unwrap(), "docs/config.schema.json is out of date: {remedy}");
}

#[test]
fn the_reference_of_the_configuration_is_current() {
    let written = std::fs::read_to_string(top_level("docs/reference.md")).unwrap_or_default();

    let remedy = "run `cargo run -- config reference > docs/reference.md`";
    assert!(written == coracle::cli::reference().unwrap(), "docs/reference.md is out of date: {remedy}");
}

#[test]
fn the_reference_has_every_key_that_has_a_default() {
    let page = std::fs::read_to_string(top_level("docs/reference.md")).unwrap().to_ascii_lowercase();
    let defaults = serde_json::to_value(Config::default()).unwrap();
    let mut missing = Vec::new();

    for key in keys(&defaults) {
        // What has keys itself is a heading, or a link to where they are; the engine's own words are not ours.
        let key = key.trim_start_matches('.');
        let above = key.match_indices('.').map(|(end, _)| &key[..end]);
        let named = [key].into_iter().chain(above).any(|key| page.contains(&format!("`{key}`")));
        let below = page.contains(&format!("`{key}."));
        if !named && !below {
            missing.push(key.to_owned());
        }
    }

    assert!(missing.is_empty(), "not in docs/reference.md: {missing:?}");
}

#[test]
fn the_page_on_configuration_names_every_section() {
    let page = std::fs::read_to_string(top_level("docs/configuration.md")).unwrap();

    for section in serde_json::to_value(Config::default()).unwrap().as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{section}`")), "`{section}` is not on the page");
    }
}

/// Each `event` of `src/events/happening.rs`, with the names of its fields as JSON has them; `detail` is what it has apart.
fn events(source: &str, detail: &str) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let camel = |name: &str| {
        let mut words = name.split('_').map(str::to_owned);
        let first = words.next().unwrap_or_default();
        let rest = words.map(|word| word[..1].to_uppercase() + &word[1..]);
        first + &rest.collect::<String>()
    };
    let source = source.split("pub enum Happening {").nth(1)?.split("\n}\n").next()?;
    let deed = detail.split("pub struct Deed {").nth(1)?;
    let deed = deed.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
    let deed: Vec<_> = deed.map(|(name, _)| camel(name)).collect();
    let mut events = BTreeMap::<String, BTreeSet<String>>::new();
    let (mut event, mut renamed) = (String::new(), None);
    for line in source.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if let Some(name) = line.strip_suffix(" {") {
            event = name[..1].to_lowercase() + &name[1..];
            events.insert(event.clone(), BTreeSet::new());
        } else if let Some(name) = line.strip_prefix("#[serde(rename = \"") {
            renamed = name.split('"').next().map(str::to_owned);
        } else if let Some((name, _)) = line.split_once(": ").filter(|_| !line.starts_with('#')) {
            let fields = events.get_mut(&event)?;
            match name {
                "deed" => fields.extend(deed.clone()),
                name => drop(fields.insert(renamed.take().unwrap_or_else(|| camel(name)))),
            }
        }
    }
    Some(events)
}

#[test]
fn the_page_on_the_audit_stream_has_every_event_with_every_field() {
    let read = |name| std::fs::read_to_string(top_level(name)).unwrap();
    let events = events(&read("src/events/happening.rs"), &read("src/events/detail.rs")).unwrap();
    assert!(events.len() > 20 && events["proven"].contains("certificate"), "{events:?}");
    let page = read("docs/audit.md");

    // For those who count and trace; the stream leaves them out.
    let left_out = ["launched", "removed"];
    for (event, fields) in events.into_iter().filter(|(event, _)| !left_out.contains(&event.as_str())) {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{event}` |")));
        let row = row.unwrap_or_else(|| panic!("`{event}` is not on the page"));
        for field in fields {
            assert!(row.contains(&format!("`{field}`")), "`{field}` of `{event}` is not on the page");
        }
    }
}

#[test]
fn the_configurations_in_recipes_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for page in std::fs::read_dir(top_level("docs/recipes")).unwrap() {
        let page = page.unwrap().path();
        let text = std::fs::read_to_string(&page).unwrap();
        for block in text.split("```yaml config.yaml\n").skip(1) {
            let file = folder.path().join("config.yaml");
            std::fs::write(&file, block.split("```").next().unwrap()).unwrap();

            let loaded = config::load(&file);

            assert!(loaded.is_ok(), "{}: {:?}", page.display(), loaded.err());
            count += 1;
        }
    }
    assert!(count > 0, "no configuration in any recipe");
}

#[test]
fn the_page_on_clients_has_what_the_tests_see_and_nothing_else() {
    let mut seen = BTreeSet::new();
    let harness = top_level("tests/it/harness");
    for path in files_in(&top_level("tests/it"), "rs").iter().filter(|path| !path.starts_with(&harness)) {
        // Every `.seen("CLIENT", "FEATURE")`.
        for call in std::fs::read_to_string(path).unwrap().split(".seen(").skip(1) {
            let mut literals = call.split('"').skip(1).step_by(2).map(str::to_owned);
            seen.insert((literals.next().unwrap(), literals.next().unwrap()));
        }
    }
    let page = std::fs::read_to_string(top_level("docs/compatibility.md")).unwrap();
    let table = page.split("<!-- ").nth(1).unwrap();

    let mut written = BTreeSet::new();
    for row in table.lines().skip(3) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        if let [_, client, _, features, _] = cells[..] {
            let features = features.split(", ").map(|feature| feature.replace('`', ""));
            written.extend(features.map(|feature| (client.to_owned(), feature)));
        }
    }

    assert_eq!(written, seen, "run `script/compatibility`");
}
