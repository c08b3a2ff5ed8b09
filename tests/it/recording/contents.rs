//! What is in recordings, and who can play them.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{PATIENCE, files, folder, is_anywhere, lines, mode, recording_server, recordings, the_recording};
use crate::harness::{Terminal, TestServer, asciinema, poll_until};

/// What an event of a stream has in it.
fn bytes_of(event: &Value) -> Vec<u8> {
    match &event["base64"] {
        Value::String(encoded) => BASE64_STANDARD.decode(encoded).unwrap(),
        _ => event["text"].as_str().unwrap().as_bytes().to_vec(),
    }
}

/// Types a few lines at a terminal that is resized meanwhile.
async fn sit_at_a_terminal(server: &TestServer) {
    let terminal = Terminal::open(&server.ssh(&[]).arg("-tt")).await;
    terminal.wait_until("any prompt", |screen| screen.contains('$') || screen.contains('#')).await;
    terminal.enter("printf 'gr\\303\\274n \\360\\237\\230\\200\\n'").await;
    terminal.wait_for("grün").await;
    terminal.resize(90, 30).await;
    // The engine may take its time to pass the size on.
    terminal.enter("until stty size | grep '30 90'; do sleep 0.1; done; exit 3").await;
    terminal.wait_for("[status 3]").await;
}

#[tokio::test]
async fn a_session_at_a_terminal_is_played_by_asciinema() {
    let server = recording_server("").await;

    sit_at_a_terminal(&server).await;

    let (sidecar, cast) = the_recording(&server).await;
    assert_eq!((&sidecar["format"], &sidecar["kind"]), (&json!("asciicast-v2"), &json!("shell")));
    let events = lines(&cast);
    assert_eq!(
        (&events[0]["version"], &events[0]["width"], &events[0]["height"]),
        (&json!(2), &json!(100), &json!(40))
    );
    assert!(events.iter().any(|event| event[1] == "r" && event[2] == "90x30"), "{events:?}");
    assert!(!events.iter().any(|event| event[1] == "i"), "{events:?}");
    let shown = asciinema(&server, &["cat"], &cast).output().await;
    assert!(shown.assert_success().stdout().contains("grün 😀\r\n"), "{}", shown.report());
    assert!(shown.stdout().contains("30 90"), "{}", shown.report());
    // It takes a terminal, and as long as the session did at most.
    let player = Terminal::open(&asciinema(&server, &["play", "-i", "0.1", "-s", "5"], &cast)).await;
    player.wait_for("grün 😀").await;
    player.wait_for("[status 0]").await;
    server.stop().await;
}

/// <https://docs.asciinema.org/manual/asciicast/v3/>
#[tokio::test]
async fn a_session_at_a_terminal_can_be_written_as_the_third_version_of_asciicast() {
    let server = recording_server(", format: asciicast-v3").await;

    sit_at_a_terminal(&server).await;

    let (sidecar, cast) = the_recording(&server).await;
    assert_eq!(sidecar["format"], "asciicast-v3");
    let events = lines(&cast);
    let header = events[0].as_object().unwrap();
    assert_eq!(header["version"], 3);
    assert_eq!((&header["term"]["cols"], &header["term"]["rows"]), (&json!(100), &json!(40)));
    assert!(header["term"]["type"].is_string() && header["timestamp"].is_u64(), "{header:?}");
    let known = ["version", "term", "timestamp", "title", "command", "env", "tags", "idle_time_limit"];
    assert!(header.keys().all(|key| known.contains(&key.as_str())), "{header:?}");
    let mut shown = String::new();
    let mut lasted = 0.0;
    for event in &events[1..] {
        let [interval, code, data] = event.as_array().unwrap().as_slice() else { panic!("{event}") };
        let interval = interval.as_f64().unwrap();
        assert!(interval >= 0.0, "{event}");
        lasted += interval;
        match code.as_str().unwrap() {
            "o" => shown += data.as_str().unwrap(),
            "r" => assert_eq!(data, "90x30"),
            "x" => assert_eq!(data, "3"),
            other => panic!("{other}: {event}"),
        }
    }
    assert!(shown.contains("grün 😀\r\n"), "{shown}");
    assert_eq!(events.last().unwrap()[1], "x");
    // Intervals add up to how long it was.
    assert!((lasted - sidecar["durationSeconds"].as_f64().unwrap()).abs() < 0.01, "{lasted}, {sidecar}");
    server.stop().await;
}

#[tokio::test]
async fn a_command_without_a_terminal_is_recorded_byte_for_byte() {
    let server = recording_server("").await;
    let command = "cat; echo error >&2; printf '\\001\\377'; exit 7";

    server.ssh(&[command]).stdin("typed").output().await.assert_code(7);

    let (sidecar, log) = the_recording(&server).await;
    let events = lines(&log);
    assert!(log.extension().is_some_and(|extension| extension == "jsonl"));
    assert_eq!((&events[0]["type"], &events[0]["command"]), (&json!("coracle-events"), &json!(command)));
    // How many events a stream's bytes are is the pipes' affair.
    let of = |stream: &str| -> Vec<u8> {
        events.iter().filter(|event| event["stream"] == stream).flat_map(bytes_of).collect()
    };
    assert_eq!(of("stderr"), b"error\n");
    assert_eq!(of("stdout"), b"typed\x01\xff");
    assert!(of("stdin").is_empty(), "{events:?}");
    assert_eq!(events.last().unwrap()["exit"], json!({"status": 7}));
    assert_eq!((&sidecar["exit"], &sidecar["bytes"]["input"]), (&json!({"status": 7}), &json!(5)));
    assert_eq!(sidecar["bytes"]["output"], 5 + 6 + 2);
    server.stop().await;
}

#[tokio::test]
async fn beside_a_recording_stands_who_when_where_and_what_changed() {
    let server = recording_server("").await;

    let command = "echo new > /opt/new; rm -f /etc/issue; exit 5";
    // Whose container stays for a while: on a busy machine nobody would wait for what changed in one that has to go.
    let master = server.master(&[]).await;
    master.ssh(&[command]).output().await.assert_code(5);

    let (sidecar, log) = the_recording(&server).await;
    master.close().await;
    assert_eq!(sidecar["user"], server.user);
    assert!(sidecar["keyFingerprint"].as_str().unwrap().starts_with("SHA256:"), "{sidecar}");
    assert_eq!(sidecar["methods"], "publicKey");
    assert!(sidecar["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{sidecar}");
    assert_eq!(sidecar["image"], "coracle/guest:latest");
    assert_eq!(sidecar["container"].as_str().unwrap().len(), 64, "{sidecar}");
    assert_eq!((&sidecar["kind"], &sidecar["command"]), (&json!("exec"), &json!(command)));
    assert_eq!((&sidecar["session"], &sidecar["exit"]), (&json!(1), &json!({"status": 5})));
    assert_eq!((&sidecar["interrupted"], &sidecar["truncated"]), (&json!(false), &json!(false)));
    assert_eq!(sidecar["lost"], json!({"gaps": 0, "events": 0, "bytes": 0}));
    assert!(sidecar["started"].as_str().unwrap() < sidecar["ended"].as_str().unwrap(), "{sidecar}");
    let changes = sidecar["changes"]["files"].as_array().unwrap();
    assert!(changes.contains(&json!({"path": "/opt/new", "change": "added"})), "{sidecar}");
    assert!(changes.contains(&json!({"path": "/etc/issue", "change": "deleted"})), "{sidecar}");
    let connection = sidecar["connection"].as_str().unwrap();
    assert!(server.log.text().contains(connection), "{sidecar}");
    let name = log.file_name().unwrap().to_str().unwrap();
    assert!(name.ends_with(&format!("-{connection}-1.jsonl")), "{name}");
    server.stop().await;
}

/// L4
#[tokio::test]
async fn containers_go_as_soon_as_if_nobody_had_looked_at_what_changed() {
    let server = TestServer::builder().section("recording: {dir: recordings}").alone().start().await;
    let many = "mkdir ~/d; cd ~/d; i=0; while [ $i -lt 3000 ]; do : > f$i; i=$((i+1)); done";

    server.ssh(&[many]).output().await.assert_success();

    server.assert_all_gone_within(Duration::from_secs(2)).await;
    assert_eq!(the_recording(&server).await.0["exit"], json!({"status": 0}));
    server.stop().await;
}

#[tokio::test]
async fn of_very_many_files_that_changed_some_are_told() {
    let server = recording_server("").await;
    let master = server.master(&[]).await;
    let many = "mkdir ~/d; cd ~/d; i=0; while [ $i -lt 3000 ]; do : > f$i; i=$((i+1)); done";

    master.ssh(&[many]).output().await.assert_success();

    let (sidecar, _) = the_recording(&server).await;
    master.close().await;
    assert_eq!(sidecar["changes"]["truncated"], true, "{sidecar}");
    assert_eq!(sidecar["changes"]["files"].as_array().unwrap().len(), 1000);
    server.stop().await;
}

#[tokio::test]
async fn sessions_of_a_connection_and_subsystems_have_a_recording_each_and_forwards_have_none() {
    let server = TestServer::builder().forwarding().section("recording: {dir: recordings}").start().await;
    let master = server.master(&[]).await;

    master.ssh(&["echo one"]).output().await.assert_success();
    server.ssh(&[]).arg("-W").arg("127.0.0.1:1").output().await;
    master.ssh(&["-s", "sftp"]).stdin("").output().await;
    master.close().await;

    let all = recordings(&folder(&server), 2).await;
    let told: Vec<_> = all.iter().map(|(sidecar, _)| (&sidecar["session"], &sidecar["kind"])).collect();
    assert_eq!(told, [(&json!(1), &json!("exec")), (&json!(2), &json!("subsystem"))]);
    assert_eq!(all[0].0["connection"], all[1].0["connection"]);
    assert_eq!(files(&folder(&server)).len(), 4, "{:?}", files(&folder(&server)));
    server.stop().await;
}

#[tokio::test]
async fn only_whoever_runs_the_server_can_read_recordings() {
    let server = recording_server("").await;
    let mut client = server.ssh(&["echo ready; cat"]).spawn();
    client.wait_for("ready").await;

    let modes = |server: &TestServer| -> Vec<u32> {
        files(&folder(server)).iter().map(|name| mode(&folder(server).join(name))).collect()
    };
    // They are begun beside the program.
    poll_until("both files", PATIENCE, async || {
        let names = files(&folder(&server));
        (names.len() == 2 && !names.iter().any(|name| name.contains(".new"))).then_some(())
    })
    .await;
    assert_eq!(mode(&folder(&server)), 0o700);
    assert_eq!(modes(&server), [0o600, 0o600], "while it is written");
    client.close_stdin();
    client.end().await.assert_success();
    the_recording(&server).await;
    assert_eq!(modes(&server), [0o600, 0o600]);
    server.stop().await;
}

/// A password that no screen shows.
async fn type_a_secret(server: &TestServer) {
    let script = "stty -echo; echo password?; read secret; stty echo; echo thanks";
    let terminal = Terminal::open(&server.ssh(&[script]).arg("-tt")).await;
    terminal.wait_for("password?").await;
    terminal.enter("hunter-twelve").await;
    terminal.wait_for("[status 0]").await;
}

#[tokio::test]
async fn what_is_typed_without_an_echo_is_in_no_file() {
    let server = recording_server("").await;

    type_a_secret(&server).await;

    let (sidecar, _) = the_recording(&server).await;
    assert_eq!(sidecar["input"], false);
    assert!(is_anywhere(&folder(&server), "thanks"));
    assert!(!is_anywhere(&folder(&server), "hunter-twelve"));
    server.stop().await;
}

#[tokio::test]
async fn what_is_typed_is_recorded_where_that_is_asked_for() {
    let server = recording_server(", input: true").await;

    type_a_secret(&server).await;

    let (sidecar, cast) = the_recording(&server).await;
    assert_eq!(sidecar["input"], true);
    let typed: String =
        lines(&cast).iter().filter(|event| event[1] == "i").filter_map(|event| event[2].as_str()).collect();
    assert!(typed.contains("hunter-twelve"), "{typed:?}");
    // Players show it nowhere.
    let shown = asciinema(&server, &["cat"], &cast).output().await;
    assert!(!shown.assert_success().stdout().contains("hunter"), "{}", shown.report());
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_recorded_unless_it_is_asked_for() {
    let server = TestServer::start().await;
    server.ssh(&["echo one"]).output().await.assert_success();
    let before = files(&server.path(""));

    server.ssh(&["echo two"]).output().await.assert_success();

    assert_eq!(files(&server.path("")), before);
    server.stop().await;
}
