//! One configuration over another, as they were written.

use serde_json::{Map, Value};

/// `over` merged over `base`: sections are merged key by key, anything else is replaced, so that `false`, `0` and `[]`
/// do count. `null` leaves what was there. A key in another letter case is the same key, as engines have it.
pub(super) fn merge(base: Value, over: Value) -> Value {
    match (base, over) {
        (base, Value::Null) => base,
        (Value::Object(base), Value::Object(over)) => Value::Object(merge_sections(base, over)),
        (_, over) => over,
    }
}

fn merge_sections(mut base: Map<String, Value>, over: Map<String, Value>) -> Map<String, Value> {
    for (key, value) in over {
        let same = |written: &&String| written.eq_ignore_ascii_case(&key);
        let written =
            if base.contains_key(&key) { Some(key.clone()) } else { base.keys().find(same).cloned() };
        let before = written.and_then(|written| base.remove(&written)).unwrap_or(Value::Null);
        base.insert(key, merge(before, value));
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_said_counts_even_where_it_is_false_or_nothing() {
        let base = json!({"a": true, "b": 5, "c": [1, 2], "d": {"e": 1, "f": 2}, "g": "x"});
        let over = json!({"a": false, "b": 0, "c": [], "d": {"f": 3}, "g": null, "h": 1});

        let merged = merge(base, over);

        assert_eq!(merged, json!({"a": false, "b": 0, "c": [], "d": {"e": 1, "f": 3}, "g": "x", "h": 1}));
    }

    #[test]
    fn a_key_in_another_case_is_the_same_key() {
        let merged = merge(json!({"Image": "a", "Env": ["A=1"]}), json!({"image": "b"}));

        assert_eq!(merged, json!({"image": "b", "Env": ["A=1"]}));
    }
}
