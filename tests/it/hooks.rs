//! Web hooks that are asked about a login: passwords, keys, and who may come in at all.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{HookService, Output, Pki, Reply, TestServer, docker, no, poll_until, yes};

/// For a line to get into the log, or a client to end.
const SOON: Duration = Duration::from_secs(10);

const PASSWORD: &str = "hunter2-SECRET";
const PASSWORD_BASE64: &str = "aHVudGVyMi1TRUNSRVQ=";

/// A service that is asked for `method`, in the configuration's words.
fn webhook(method: &str, service: &HookService, timeout: &str) -> String {
    let url = service.url("/hooks");
    format!("  {method}: {{method: webhook, webhook: {{url: '{url}', timeout: {timeout}}}}}")
}

/// A server that asks about passwords and knows nobody else.
async fn asks_about_passwords(service: &HookService, timeout: &str) -> TestServer {
    let hook = webhook("password", service, timeout);
    TestServer::builder().no_authorized_keys().auth(&hook).start().await
}

/// A server that asks about keys, and then whether their owners may come in.
async fn asks_about_keys(service: &HookService) -> TestServer {
    let hooks = [webhook("publicKey", service, "10s"), webhook("authz", service, "10s")];
    TestServer::builder().no_authorized_keys().auth(&hooks.join("\n")).start().await
}

/// Denied in the usual words, and nothing else is shown.
#[track_caller]
fn assert_denied(output: &Output) {
    output.assert_code(255);
    assert!(output.stderr().contains("Permission denied ("), "{}", output.report());
    assert!(output.stdout.is_empty(), "{}", output.report());
}

/// Waits for a line with all of these; a client may hear of it before the log has it.
async fn assert_log(server: &TestServer, words: &[&str]) {
    let says = |line: &String| words.iter().all(|word| line.contains(word));
    poll_until(&format!("a line with {words:?}"), SOON, async || {
        server.log.lines().iter().any(says).then_some(())
    })
    .await;
}

/// Neither as it is nor as it is sent.
#[track_caller]
fn assert_password_is_nowhere(server: &TestServer) {
    let log = server.log.text();
    assert!(!log.contains(PASSWORD) && !log.contains(PASSWORD_BASE64), "{log}");
}

#[tokio::test]
async fn a_password_is_the_hooks_to_judge() {
    let service = HookService::start().await;
    service.at("/hooks/password", [yes(), no(), Reply::Status(403)]);
    let server = asks_about_passwords(&service, "10s").await;

    let right = server.ssh_with_password("alice", PASSWORD, &["echo in"]).output().await;
    let wrong = server.ssh_with_password("alice", PASSWORD, &["true"]).output().await;
    let refused = server.ssh_with_password("alice", PASSWORD, &["true"]).output().await;

    right.assert_success().assert_stdout("in\n");
    assert_denied(&wrong);
    assert_denied(&refused);
    assert_log(&server, &["a hook says no", "the hook answered without success"]).await;
    assert_log(&server, &["a hook says no", "HTTP 403"]).await;
    let asked = service.asked("/hooks/password");
    assert_eq!(asked.len(), 3, "a no is not asked about again: {asked:?}");
    assert_eq!(asked[0]["passwordBase64"], PASSWORD_BASE64);
    assert_password_is_nowhere(&server);
    server.stop().await;
}

#[tokio::test]
async fn a_hook_that_fails_for_a_moment_costs_a_moment() {
    let service = HookService::start().await;
    service.at("/hooks/password", [Reply::Status(500), Reply::Status(503), yes()]);
    let server = asks_about_passwords(&service, "10s").await;

    let output = server.ssh_with_password("alice", PASSWORD, &["echo in"]).output().await;

    output.assert_success().assert_stdout("in\n");
    assert_eq!(service.asked("/hooks/password").len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn a_hook_that_does_not_answer_lets_nobody_in_and_holds_nobody_for_long() {
    let service = HookService::start().await;
    service.at("/hooks/password", [Reply::Silence]);
    let server = asks_about_passwords(&service, "1s").await;

    let output = server.ssh_with_password("alice", PASSWORD, &["true"]).output().await;

    assert_denied(&output);
    assert!(output.wall < Duration::from_secs(9), "{}", output.report());
    assert_log(
        &server,
        &["a hook cannot be asked", "gave no answer in 2 tries", "not answered within 500ms"],
    )
    .await;
    assert_password_is_nowhere(&server);
    server.stop().await;
}

/// A1: whom a hook does not know and whose password is wrong are the same to it, and to the client.
#[tokio::test]
async fn nobody_learns_from_a_refusal_who_is_known() {
    let service = HookService::start().await;
    service.at("/hooks/password", [no()]);
    let server = asks_about_passwords(&service, "10s").await;

    let known = server.ssh_with_password("alice", PASSWORD, &["true"]).output().await;
    service.at("/hooks/password", [Reply::Status(404)]);
    let unknown = server.ssh_with_password("nobody-here", PASSWORD, &["true"]).output().await;
    service.at("/hooks/password", [Reply::Says(json!("nonsense"))]);
    let broken = server.ssh_with_password("alice", PASSWORD, &["true"]).output().await;

    let said = |output: &Output| output.stderr().replace("nobody-here", "alice");
    assert_denied(&known);
    assert_eq!(said(&known), said(&unknown));
    assert_eq!(said(&known), said(&broken));
    server.stop().await;
}

/// OpenSSH offers a key first and signs only if that is welcome; the service hears of it once.
#[tokio::test]
async fn a_key_is_asked_about_once_and_no_file_of_keys_is_needed() {
    let service = HookService::start().await;
    service.at("/hooks/pubkey", [yes()]).at("/hooks/authz", [yes()]);
    let server = asks_about_keys(&service).await;

    let output = server.ssh_to("alice", &["echo in"]).output().await;

    output.assert_success().assert_stdout("in\n");
    let public = std::fs::read_to_string(server.path("client.pub")).unwrap();
    let asked = service.asked_once("/hooks/pubkey");
    let key: Vec<&str> = public.split(' ').take(2).collect();
    assert_eq!(asked["publicKey"], key.join(" "));
    assert_eq!(asked["username"], "alice");
    server.stop().await;
}

#[tokio::test]
async fn a_key_that_the_hook_does_not_want_stays_out() {
    let service = HookService::start().await;
    service.at("/hooks/pubkey", [no()]).at("/hooks/authz", [yes()]);
    let server = asks_about_keys(&service).await;

    let output = server.ssh_to("alice", &["true"]).output().await;

    assert_denied(&output);
    assert_eq!(service.asked("/hooks/pubkey").len(), 1);
    assert!(service.asked("/hooks/authz").is_empty(), "nothing was proven");
    assert!(server.containers().await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn whoever_has_proven_enough_may_still_be_kept_out() {
    let service = HookService::start().await;
    service.at("/hooks/pubkey", [yes()]).at("/hooks/authz", [no()]);
    let server = asks_about_keys(&service).await;

    let output = server.ssh_to("alice", &["true"]).output().await;

    assert_denied(&output);
    assert_log(&server, &["a hook says no", "authz"]).await;
    assert_eq!(service.asked_once("/hooks/authz")["authenticatedUsername"], "alice");
    assert!(server.containers().await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn hooks_learn_what_others_said_but_for_what_is_sensitive() {
    let service = HookService::start().await;
    let (config, secret) = (service.url("/config"), "SECRET-VALUE");
    let said = json!({"success": true,
        "metadata": {"team": "lab", "token": {"value": secret, "sensitive": true}},
        "environment": {"A": "key", "B": "key", "C": {"value": secret, "sensitive": true}},
        "files": {"/tmp/secret": {"value": "U0VDUkVULVZBTFVF", "sensitive": true}}});
    service.says("/hooks/pubkey", said);
    service.says(
        "/hooks/authz",
        json!({"success": true, "metadata": {"floor": "2"}, "environment": {"B": "authz"}}),
    );
    service.says("/config", json!({"config": {}, "environment": {"D": "config"}}));
    let hooks = [webhook("publicKey", &service, "10s"), webhook("authz", &service, "10s")];
    let server = TestServer::builder()
        .no_authorized_keys()
        .auth(&hooks.join("\n"))
        .section(&format!("configserver: {{url: '{config}'}}"))
        .start()
        .await;

    let output = server.ssh_to("alice", &["echo $A $B $C $D; cat /tmp/secret"]).output().await;

    output.assert_success().assert_stdout(&format!("key authz {secret} config\n{secret}"));
    let shown = |value: &str| json!({"value": value, "sensitive": false});
    let (authz, config) = (service.asked_once("/hooks/authz"), service.asked_once("/config"));
    assert_eq!(authz["metadata"], json!({"team": shown("lab")}));
    assert_eq!(authz["environment"], json!({"A": shown("key"), "B": shown("key")}));
    assert_eq!(authz["files"], Value::Null);
    assert_eq!(config["metadata"], json!({"team": shown("lab"), "floor": shown("2")}));
    assert_eq!(config["environment"], json!({"A": shown("key"), "B": shown("authz")}));
    assert!(!server.log.text().contains(secret), "{}", server.log.text());
    server.stop().await;
}

/// the name that a hook gives is the user's in everything.
#[tokio::test]
async fn the_name_that_a_hook_gives_is_the_one_that_counts() {
    let service = HookService::start().await;
    service.says("/hooks/pubkey", json!({"success": true, "authenticatedUsername": "alice.example"}));
    let users = "  users: {alice.example: {groups: [lab]}}\n  groups: {lab: {profile: python}}\n";
    let server = TestServer::builder()
        .no_authorized_keys()
        .auth(&format!("{users}{}", webhook("publicKey", &service, "10s")))
        // A user without an entry in the image's passwd is called what it logs in as.
        .container("user: '4711'")
        .section("profiles: {python: {docker: {config: {container: {env: [IS=python]}}}}}")
        .start()
        .await;

    let mut running = server.ssh_to("al", &["echo $USER $LOGNAME $IS; cat"]).spawn();

    running.wait_for("alice.example alice.example python\n").await;
    let container = server.the_container().await;
    let labels = docker(&["inspect", "--format", "{{json .Config.Labels}}", &container]).await;
    let labels: Value = serde_json::from_str(&labels).unwrap();
    assert_eq!(labels["coracle.username"], "alice.example");
    assert_eq!(labels["coracle.profile"], "python");
    drop(running);
    server.stop().await;
}

/// V2
#[tokio::test]
async fn a_hooks_variables_reach_programs_but_for_those_that_decide_which_code_runs() {
    let service = HookService::start().await;
    let environment =
        json!({"EDITOR": "vi", "LANG": "fr_FR.UTF-8", "LD_PRELOAD": "/x.so", "SSH_CLIENT": "x"});
    service.says("/hooks/pubkey", json!({"success": true, "environment": environment}));
    service.at("/hooks/authz", [yes()]);
    let server = asks_about_keys(&service).await;

    let client = server.ssh_to("alice", &["echo $EDITOR $LANG ${LD_PRELOAD-unset} ${SSH_CLIENT%% *}"]);
    let output = client.option("SetEnv=LANG=de_DE.UTF-8").output().await;

    output.assert_success().assert_stdout("vi fr_FR.UTF-8 unset 127.0.0.1\n");
    assert_log(&server, &[r#""level":"WARN""#, "variables are left out", "LD_PRELOAD SSH_CLIENT"]).await;
    server.stop().await;
}

#[tokio::test]
async fn hooks_learn_who_asks_and_it_is_the_connection_of_the_container() {
    let service = HookService::start().await;
    service.at("/hooks/pubkey", [yes()]).at("/hooks/authz", [yes()]);
    let server = asks_about_keys(&service).await;

    let mut running = server.ssh_to("alice", &["echo client $SSH_CLIENT.; cat"]).spawn();
    let text = running.wait_for(".\n").await;
    let container = server.the_container().await;
    let label = r#"{{index .Config.Labels "coracle.connection"}}"#;
    let connection = docker(&["inspect", "--format", label, &container]).await;

    let words: Vec<&str> = text.split_whitespace().collect();
    for asked in [service.asked_once("/hooks/pubkey"), service.asked_once("/hooks/authz")] {
        assert_eq!(asked["connectionId"], connection);
        assert_eq!(asked["sessionId"], connection);
        assert_eq!(asked["remoteAddress"], format!("{}:{}", words[1], words[2]));
        let version = asked["clientVersion"].as_str().unwrap();
        assert!(version.starts_with("SSH-2.0-OpenSSH_"), "{version}");
    }
    drop(running);
    server.stop().await;
}

#[tokio::test]
async fn a_hook_may_have_an_authority_of_its_own_and_ask_who_we_are() {
    let pki = Pki::new();
    let service = HookService::start_tls(&pki).await;
    service.at("/hooks/pubkey", [yes()]);
    let webhook = |tls: &str| {
        let url = service.url("/hooks");
        format!("  publicKey: {{method: webhook, webhook: {{url: '{url}', timeout: 5s{tls}}}}}")
    };
    let (ca, cert, key) = (pki.path("ca.pem"), pki.path("client.pem"), pki.path("client.key"));
    let trusting = format!(", cacert: {}", ca.display());
    let known = format!("{trusting}, cert: {}, key: {}", cert.display(), key.display());
    let server = TestServer::builder().no_authorized_keys().auth(&webhook(&known)).start().await;

    server.ssh_to("alice", &["true"]).output().await.assert_success();
    assert_eq!(service.asked("/hooks/pubkey").len(), 1);

    let file = server.path("config.yaml");
    let before = std::fs::read_to_string(&file).unwrap();
    for tls in [trusting.as_str(), ""] {
        std::fs::write(&file, before.replace(&webhook(&known), &webhook(tls))).unwrap();
        server.reload("configuration read again").await;
        assert_denied(&server.ssh_to("alice", &["true"]).output().await);
    }
    assert_eq!(service.asked("/hooks/pubkey").len(), 1, "nobody else heard of a key");
    assert_log(&server, &["a hook cannot be asked", "it wants a certificate of ours"]).await;
    assert_log(&server, &["a hook cannot be asked", "signed by nobody whom `cacert` trusts"]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_reload_asks_another_service_from_then_on() {
    let (one, other) = (HookService::start().await, HookService::start().await);
    one.at("/hooks/password", [yes()]);
    other.at("/hooks/password", [no()]);
    let server = asks_about_passwords(&one, "10s").await;
    let mut running = server.ssh_with_password("alice", PASSWORD, &["echo in; cat"]).spawn();
    running.wait_for("in\n").await;

    let file = server.path("config.yaml");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, before.replace(&one.url("/hooks"), &other.url("/hooks"))).unwrap();
    server.reload("configuration read again").await;
    let denied = server.ssh_with_password("alice", PASSWORD, &["true"]).output().await;

    assert_denied(&denied);
    assert_eq!((one.asked("/hooks/password").len(), other.asked("/hooks/password").len()), (1, 1));
    assert!(!running.has_ended(), "whoever is in stays in");
    running.close_stdin();
    poll_until("the end of cat", SOON, async || running.has_ended().then_some(())).await;
    server.stop().await;
}
