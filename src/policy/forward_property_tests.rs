use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// A policy out of few words, so that layers meet.
fn any_layer() -> impl Strategy<Value = PolicyConfig> {
    let way = |key: &'static str, list: &'static [&'static str]| {
        let words = vec!["unsaid", "enable", "enable", "disable", "list", "list", "list"];
        (select(words), vec(select(list), 1..4)).prop_map(move |(word, patterns)| match word {
            "unsaid" => serde_json::Value::Null,
            "list" => serde_json::json!({ key: patterns }),
            word => word.into(),
        })
    };
    let local = way("permitOpen", &["a:1", "*:1", "a:*", "*:*", "?:2", "169.254.169.254:1"]);
    let remote = way("permitListen", &["1", "*", "localhost:*", "0.0.0.0:1", ":1", "*:0"]);
    let socket = way("permitPaths", &["/a", "/*", "/**", "/a/*"]);
    let switch = || select(vec![None, Some("enable"), Some("disable")]);
    (local, remote, socket, switch(), switch()).prop_map(|(local, remote, socket, agent, x11)| {
        serde_json::from_value(serde_json::json!({
            "forwarding": {"local": local, "remote": remote, "socket": socket, "agent": agent, "x11": x11},
        }))
        .unwrap()
    })
}

/// What these rules say to everything: what is permitted, and that it reaches further than the least.
fn answers(rules: &Rules) -> Vec<bool> {
    let (alice, mut answers) = (alice(), Vec::new());
    for to in ["a:1", "a:2", "b:1", "b:2", "169.254.169.254:1", "169.254.169.254:2", "/a", "/b", "/a/b"] {
        let answer = dial_as(&alice, rules, to);
        answers.push(answer.is_ok());
        answers.push(answer.is_ok_and(|dial| !dial.spares_neighbours));
    }
    for at in ["localhost:1", "localhost:0", "0.0.0.0:1", ":1", ":2"] {
        let answer = listens(rules, at);
        answers.push(answer.is_ok());
        answers.push(answer.is_ok_and(|at| !at.starts_with("localhost:")));
    }
    answers.extend(each(rules, &alice));
    answers.push(rules.may_forward());
    answers
}

proptest! {
    /// Y2, Y6: it neither permits more, nor lets reach further what is permitted.
    #[test]
    fn a_layer_never_permits_what_one_above_it_denied(above in vec(any_layer(), 1..4), layer in any_layer()) {
        let rules = under(&above);

        let narrowed = rules.narrowed_by(&layer);

        for (at, (before, after)) in answers(&rules).into_iter().zip(answers(&narrowed)).enumerate() {
            prop_assert!(before || !after, "{at}");
        }
    }

    /// Else a container would lack what forwards.
    #[test]
    fn whatever_is_permitted_may_be_forwarded(layers in vec(any_layer(), 0..4)) {
        let rules = under(&layers);

        prop_assert!(rules.may_forward() || answers(&rules).iter().all(|answer| !answer));
    }

    /// Y2
    #[test]
    fn the_same_layer_twice_is_that_layer_once(above in vec(any_layer(), 0..3), layer in any_layer()) {
        let once = under(&above).narrowed_by(&layer);

        prop_assert_eq!(answers(&once), answers(&once.narrowed_by(&layer)));
    }
}
