//! Files that hooks put into containers, and what users hear when that cannot be.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{HookService, TestServer, poll_until};

/// `hello` and a newline, in base64.
const HELLO: &str = "aGVsbG8K";

/// A server whose hook lets everybody in and gives everybody `files`.
async fn gives(files: Value, container: &str, docker_config: &str) -> TestServer {
    let service = HookService::start().await;
    service.says("/hooks/pubkey", json!({"success": true, "files": files}));
    let hook = format!("  publicKey: {{method: webhook, webhook: {{url: '{}'}}}}", service.url("/hooks"));
    let mut builder = TestServer::builder().no_authorized_keys().auth(&hook);
    if !container.is_empty() {
        builder = builder.container(container);
    }
    if !docker_config.is_empty() {
        builder = builder.docker_config(docker_config);
    }
    builder.start().await
}

fn hello() -> Value {
    json!({"value": HELLO})
}

#[tokio::test]
async fn files_are_there_before_the_first_program_and_are_its_users_alone() {
    let files =
        json!({"/home/coracle/deep/er/file": hello(), "/tmp/it's $(id) here": hello(), "/tmp/empty": {}});
    let look = "stat -c '%a %U %s' /home/coracle/deep/er/file '/tmp/it'\\''s $(id) here' /tmp/empty; \
                stat -c '%a %U' /home/coracle/deep; cat /home/coracle/deep/er/file";

    for (container, user) in [("", "root"), ("user: coracle", "coracle")] {
        let server = gives(files.clone(), container, "").await;

        let output = server.ssh_to("alice", &[look]).output().await;

        let expected = format!("600 {user} 6\n600 {user} 6\n600 {user} 0\n700 {user}\nhello\n");
        output.assert_success().assert_stdout(&expected);
        server.stop().await;
    }
}

/// What the image has is replaced, whatever its mode was, and a link is not followed.
#[tokio::test]
async fn a_file_that_is_there_already_is_replaced() {
    let server = gives(json!({"/etc/motd": hello(), "/etc/mtab": hello()}), "", "").await;

    let output =
        server.ssh_to("alice", &["stat -c '%a %F' /etc/motd /etc/mtab; cat /etc/motd"]).output().await;

    output.assert_success().assert_stdout("600 regular file\n600 regular file\nhello\n");
    server.stop().await;
}

/// A mount that only the container has: what the engine unpacks into an image would lie under it.
#[tokio::test]
async fn files_land_on_a_tmpfs() {
    let host = "host: {tmpfs: {/tmp: 'mode=1777'}, readonlyRootfs: true}";
    let server = gives(json!({"/tmp/token": hello()}), "user: '4711'", host).await;

    let output = server
        .ssh_to("alice", &["stat -c '%a %u' /tmp/token; stat -f -c %T /tmp/token; cat /tmp/token"])
        .output()
        .await;

    output.assert_success().assert_stdout("600 4711\ntmpfs\nhello\n");
    server.stop().await;
}

#[tokio::test]
async fn a_large_file_arrives_whole() {
    // The most that a hook may give: 1 MiB less what its JSON takes, in base64.
    let letters = "QUJD".repeat(180_000);
    let server = gives(json!({"/tmp/large": {"value": letters}}), "", "").await;

    let output = server.ssh_to("alice", &["tr -d ABC </tmp/large | wc -c; wc -c </tmp/large"]).output().await;

    output.assert_success().assert_stdout("0\n540000\n");
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_and_leaves_no_container() {
    let files = json!({"/tmp/first": hello(), "/proc/nothing/here": hello()});
    let server = gives(files, "user: coracle", "").await;

    let mut running = server.ssh_to("alice", &["echo in; cat"]).spawn();

    running.wait_for_error("\n").await;
    server.assert_all_gone_within(Duration::from_mins(1)).await;
    let output = running.end().await;
    output.assert_told("/proc/nothing/here");
    assert!(output.stdout.is_empty(), "no program ran\n{}", output.report());
    let told = async || server.log.text().contains("the container cannot have its files").then_some(());
    poll_until("the reason in the log", Duration::from_secs(10), told).await;
    server.stop().await;
}
