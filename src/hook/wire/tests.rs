use std::net::Ipv4Addr;

use serde_json::json;

use super::*;
use crate::ids::ConnectionId;

fn caller(address: &str) -> Caller {
    Caller {
        username: Username::parse("alice").unwrap(),
        remote_address: address.parse().unwrap(),
        connection_id: ConnectionId::random(),
        client_version: "SSH-2.0-OpenSSH_9.9".to_owned(),
    }
}

fn sent(request: serde_json::Result<Vec<u8>>) -> Value {
    serde_json::from_slice(&request.unwrap()).unwrap()
}

fn marked(value: &str, sensitive: bool) -> Marked<String> {
    Marked { value: value.to_owned(), sensitive }
}

fn accepted(body: &str) -> Facts {
    let answer = read_answer(body.as_bytes()).unwrap();
    assert!(answer.success);
    answer.facts
}

fn refused(body: &str) -> String {
    read_answer(body.as_bytes()).expect_err(body)
}

#[test]
fn questions_about_passwords_and_keys_are_what_containerssh_sends() {
    let caller = caller("192.0.2.7:50022");
    let id = caller.connection_id.as_str();

    let password = sent(password_request(&caller, &Secret::new("pässword".to_owned())));
    let key = sent(public_key_request(&caller, "ssh-ed25519 AAAA"));

    assert_eq!(
        password,
        json!({"username": "alice", "remoteAddress": "192.0.2.7:50022", "connectionId": id, "sessionId": id,
               "clientVersion": "SSH-2.0-OpenSSH_9.9", "passwordBase64": "cMOkc3N3b3Jk"})
    );
    assert_eq!(
        key,
        json!({"username": "alice", "remoteAddress": "192.0.2.7:50022", "connectionId": id, "sessionId": id,
               "clientVersion": "SSH-2.0-OpenSSH_9.9", "publicKey": "ssh-ed25519 AAAA"})
    );
}

#[test]
fn an_ipv4_client_has_an_ipv4_address_and_an_ipv6_one_has_brackets() {
    for (address, expected) in [
        ("[::ffff:192.0.2.7]:22", "192.0.2.7:22"),
        ("[2001:db8::1]:22", "[2001:db8::1]:22"),
        ("[fe80::1%3]:22", "[fe80::1]:22"),
    ] {
        let request = sent(public_key_request(&caller(address), "k"));

        assert_eq!(request["remoteAddress"], expected);
    }
}

#[test]
fn later_hooks_are_told_what_earlier_ones_said_but_for_what_is_sensitive() {
    let caller = caller("192.0.2.7:50022");
    let id = caller.connection_id.as_str();
    let file = |text: &str, sensitive| Marked { value: Secret::new(text.as_bytes().to_vec()), sensitive };
    let known = Facts {
        authenticated_username: Username::parse("Alice Example"),
        metadata: BTreeMap::from([
            ("team".into(), marked("lab", false)),
            ("t".into(), marked("SECRET", true)),
        ]),
        environment: BTreeMap::from([("A".into(), marked("1", false)), ("B".into(), marked("SECRET", true))]),
        files: BTreeMap::from([("/a".into(), file("hi", false)), ("/b".into(), file("SECRET", true))]),
    };
    let expected = json!({
        "username": "alice", "authenticatedUsername": "Alice Example", "remoteAddress": "192.0.2.7:50022",
        "connectionId": id, "sessionId": id, "clientVersion": "SSH-2.0-OpenSSH_9.9",
        "metadata": {"team": {"value": "lab", "sensitive": false}},
        "environment": {"A": {"value": "1", "sensitive": false}},
        "files": {"/a": {"value": "aGk=", "sensitive": false}},
    });

    assert_eq!(sent(authz_request(&caller, &known)), expected);
    let config = sent(config_request(&caller, &known));
    assert_eq!(config["remoteAddr"], Ipv4Addr::new(192, 0, 2, 7).to_string());
    assert_eq!(config["files"], expected["files"]);
    let little = sent(authz_request(&caller, &Facts::default()));
    assert_eq!(little["authenticatedUsername"], "alice");
    assert!(little.get("metadata").is_none() && little.get("files").is_none());
}

#[test]
fn an_answer_of_any_version_is_understood() {
    let facts = accepted(
        r#"{"success": true, "authenticatedUsername": "Alice", "username": "x", "new": [1],
            "metadata": {"team": {"value": "lab", "sensitive": true}, "plain": "x"},
            "environment": {"A": {"value": "1"}, "B": "2"},
            "files": {"/home/a/f": {"value": "aGVsbG8=", "sensitive": true}, "/g": {"value": "aG\nk"}}}"#,
    );

    assert_eq!(facts.authenticated_username, Username::parse("Alice"));
    assert_eq!(facts.metadata["team"], marked("lab", true));
    assert_eq!(facts.metadata["plain"], marked("x", false));
    assert_eq!(facts.environment_values(), [("A".into(), "1".into()), ("B".into(), "2".into())]);
    assert_eq!(facts.files["/home/a/f"].value.expose(), b"hello");
    assert_eq!(facts.files["/g"].value.expose(), b"hi");
    for body in [
        r#"{"success": true}"#,
        r#"{"Success": true, "AUTHENTICATEDUSERNAME": ""}"#,
        r#"{"success": true, "authenticatedUsername": null, "metadata": null, "files": null}"#,
    ] {
        assert!(accepted(body).authenticated_username.is_none());
    }
}

#[test]
fn without_a_clear_yes_nobody_comes_in() {
    for body in ["{}", r#"{"success": false}"#, r#"{"success": null}"#, r#"{"config": {}, "success": false}"#]
    {
        assert!(!read_answer(body.as_bytes()).unwrap().success, "{body}");
    }
    for body in [
        "",
        "true",
        "null",
        "[]",
        r#""success""#,
        "<html>",
        r#"{"success": true"#,
        r#"{"success": true} x"#,
        r#"{"success": "true"}"#,
        r#"{"success": 1}"#,
        r#"{"success": false, "Success": true}"#,
        "\u{feff}{\"success\": true}",
    ] {
        refused(body);
    }
    refused(&format!("{}{}", "{\"a\":".repeat(1000), "}".repeat(1000)));
    assert!(read_answer(b"{\"success\": true, \"a\": \"\xff\"}").is_err());
}

#[test]
fn what_is_wrong_is_named_and_no_value_is_shown() {
    for (body, words) in [
        (r#"{"success": "SECRET"}"#, "`success` is a string, expected true or false"),
        (r#"{"success": true, "authenticatedUsername": 7}"#, "`authenticatedUsername` is a number"),
        (r#"{"success": true, "authenticatedUsername": "SECRET\n"}"#, "`authenticatedUsername`"),
        (r#"{"success": true, "metadata": "SECRET"}"#, "`metadata` is a string, expected an object"),
        (r#"{"success": true, "environment": {"A": ["SECRET"]}}"#, "\"A\" in `environment` is an array"),
        (r#"{"success": true, "environment": {"A": {"value": 1}}}"#, "`value` of \"A\" in `environment`"),
        (r#"{"success": true, "environment": {"A-B": "SECRET"}}"#, "\"A-B\", which is no name"),
        (r#"{"success": true, "files": {"/a": "SECRET"}}"#, "\"/a\" in `files` is a string"),
        (r#"{"success": true, "files": {"/a": {"value": "SECRET!"}}}"#, "\"/a\" in `files` is not base64"),
        (r#"{"success": true, "files": {"../a": {"value": ""}}}"#, "\"../a\", which is no absolute path"),
        (r#"{"success": true, "files": {"/a": {"value": "", "sensitive": "SECRET"}}}"#, "`sensitive` of"),
        (r#"{"success": tru, "x": "SECRET"}"#, "the answer is not JSON: expected ident at line 1 column 16"),
    ] {
        let error = refused(body);

        assert!(error.contains(words) && !error.contains("SECRET"), "{error}");
    }
}

#[test]
fn a_configuration_is_an_object_and_may_come_with_facts() {
    let body = r#"{"config": {"docker": {"config": {"disableShell": false}}}, "environment": {"A": "1"}}"#;

    let (config, facts) = read_config(body.as_bytes()).unwrap();

    assert_eq!(config, json!({"docker": {"config": {"disableShell": false}}}));
    assert_eq!(facts.environment_values().len(), 1);
    for body in ["{}", r#"{"config": null}"#, r#"{"config": []}"#, r#"{"success": true}"#] {
        assert!(read_config(body.as_bytes()).unwrap_err().contains("`config` is"), "{body}");
    }
}

/// Those in `docs/hooks.md`, which people build services after.
#[test]
fn the_examples_of_the_page_on_hooks_are_what_is_sent_and_understood() {
    let page = include_str!("../../../docs/hooks.md");
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let caller = caller("192.0.2.7:50022");
    let known = accepted(
        r#"{"success": true, "metadata": {"a": "b"}, "environment": {"A": "1"}, "files": {"/f": {}}}"#,
    );
    let questions = [
        sent(password_request(&caller, &Secret::new("hunter2".to_owned()))),
        sent(public_key_request(&caller, "k")),
        sent(authz_request(&caller, &known)),
    ];

    let examples: Vec<&str> =
        page.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();

    assert_eq!(examples.len(), 5);
    for (example, question) in examples.iter().zip(&questions) {
        assert_eq!(names(&serde_json::from_str(example).unwrap()), names(question));
    }
    assert_eq!(accepted(examples[3]).file_contents().len(), 1);
    assert_eq!(read_config(examples[4].as_bytes()).unwrap().1.environment_values().len(), 1);
}
