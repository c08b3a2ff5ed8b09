//! The reference of the configuration, as Markdown: what the types say of themselves, and nothing written by hand.
//!
//! It walks the JSON schema, so that a new section or key is in it without further ado.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::config::Config;

const HEAD: &str = "\
# Configuration reference

<!-- Made from the types by `coracle config reference`; edit their comments in src/ instead. -->

Every key, its type, its default and what it does. [configuration.md](configuration.md) is about what they have in
common, [`config.yaml.example`](../config.yaml.example) is the same as one file. `NAME` stands for a name that you
choose, `[]` for each entry of a list; `–` means that there is no default. `coracle config show` prints what is in effect.
";

/// What a fragment of the schema is to a reader.
type Schema = Map<String, Value>;

/// The page.
///
/// # Errors
/// None in practice: the defaults are made of types that JSON can express.
pub fn reference() -> anyhow::Result<String> {
    let schema = schemars::schema_for!(Config);
    let defaults = serde_json::to_value(Config::default())?;
    let mut page = Page::new(schema.as_value(), &defaults);
    page.write();
    Ok(page.text)
}

/// The page as far as it is written.
struct Page<'s> {
    text: String,
    root: &'s Value,
    defaults: &'s Value,
    /// Where the keys of a named object are listed; elsewhere a link is enough.
    listed: BTreeMap<String, String>,
    /// Named types that rows link to.
    types: BTreeSet<String>,
}

/// One key.
struct Key<'s> {
    path: String,
    schema: &'s Schema,
    default: Option<&'s Value>,
}

impl<'s> Page<'s> {
    fn new(root: &'s Value, defaults: &'s Value) -> Self {
        Self { text: HEAD.to_owned(), root, defaults, listed: BTreeMap::new(), types: BTreeSet::new() }
    }

    fn write(&mut self) {
        for (name, schema) in properties(self.root.as_object()) {
            self.text.extend(["\n## `", name, "`\n\n"]);
            if self.resolved(schema).1.contains_key("properties") {
                self.text.extend([description(schema).join("\n\n").as_str(), "\n\n"]);
            }
            self.text.push_str("| key | type | default | what |\n| --- | --- | --- | --- |\n");
            let key = Key { path: name.to_owned(), schema, default: self.defaults.get(name) };
            self.rows(&key);
        }
        self.write_types();
    }

    /// The rows of a key, or of what is in it.
    fn rows(&mut self, key: &Key<'s>) {
        let (name, inner) = self.resolved(key.schema);
        if !inner.contains_key("properties") {
            self.row(key);
            return self.elements(key, inner);
        }
        // What refers to itself ends here, too.
        if let Some(place) = name.and_then(|name| self.listed.get(name)) {
            let what = format!("The keys of [`{place}`](#{}).", anchor(place));
            let about = description(key.schema).join("<br>");
            return self.cells(&key.path, "section", "–", &format!("{about} {what}"));
        }
        if let Some(name) = name {
            self.listed.insert(name.to_owned(), key.path.clone());
        }
        for (part, schema) in properties(Some(inner)) {
            let default = key.default.and_then(|value| value.get(part)).or_else(|| schema.get("default"));
            self.rows(&Key { path: format!("{}.{part}", key.path), schema, default });
        }
    }

    /// What is in the entries of a map or a list, if these have keys.
    fn elements(&mut self, key: &Key<'s>, inner: &'s Schema) {
        let named = inner.get("additionalProperties").into_iter().chain(
            inner.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::values),
        );
        let entries =
            named.map(|entry| (".NAME", entry)).chain(inner.get("items").map(|entry| ("[]", entry)));
        for (suffix, entry) in entries.collect::<Vec<_>>() {
            let Some(schema) = entry.as_object() else { continue };
            if self.resolved(schema).1.contains_key("properties") {
                let path = format!("{}{suffix}", key.path);
                self.rows(&Key { path, schema, default: None });
            }
        }
    }

    fn row(&mut self, key: &Key<'s>) {
        let kind = self.kind(key.schema);
        let default = key.default.map_or_else(|| "–".to_owned(), shown);
        let what = description(key.schema).join("<br>");
        self.cells(&key.path, &kind, &default, &what);
    }

    fn cells(&mut self, path: &str, kind: &str, default: &str, what: &str) {
        let [kind, default, what] = [kind, default, what].map(|cell| cell.replace('|', "\\|"));
        self.text.extend(["| `", path, "` | ", &kind, " | ", &default, " | ", what.trim(), " |\n"]);
    }

    /// What may be written there, in a few words or as a link to more of them.
    fn kind(&mut self, schema: &'s Schema) -> String {
        if let Some(name) = reference_in(schema) {
            self.types.insert(name.to_owned());
            return format!("[{name}](#type-{})", name.to_ascii_lowercase());
        }
        if let Some(kinds) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            let kinds = kinds.iter().filter_map(Value::as_object).map(|kind| self.kind(kind));
            return kinds.collect::<Vec<_>>().join(" or ");
        }
        if let Some(text) = schema.get("const") {
            return shown(text);
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return values.iter().map(shown).collect::<Vec<_>>().join(", ");
        }
        let names: Vec<_> = match schema.get("type") {
            Some(Value::String(name)) => vec![name.as_str()],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => return "any".to_owned(),
        };
        let kinds = names.into_iter().map(|name| self.plain(name, schema));
        kinds.collect::<Vec<_>>().join(" or ")
    }

    /// One of JSON's own types.
    fn plain(&mut self, name: &str, schema: &'s Schema) -> String {
        let entry = |key: &str| schema.get(key).and_then(Value::as_object);
        match name {
            "array" => match entry("items") {
                Some(items) => format!("list of {}", self.kind(items)),
                None => "list".to_owned(),
            },
            "object" if schema.contains_key("properties") => {
                let keys = properties(Some(schema)).map(|(key, schema)| (key, self.kind(schema)));
                let keys: Vec<_> = keys.map(|(key, kind)| format!("`{key}`: {kind}")).collect();
                format!("{{{}}}", keys.join(", "))
            }
            "object" => match entry("additionalProperties").or_else(|| {
                entry("patternProperties").and_then(|patterns| patterns.values().find_map(Value::as_object))
            }) {
                Some(values) if self.resolved(values).1.contains_key("properties") => {
                    "sections by name".to_owned()
                }
                Some(values) => format!("{} by name", self.kind(values)),
                None => "keys and values".to_owned(),
            },
            "integer" | "number" => {
                let bound = |key: &str| schema.get(key).map(|bound| shown(bound).replace('`', ""));
                match (bound("minimum"), bound("maximum")) {
                    (Some(least), Some(most)) => format!("{name}, {least} to {most}"),
                    (Some(least), None) => format!("{name}, {least} or more"),
                    (None, Some(most)) => format!("{name}, {most} or less"),
                    (None, None) => name.to_owned(),
                }
            }
            "boolean" => "`true` or `false`".to_owned(),
            other => other.to_owned(),
        }
    }

    /// The types that were linked to, and in turn those that they link to.
    fn write_types(&mut self) {
        let mut written = BTreeMap::new();
        while let Some(name) = self.types.iter().find(|name| !written.contains_key(*name)).cloned() {
            let about = self.definition(&name).map(|schema| self.about_type(schema)).unwrap_or_default();
            written.insert(name, about);
        }
        self.text.push_str("\n## Types\n");
        for (name, about) in written {
            self.text.extend(["\n### Type `", &name, "`\n", &about]);
        }
    }

    fn about_type(&mut self, schema: &'s Schema) -> String {
        let mut text = String::new();
        for paragraph in description(schema) {
            text.extend(["\n", &paragraph, "\n"]);
        }
        let variants = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
        let Some(variants) = variants else {
            let kind = match schema.get("type").and_then(Value::as_str) {
                // Its bounds are in the words above; those of the schema are the machine's.
                Some("integer") => "integer".to_owned(),
                _ => self.kind(schema),
            };
            return text + &format!("\nWritten as: {kind}.\n");
        };
        text.push_str("\n| written as | what |\n| --- | --- |\n");
        for variant in variants.iter().filter_map(Value::as_object) {
            let kind = self.kind(variant).replace('|', "\\|");
            let what = description(variant).join("<br>").replace('|', "\\|");
            text.extend(["| ", &kind, " | ", &what, " |\n"]);
        }
        text
    }

    fn definition(&self, name: &str) -> Option<&'s Schema> {
        self.root.get("$defs")?.get(name)?.as_object()
    }

    /// The schema that is meant, by its name if it has one. What may also be null means the same.
    fn resolved(&self, schema: &'s Schema) -> (Option<&'s str>, &'s Schema) {
        let of_option = schema.get("anyOf").and_then(Value::as_array).and_then(|kinds| {
            let mut kinds = kinds.iter().filter_map(Value::as_object);
            let only = kinds.find(|kind| reference_in(kind).is_some())?;
            kinds.all(|kind| kind.get("type").and_then(Value::as_str) == Some("null")).then_some(only)
        });
        let name = reference_in(of_option.unwrap_or(schema));
        match name.and_then(|name| self.definition(name)) {
            Some(found) => (name, found),
            None => (None, schema),
        }
    }
}

fn properties(schema: Option<&Schema>) -> impl Iterator<Item = (&str, &Schema)> {
    let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    let properties = properties.into_iter().flatten();
    properties.filter_map(|(name, schema)| Some((name.as_str(), schema.as_object()?)))
}

fn reference_in(schema: &Schema) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// Its paragraphs, each on one line. Links of rustdoc's lead nowhere here.
fn description(schema: &Schema) -> Vec<String> {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let text = text.replace("[`", "`").replace("`]", "`");
    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).filter(|text| !text.is_empty()).collect()
}

/// A default as it is written in YAML; JSON is some.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) if !text.is_empty() && !text.contains('`') => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

/// The heading under which a key is.
fn anchor(path: &str) -> String {
    path.split('.').next().unwrap_or_default().to_ascii_lowercase()
}
