//! What web hooks answer: no bytes may crash us, and what is accepted keeps its bounds.

#![no_main]

use coracle::hook::{self, Facts, HookVerdict};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    if let Ok(HookVerdict::Accept(facts)) = hook::parse_verdict(body) {
        // Who is let in was let in by an object with a field for it.
        assert!(serde_json::from_slice::<Value>(body).is_ok_and(|answer| answer.is_object()));
        check(&facts);
    }
    if let Ok(answer) = hook::parse_config(body) {
        check(&answer.facts);
        let config = answer.config.expose();
        let merged = hook::merge(config.clone(), config.clone());
        assert!(merged.is_object());
        assert_eq!(hook::merge(merged.clone(), Value::Null), merged);
    }
});

fn check(facts: &Facts) {
    for (path, _) in facts.file_contents() {
        assert!(path.starts_with('/') && path.split('/').all(|component| component != ".."), "{path:?}");
    }
    for (name, value) in facts.environment_values() {
        assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'), "{name:?}");
    }
}
