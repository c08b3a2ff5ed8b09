//! Registries that ask who we are.

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle::engine::EngineError;
use coracle::engine::docker::{Docker, DockerFolder, ImagePullPolicy, Registries};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Bench, bench_of, config, on};
use crate::registry::{PASSWORD, Registry, USERNAME};

/// A bench that pulls from `registry`, with `docker.registries` and docker's `config.json` as given.
struct Setting {
    registry: Registry,
    configured: Value,
    folder: TempDir,
}

impl Setting {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { registry: Registry::for_members().await, configured: json!({}), folder }
    }

    /// `docker.registries`, with the registry's login alone in it.
    fn configure(mut self, login: &Value) -> Self {
        self.configured = json!({ self.registry.address.clone(): login });
        self
    }

    fn config_json(&self, content: &Value) {
        std::fs::write(self.folder.path().join("config.json"), content.to_string()).expect("a file");
    }

    /// A program `docker-credential-NAME`.
    fn helper(&self, name: &str, script: &str) {
        let draft = self.folder.path().join("draft");
        std::fs::write(&draft, format!("#!/bin/sh\n{script}\n")).expect("a file");
        // By another process: a file that we had open for writing might be found busy.
        let helper = self.folder.path().join(format!("docker-credential-{name}"));
        let installed = Command::new("install").args(["-m", "755"]).args([&draft, &helper]).status();
        assert!(installed.expect("`install`").success());
    }

    fn bench(&self) -> Bench {
        let mut config = config(&self.registry.image(":v1"));
        config.config.image_pull_policy = ImagePullPolicy::Always;
        config.registries =
            serde_json::from_value::<Registries>(self.configured.clone()).expect("registries");
        let path = format!("{}:/usr/bin:/bin", self.folder.path().display());
        let folder = DockerFolder::new(self.folder.path().to_owned(), path.into());
        bench_of(Docker::new(&config).expect("a good configuration").with_docker_folder(folder))
    }

    async fn pulls(&self) {
        on(self.bench(), |bench| async move {
            bench.launch().await.remove().await.expect("a removal");
        })
        .await;
        self.registry.forget().await;
    }

    /// Why there is no image, told before a helper that says nothing would be given up.
    async fn refusal(&self) -> String {
        let bench = self.bench();
        // The engine's version is asked for, once.
        bench.engine.list_owned(&bench.instance).await.expect("a list");
        let began = Instant::now();
        let failure = bench.try_launch().await.expect_err("no image");
        let EngineError::PullFailed { reason, .. } = failure.error else { panic!("{failure:?}") };
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert!(!reason.contains(PASSWORD), "{reason}");
        reason
    }
}

fn login(password: &str) -> Value {
    json!({ "username": USERNAME, "password": password })
}

fn auth(password: &str) -> Value {
    json!({ "auth": STANDARD.encode(format!("{USERNAME}:{password}")) })
}

/// A helper that knows one registry.
fn knows(address: &str) -> String {
    let answer = json!({ "ServerURL": address, "Username": USERNAME, "Secret": PASSWORD });
    let not_found = "credentials not found in native keychain";
    format!(
        "read server\n[ \"$1 $server\" = 'get {address}' ] || {{ echo {not_found}; exit 1; }}\necho '{answer}'"
    )
}

/// I6
#[tokio::test]
async fn a_configured_login_opens_its_registry() {
    let setting = Setting::new().await.configure(&login(PASSWORD));
    // What is configured comes first.
    setting.config_json(&json!({ "auths": { setting.registry.address.clone(): auth("wrong") } }));
    setting.pulls().await;

    let file = setting.folder.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).expect("a file");
    let setting = setting.configure(&json!({ "username": USERNAME, "passwordFile": file }));
    setting.pulls().await;
}

/// I6
#[tokio::test]
async fn without_the_right_login_the_reason_is_told_at_once() {
    let setting = Setting::new().await;
    let reason = setting.refusal().await;
    assert!(reason.contains("no basic auth credentials"), "{reason}");

    let setting = setting.configure(&login("wrong"));
    let reason = setting.refusal().await;
    assert!(reason.contains("unauthorized") || reason.contains("authentication"), "{reason}");

    let missing = json!({ "username": USERNAME, "passwordFile": "/nowhere/password" });
    let reason = setting.configure(&missing).refusal().await;
    assert!(reason.contains("could not read its credentials") && !reason.contains("/nowhere"), "{reason}");
}

/// I6
#[tokio::test]
async fn what_docker_login_left_opens_a_registry() {
    let setting = Setting::new().await;
    let address = setting.registry.address.clone();
    for key in [address.clone(), format!("https://{address}/v2/")] {
        setting.config_json(&json!({ "auths": { key: auth(PASSWORD) } }));
        setting.pulls().await;
    }

    for content in
        [json!({ "auths": { address.clone(): { "auth": "???" } } }), json!({ "auths": [PASSWORD] })]
    {
        setting.config_json(&content);
        let reason = setting.refusal().await;
        assert!(reason.contains("could not read its credentials"), "{reason}");
    }
}

/// I6
#[tokio::test]
async fn a_credential_helper_opens_a_registry() {
    let setting = Setting::new().await;
    let address = setting.registry.address.clone();
    setting.helper("good", &knows(&address));
    for content in [json!({ "credHelpers": { address.clone(): "good" } }), json!({ "credsStore": "good" })] {
        setting.config_json(&content);
        setting.pulls().await;
    }

    setting.helper("empty", &knows("other.example"));
    setting.config_json(&json!({ "credsStore": "empty", "auths": { address.clone(): auth(PASSWORD) } }));
    setting.pulls().await;
}

/// I6
#[tokio::test]
async fn a_credential_helper_that_fails_is_told_without_its_words() {
    let setting = Setting::new().await;
    setting.helper("failing", &format!("echo '{PASSWORD}'; exit 3"));
    setting.helper("garbled", &format!("echo '{PASSWORD}'"));
    setting.helper("flood", "yes");
    for name in ["failing", "garbled", "flood", "missing", "../failing"] {
        setting.config_json(&json!({ "credsStore": name }));
        let reason = setting.refusal().await;
        assert!(reason.contains("could not read its credentials"), "{name}: {reason}");
    }
}
