//! Holds what is written about the program to the program.

use std::path::Path;

use coracle::config::{self, Config};
use serde_json::Value;

fn top_level(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
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
fn the_page_on_configuration_names_every_section() {
    let page = std::fs::read_to_string(top_level("docs/configuration.md")).unwrap();

    for section in serde_json::to_value(Config::default()).unwrap().as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{section}`")), "`{section}` is not on the page");
    }
}
