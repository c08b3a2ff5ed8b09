//! The audit stream: what is written down of what happens, and that none of it is lost.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Collector, Manner, Target, TestServer, poll_until};

/// Long enough for anything on a slow machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// The records in the file, from the first on.
pub(crate) fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // A large write is seen before it is all there.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

pub(crate) fn is(record: &Value, event: &str) -> bool {
    record["event"] == event
}

/// Waits until there are `count` records of `event`; all that are there.
pub(crate) async fn until(target: &Target, event: &str, count: usize) -> Vec<Value> {
    let path = target.path("audit.jsonl");
    poll_until(&format!("{count} × {event}"), DEADLINE, async || {
        let records = records(&path);
        (records.iter().filter(|record| is(record, event)).count() >= count).then_some(records)
    })
    .await
}

/// Without what differs from run to run.
pub(crate) fn outline(records: &[Value], fields: &[&str]) -> Vec<String> {
    let line = |record: &Value| {
        let values = fields.iter().filter_map(|field| record.get(*field));
        let values: Vec<_> =
            values.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
        values.join(" ")
    };
    records.iter().map(line).collect()
}

/// From 1 on, without a gap.
fn assert_numbered(records: &[Value]) {
    let numbers: Vec<_> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    let expected: Vec<_> = (1..=records.len() as u64).collect();
    assert_eq!(numbers, expected);
}

/// A server that writes to `audit.jsonl`.
async fn with_file() -> TestServer {
    TestServer::builder().section("audit: {file: audit.jsonl}").start().await
}

/// One that sends to a collector.
async fn with_collector(collector: &Collector) -> TestServer {
    let section = format!("audit: {{http: {{url: {:?}, timeout: 4s}}}}", collector.url());
    TestServer::builder().section(&section).start().await
}

#[tokio::test]
async fn a_session_is_told_from_the_connection_to_the_end_in_order() {
    let server = with_file().await;

    server.ssh(&["exit 3"]).output().await.assert_code(3);

    let all = until(&server, "disconnected", 1).await;
    assert_numbered(&all);
    let names = ["event", "method", "outcome", "request", "detail", "exit"];
    let lines = outline(&all, &names);
    let story = [
        "started",
        "connected",
        "greeted",
        "proven none refused",
        "proven publicKey accepted",
        "loggedIn",
        "sessionStarted exec exit 3",
        "sessionEnded exited exec 3",
        "disconnected",
    ];
    let mut rest = lines.iter();
    for step in story {
        assert!(rest.any(|line| line == step), "no `{step}` in its place: {lines:#?}");
    }
    let login = all.iter().find(|record| is(record, "loggedIn")).unwrap();
    assert_eq!((&login["user"], &login["v"]), (&json!("root"), &json!(1)), "{login}");
    assert!(login["key"].as_str().unwrap().starts_with("SHA256:"), "{login}");
    assert!(login["time"].as_str().unwrap().ends_with('Z'), "{login}");
    let connections: Vec<_> = all.iter().filter_map(|record| record.get("connection")).collect();
    assert!(connections.len() > 7 && connections.iter().all(|id| *id == connections[0]), "{connections:?}");
    server.stop().await;
}

#[tokio::test]
async fn the_end_of_the_server_is_the_last_record_and_a_file_that_was_moved_away_is_begun_anew() {
    let mut server = with_file().await;
    until(&server, "started", 1).await;
    let (path, aside) = (server.path("audit.jsonl"), server.path("audit.jsonl.1"));

    std::fs::rename(&path, &aside).unwrap();
    server.reload("configuration read again").await;
    poll_until("a new file", DEADLINE, async || path.exists().then_some(())).await;
    server.ssh(&["true"]).output().await.assert_success();
    until(&server, "disconnected", 1).await;
    server.terminate();
    server.assert_ends_within(DEADLINE).await;

    let (before, after) = (records(&aside), records(&path));
    assert_eq!(after.last().unwrap()["event"], "stopped");
    assert_numbered(&[before, after].concat());
}

#[tokio::test]
async fn nobody_comes_in_while_the_stream_cannot_be_written_where_that_is_wanted() {
    let section = "audit: {file: link, onFailure: refuse}";
    // The link has to be there before the server; its folder is not yet.
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("audit");
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    let section = section.replace("link", link.to_str().unwrap());
    let mut server = TestServer::builder().section(&section).start().await;
    server.expect_errors();
    poll_until("a complaint", DEADLINE, async || {
        server.log.text().contains("the audit stream cannot be written").then_some(())
    })
    .await;

    let refused = server.ssh(&["true"]).output().await;
    std::fs::remove_file(&link).unwrap();
    server.reload("the audit stream can be written again").await;
    server.ssh(&["true"]).output().await.assert_success();

    refused.assert_code(255);
    assert!(refused.stderr().contains("Permission denied"), "{}", refused.report());
    let records = records(&link);
    assert_numbered(&records);
    assert!(records.iter().any(|record| is(record, "loginRefused") && record["reason"] == "audit"));
    server.stop().await;
}

#[tokio::test]
async fn a_service_that_misbehaves_gets_everything_in_order_in_the_end() {
    let collector = Collector::start(&[
        Manner::Away,
        Manner::Status(503),
        Manner::BreakWithin,
        Manner::Silence,
        Manner::BreakAfter,
        Manner::Status(429),
        Manner::Take,
    ])
    .await;
    let mut server = with_collector(&collector).await;

    for _ in 0..3 {
        server.ssh(&["true"]).output().await.assert_success();
    }
    poll_until("all records", DEADLINE, async || {
        let records = collector.records();
        (records.iter().filter(|record| is(record, "disconnected")).count() == 3).then_some(())
    })
    .await;
    server.terminate();
    server.assert_ends_within(DEADLINE).await;

    let records = collector.records();
    assert_numbered(&records);
    assert_eq!(records.last().unwrap()["event"], "stopped");
    assert!(collector.requests() > 6, "{}", collector.requests());
    let spool = server.path("state/audit-spool");
    let left: Vec<_> = std::fs::read_dir(spool).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}

#[tokio::test]
async fn a_server_that_is_killed_while_the_service_is_away_sends_everything_once_both_are_back() {
    let collector = Collector::start(&[Manner::Away]).await;
    let mut server = with_collector(&collector).await;
    server.ssh(&["true"]).output().await.assert_success();
    let spool = server.path("state/audit-spool");
    let spooled = || {
        let files = std::fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path());
        let texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
        texts.collect::<String>().contains("\"disconnected\"")
    };
    poll_until("records in the spool", DEADLINE, async || spooled().then_some(())).await;

    server.kill_and_start_again().await;
    server.ssh(&["true"]).output().await.assert_success();
    assert_eq!(collector.records(), Vec::<Value>::new());
    collector.behaves(Manner::Take);

    let records = poll_until("all records", DEADLINE, async || {
        let records = collector.records();
        (records.iter().filter(|record| is(record, "disconnected")).count() == 2).then_some(records)
    })
    .await;
    let second = records.iter().skip(1).position(|record| is(record, "started")).unwrap() + 1;
    let (first, second) = records.split_at(second);
    assert_numbered(first);
    assert_numbered(second);
    assert_eq!(first[0]["instance"], second[0]["instance"]);
    assert_ne!(first[0]["run"], second[0]["run"]);
    server.stop().await;
}

#[tokio::test]
async fn what_a_service_refuses_is_put_aside_and_does_not_hold_up_what_comes_after() {
    let collector = Collector::start(&[Manner::Status(400), Manner::Take]).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "Bearer a-token\n").unwrap();
    let section = format!(
        "audit: {{http: {{url: {:?}, authorizationFile: {:?}}}}}",
        collector.url(),
        secret.path().display().to_string(),
    );
    let mut server = TestServer::builder().section(&section).start().await;
    server.expect_errors();
    let aside = server.path("state/audit-spool/rejected-00000000000000000000.ndjson");

    let refused = poll_until("what was refused", DEADLINE, async || {
        let records = records(&aside);
        (!records.is_empty()).then_some(records)
    })
    .await;
    server.ssh(&["true"]).output().await.assert_success();
    let taken = poll_until("the rest", DEADLINE, async || {
        let records = collector.records();
        records.iter().any(|record| is(record, "disconnected")).then_some(records)
    })
    .await;

    assert_numbered(&[refused, taken].concat());
    let headers = collector.headers().join("\n").to_lowercase();
    assert!(headers.contains("authorization: bearer a-token"), "{headers}");
    assert!(headers.contains("content-type: application/x-ndjson"), "{headers}");
    assert!(!server.log.text().contains("a-token"));
    server.stop().await;
}
