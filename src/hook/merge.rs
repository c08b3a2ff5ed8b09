//! One configuration over another, as JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// `over` laid over `base`: objects are merged at every depth, everything else is replaced, so that `false`, `0`, `""`
/// and `[]` do override. `null` leaves what `base` has.
///
/// Keys are matched as written, else in any letter case, as the configuration is read. A key keeps the spelling that
/// `base` has.
#[must_use]
pub fn merge(base: Value, over: Value) -> Value {
    match (base, over) {
        (base, Value::Null) => base,
        (Value::Object(base), Value::Object(over)) => Value::Object(merge_objects(base, over)),
        // On top of nothing, so that no `null` of an object's own survives in it.
        (_, Value::Object(over)) => Value::Object(merge_objects(Map::new(), over)),
        (_, over) => over,
    }
}

fn merge_objects(mut base: Map<String, Value>, over: Map<String, Value>) -> Map<String, Value> {
    // Each stands for one key of `over`. A second spelling is added, for the reader to complain about.
    let mut other_spellings: BTreeMap<String, String> = base
        .keys()
        .filter(|name| !over.contains_key(*name))
        .map(|name| (name.to_ascii_lowercase(), name.clone()))
        .collect();
    for (key, value) in over {
        if value.is_null() {
            continue;
        }
        let name = if base.contains_key(&key) {
            key
        } else {
            other_spellings.remove(&key.to_ascii_lowercase()).unwrap_or(key)
        };
        let below = base.get_mut(&name).map(Value::take).unwrap_or_default();
        base.insert(name, merge(below, value));
    }
    base
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_merged_and_everything_else_is_replaced() {
        let base = json!({"docker": {"config": {"timeout": "60s", "host": {"memory": 1, "binds": ["a"]}}}});

        let merged =
            merge(base, json!({"docker": {"config": {"host": {"memory": 2}}}, "log": {"level": "debug"}}));

        assert_eq!(
            merged,
            json!({"docker": {"config": {"timeout": "60s", "host": {"memory": 2, "binds": ["a"]}}},
                   "log": {"level": "debug"}})
        );
    }

    #[test]
    fn what_is_empty_overrides_and_null_does_not() {
        let base = json!({"a": true, "b": 7, "c": "x", "d": [1, 2], "e": {"f": 1}, "g": "kept"});

        let merged = merge(base, json!({"a": false, "b": 0, "c": "", "d": [], "e": {}, "g": null}));

        assert_eq!(merged, json!({"a": false, "b": 0, "c": "", "d": [], "e": {"f": 1}, "g": "kept"}));
        assert_eq!(merge(json!({"a": 1}), Value::Null), json!({"a": 1}));
    }

    #[test]
    fn keys_are_the_same_in_any_letter_case() {
        let base = json!({"container": {"workingDir": "/a", "labels": {"a": "1", "A": "2"}}});

        let merged = merge(
            base,
            json!({"Container": {"WorkingDir": "/b", "Image": "x", "labels": {"A": "3", "a": "4"}}}),
        );

        assert_eq!(
            merged,
            json!({"container": {"workingDir": "/b", "Image": "x", "labels": {"a": "4", "A": "3"}}})
        );
    }

    #[test]
    fn two_spellings_of_one_key_are_left_for_the_reader_to_refuse() {
        let merged = merge(json!({"image": "ours"}), json!({"image": "one", "IMAGE": "two"}));

        assert_eq!(merged, json!({"image": "one", "IMAGE": "two"}));
    }

    #[test]
    fn kinds_may_change_and_no_null_comes_in() {
        assert_eq!(merge(json!({"a": [1]}), json!({"a": {"b": null, "c": 1}})), json!({"a": {"c": 1}}));
        assert_eq!(merge(json!({"a": {"b": 1}}), json!({"a": "x"})), json!({"a": "x"}));
        assert_eq!(merge(json!({}), json!({"a": null, "b": {"c": null}})), json!({"b": {}}));
    }
}
