//! What was merged from the file, a profile and a hook's answer: read as the file itself is, so that `0` and `"0"` mean
//! the same, and with the key named that is not right. Values are not shown: the reason goes to the log.

use serde_json::{Map, Value};
use serde_saphyr::Error as YamlError;

use super::error::describe;

/// Texts of at least so many bytes are taken out of a reason wherever they stand; shorter ones where they are quoted.
const TELLING_BYTES: usize = 6;

/// One step from a value to one inside.
enum Step {
    Key(String),
    Item(usize),
}

/// Reads `value`, which belongs at `place`, with `read`, which takes YAML: JSON is some.
///
/// # Errors
/// The key that is not right, and what would be.
pub(super) fn read<T>(
    value: &Value,
    place: &str,
    read: impl Fn(&str) -> Result<T, YamlError>,
) -> Result<T, String> {
    let complaint = |value: &Value| read(&yaml(value)).err();
    match read(&yaml(value)) {
        Ok(read) => Ok(read),
        Err(error) => {
            let (steps, culprit, error) = blame(value, error, &complaint);
            Err(format!("`{}`: {}", path(place, &steps), masked(describe(error.without_snippet()), culprit)))
        }
    }
}

/// JSON is YAML but for characters that only JSON takes as they are.
fn yaml(value: &Value) -> String {
    let special = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let json = value.to_string();
    if !json.contains(special) {
        return json;
    }
    // Those are all in texts: `serde_json` puts none elsewhere.
    let escaped = json.chars().map(|letter| match letter {
        letter if special(letter) => format!("\\u{:04x}", u32::from(letter)),
        letter => letter.to_string(),
    });
    escaped.collect()
}

/// The innermost value that is wrong by itself, and what is wrong with it.
fn blame<'a>(
    value: &'a Value,
    error: YamlError,
    complaint: &dyn Fn(&Value) -> Option<YamlError>,
) -> (Vec<Step>, &'a Value, YamlError) {
    let (mut steps, mut culprit, mut error) = (Vec::new(), value, error);
    loop {
        // Where nothing of its kind would be right, nothing inside is to blame.
        let hollow = match culprit {
            Value::Object(_) => Value::Object(Map::new()),
            Value::Array(_) => Value::Array(Vec::new()),
            _ => return (steps, culprit, error),
        };
        if !steps.is_empty() && complaint(&alone(&steps, hollow)).is_some() {
            return (steps, culprit, error);
        }
        let inner = inside(culprit).into_iter().find_map(|(step, value)| {
            steps.push(step);
            let complaint = complaint(&alone(&steps, value.clone()));
            if complaint.is_none() {
                steps.pop();
            }
            complaint.map(|error| (value, error))
        });
        let Some(inner) = inner else { return (steps, culprit, error) };
        (culprit, error) = inner;
    }
}

fn inside(value: &Value) -> Vec<(Step, &Value)> {
    match value {
        Value::Object(object) => object.iter().map(|(key, value)| (Step::Key(key.clone()), value)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, value)| (Step::Item(index), value)).collect()
        }
        _ => Vec::new(),
    }
}

/// `value` where `steps` lead to, and nothing beside it.
fn alone(steps: &[Step], value: Value) -> Value {
    steps.iter().rev().fold(value, |value, step| match step {
        Step::Key(key) => Value::Object([(key.clone(), value)].into_iter().collect()),
        Step::Item(_) => Value::Array(vec![value]),
    })
}

fn path(place: &str, steps: &[Step]) -> String {
    let path = steps.iter().fold(place.to_owned(), |path, step| match step {
        Step::Key(key) => format!("{path}.{}", key.escape_debug()),
        Step::Item(index) => format!("{path}[{index}]"),
    });
    path.trim_start_matches('.').to_owned()
}

/// The reason without the text that it is about, which may be a secret.
fn masked(reason: String, culprit: &Value) -> String {
    let Value::String(text) = culprit else { return reason };
    let reason = reason.replace(&format!("`{text}`"), "`***`").replace(&format!("{text:?}"), "`***`");
    if text.len() < TELLING_BYTES { reason } else { reason.replace(text.as_str(), "***") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Profile;
    use super::*;

    fn reason(value: &Value) -> String {
        read(value, "", |text| serde_saphyr::from_str::<Profile>(text)).expect_err("it is wrong")
    }

    #[test]
    fn numbers_and_texts_mean_what_they_mean_in_the_file() {
        for value in [
            json!({"limits": {"idleTimeout": 0, "maxContainersPerUser": 1}}),
            json!({"limits": {"idleTimeout": "0"}}),
            json!({"docker": {"config": {"persistent": {"idleTimeout": 0}, "container": {"labels": {"a": 5}}}}}),
        ] {
            read(&value, "", |text| serde_saphyr::from_str::<Profile>(text)).expect("it is right");
        }
    }

    #[test]
    fn every_character_gets_through() {
        let odd = "\0\u{1}\t\n\u{7f}\u{85}\u{2028}\u{2029}\u{feff}\u{ffff}\u{1f600}\"'\\#: x ";

        let read = read(&json!({ odd: [odd] }), "", |text| serde_saphyr::from_str::<Value>(text));

        assert_eq!(read, Ok(json!({ odd: [odd] })));
    }

    #[test]
    fn the_key_that_is_not_right_is_named_and_its_value_is_not() {
        for (value, expected) in [
            (
                json!({"limits": {"maxContainersPerUser": "SECRET"}}),
                "`limits.maxContainersPerUser`: expected",
            ),
            (json!({"limits": {"idleTimeout": "SECRET"}}), "`limits.idleTimeout`: expected a span"),
            (
                json!({"docker": {"config": {"container": {"env": "A=SECRET"}}}}),
                "`docker.config.container.env`: ",
            ),
            (json!({"docker": {"config": {"container": {"env": ["A", ["B"]]}}}}), "container.env[1]`: "),
            (json!({"docker": {"config": {"imge": "SECRET"}}}), "`docker.config.imge`: unknown key `imge`"),
            (
                json!({"policy": {"command": {"mode": "SECRET"}}}),
                "`policy.command.mode`: unknown value `***`",
            ),
        ] {
            let reason = reason(&value);

            assert!(reason.starts_with(expected) || reason.contains(expected), "{reason}");
            assert!(!reason.contains("SECRET"), "{reason}");
        }
    }
}
