//! Secrets: at no level and in neither format is one in the log, nor in `config show`, nor in a process's arguments.

use serde_json::json;

use crate::harness::{HookService, Pki, TINY, TOTP_SECRET_TEXT, TestServer, password_hash, totp_code};

const FORMATS: [&str; 2] = ["text", "json"];

/// What must never be in a log, in `config show`, or in the arguments of a process.
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn assert_absent(&self, place: &str, text: &str) {
        for (what, secret) in &self.0 {
            assert!(!secret.is_empty());
            let found = text.find(secret.as_str());
            let excerpt = found.map(|at| &text[at.saturating_sub(200)..(at + secret.len()).min(text.len())]);
            assert_eq!(excerpt, None, "{what} in {place}");
        }
    }
}

/// A value of YAML on one line, whatever is in it.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

/// A server that is given every kind of secret that there is, and the secrets. Carol has a key that sets a variable, bob a
/// key and a code; dave's image is one that a registry keeps. A hook that is reached with a certificate knows passwords.
async fn with_secrets(format: &str, service: &HookService, pki: &Pki) -> (TestServer, Secrets) {
    let pem = std::fs::read_to_string(pki.path("client.key")).unwrap();
    let hash = password_hash("unused-password");
    let content = "c2VjcmV0LWluLWEtZmlsZQ==";
    service.says(
        "/hooks/password",
        json!({
            "success": true,
            "environment": {"HOOKED": {"value": "secret-of-a-hook"}},
            "files": {"/tmp/token": {"value": content}},
        }),
    );
    let webhook = format!(
        "{{url: '{}', cacert: {}, cert: {}, key: {}}}",
        service.url("/hooks"),
        pki.path("ca.pem").display(),
        pki.path("client.pem").display(),
        quoted(&pem),
    );
    let auth = format!(
        "  password: {{method: webhook, webhook: {webhook}}}\n  \
         methods: {{users: {{bob: [publicKey+totp]}}}}\n  users:\n    \
         bob: {{authorizedKeys: [CLIENT_KEY], totpFile: FOLDER/bob.totp}}\n    \
         carol: {{passwordHash: '{hash}', authorizedKeys: ['environment=\"TOKEN=secret-of-a-key\" CLIENT_KEY']}}\n    \
         dave: {{authorizedKeys: [CLIENT_KEY], profile: kept}}"
    );
    let registry = "127.0.0.1:1: {username: us, password: secret-of-a-registry}";
    let server = TestServer::builder()
        .image(TINY)
        .log(&format!("{{format: {format}, level: trace}}"))
        .authorized_keys("nobody's")
        .file("bob.totp", TOTP_SECRET_TEXT)
        .auth(&auth)
        .container("env: [APP_KEY=secret-of-the-configuration]")
        .docker_host(&format!("unix:///var/run/docker.sock\n  registries: {{{registry}}}"))
        .section("profiles: {kept: {docker: {config: {imagePullPolicy: Always, container: {image: '127.0.0.1:1/x:y'}}}}}")
        .start()
        .await;
    let host_key = std::fs::read_to_string(server.path("state/ssh_host_ed25519_key")).unwrap();
    let client_key = std::fs::read_to_string(server.keys.client()).unwrap();
    let line = |pem: &str, number| pem.lines().nth(number).unwrap().to_owned();
    let secrets = Secrets(vec![
        ("a password", "right-password".to_owned()),
        ("a wrong password", "wrong-code-0815".to_owned()),
        ("a password's hash", hash),
        ("a secret of codes", TOTP_SECRET_TEXT.to_owned()),
        ("the key of hooks", line(&pem, 1)),
        ("our host key", line(&host_key, 3)),
        ("a client's key", line(&client_key, 3)),
        ("a registry's password", "secret-of-a-registry".to_owned()),
        ("a variable of a key's", "secret-of-a-key".to_owned()),
        ("a variable of a hook's", "secret-of-a-hook".to_owned()),
        ("a variable of the configuration's", "secret-of-the-configuration".to_owned()),
        ("a variable of a client's", "secret-of-a-client".to_owned()),
        ("a file of a hook's", content.to_owned()),
        ("what a file holds", "secret-in-a-file".to_owned()),
        ("what is typed", "secret-that-is-typed".to_owned()),
    ]);
    (server, secrets)
}

#[tokio::test]
async fn no_secret_is_in_the_log_nor_in_what_the_configuration_shows() {
    for format in FORMATS {
        let pki = Pki::new();
        let service = HookService::start_tls(&pki).await;
        let (server, mut secrets) = with_secrets(format, &service, &pki).await;

        let typed = "read line; echo $line; echo $HOOKED $TOKEN $APP_KEY $FOO; cat /tmp/token";
        let entered = server.ssh_with_password("alice", "right-password", &[typed]);
        let entered = entered.option("SetEnv=FOO=secret-of-a-client").stdin("secret-that-is-typed\n");
        let said = entered.output().await.assert_success().stdout();
        for there in ["of-a-hook", "of-the-configuration", "of-a-client", "that-is-typed", "in-a-file"] {
            assert!(said.contains(&format!("secret-{there}")), "{said}");
        }
        let carol = server.ssh_to("carol", &["echo $TOKEN"]).option("SetEnv=REFUSED=secret-of-a-client");
        assert_eq!(carol.output().await.assert_success().stdout(), "secret-of-a-key\n");
        let code = totp_code(0);
        server
            .ssh_answering("bob", &format!("*code*) echo {code}"), &["true"])
            .output()
            .await
            .assert_success();
        server
            .ssh_answering("bob", "*code*) echo wrong-code-0815", &["true"])
            .output()
            .await
            .assert_code(255);
        service.says("/hooks/password", json!({"success": false}));
        server.ssh_with_password("alice", "wrong-code-0815", &["true"]).output().await.assert_code(255);
        server.ssh_to("dave", &["true"]).output().await.assert_code(255);
        server.reload("configuration read again").await;

        secrets.0.push(("a code", format!("\"{code}\"")));
        let log = server.log.text();
        assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
        secrets.assert_absent("the log", &log);
        let coracle = server.program(env!("CARGO_BIN_EXE_coracle"));
        let shown =
            coracle.args(["config", "show", "--config"]).arg(server.path("config.yaml")).output().await;
        secrets.assert_absent("`config show`", &shown.assert_success().stdout());
        let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", server.pid())).unwrap();
        secrets.assert_absent("the process's arguments", &arguments);
        server.stop().await;
    }
}
