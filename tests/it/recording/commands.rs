//! `coracle replay` and `coracle recordings`.

use serde_json::{Value, json};

use super::{folder, recording_server, recordings, the_recording};
use crate::harness::{Client, Terminal, TestServer};

fn coracle(server: &TestServer, arguments: &[&str]) -> Client {
    server.program(env!("CARGO_BIN_EXE_coracle")).then(arguments)
}

#[tokio::test]
async fn both_versions_of_asciicast_are_replayed_as_they_were_seen() {
    for format in ["asciicastV2", "asciicastV3"] {
        let server = recording_server(&format!(", format: {format}")).await;
        let script = "printf 'one\\n'; sleep 1; printf '\\033]0;title\\007\\033[31mtwo\\033[0m\\n'";
        let seen = server.ssh(&[script]).arg("-tt").output().await.assert_success().stdout();
        let (_, cast) = the_recording(&server).await;
        let cast = cast.to_str().unwrap();

        let played = coracle(&server, &["replay", cast, "--speed", "100"]).output().await;
        played.assert_success().assert_stdout(&seen);
        let safe = coracle(&server, &["replay", cast, "--idle-limit", "0", "--safe"]).output().await;
        safe.assert_success().assert_stdout("one\r\n\x1b[31mtwo\x1b[0m\r\n");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_replay_takes_its_time_and_ends_with_ctrl_c() {
    let server = recording_server("").await;
    let cast = server.path("long.cast");
    let events =
        "{\"version\":2,\"width\":80,\"height\":24}\n[0.1,\"o\",\"first\"]\n[1000,\"o\",\"second\"]\n";
    std::fs::write(&cast, events).unwrap();
    let replay = coracle(&server, &["replay", cast.to_str().unwrap()]);
    // The shells around it get the signal, too.
    let replay = replay.piped("trap : INT; {}; echo \"[ended $?]\"; exec sleep 60");

    let terminal = Terminal::open(&replay).await;

    let screen = terminal.wait_for("first").await;
    assert!(!screen.contains("second"), "{screen}");
    terminal.keys(&["C-c"]).await;
    let screen = terminal.wait_for("[ended 0]").await;
    assert!(!screen.contains("second"), "{screen}");
    server.stop().await;
}

#[tokio::test]
async fn an_event_log_is_printed_so_that_people_can_read_it() {
    let server = recording_server("").await;
    server
        .ssh(&["printf 'a\\033[2Jb\\nc\\n'; printf '\\000\\001' >&2; exit 4"])
        .output()
        .await
        .assert_code(4);
    let (_, log) = the_recording(&server).await;

    let printed = coracle(&server, &["replay", log.to_str().unwrap()]).output().await;

    let text = printed.assert_success().stdout();
    let mut said: Vec<_> =
        text.lines().filter_map(|line| line.trim_start().split_once(' ')).map(|it| it.1).collect();
    assert_eq!(said.pop(), Some("exit 4"), "{text}");
    // The engine carries them separately.
    said.sort_unstable();
    assert_eq!(said, ["stderr: 2 bytes", "stdout: a\\u{1b}[2Jb", "stdout: c"], "{text}");
    server.stop().await;
}

#[tokio::test]
async fn recordings_are_listed_and_searched() {
    let server = recording_server("").await;
    let script = "printf 'the \\033[1mneedle\\033[0m is here\\r\\n'; echo hay";
    server.ssh(&[script]).arg("-tt").output().await.assert_success();
    server.ssh_to("bob", &["echo another needle; exit 2"]).output().await.assert_code(2);
    let all = recordings(&folder(&server), 2).await;
    let config = server.path("config.yaml").display().to_string();

    let table = coracle(&server, &["recordings", "ls", "--config", &config]).output().await;
    let rows = table.assert_success().stdout();
    assert_eq!(rows.lines().count(), 3, "{rows}");
    assert!(rows.lines().any(|row| row.contains("bob") && row.contains("exit 2")), "{rows}");
    let dir = folder(&server).display().to_string();
    let bobs =
        coracle(&server, &["recordings", "ls", "--json", "--user", "bob", "--dir", &dir]).output().await;
    let bobs: Value = serde_json::from_str(&bobs.assert_success().stdout()).unwrap();
    assert_eq!((bobs.as_array().unwrap().len(), &bobs[0]["exit"]), (1, &json!({"status": 2})));
    let found = coracle(&server, &["recordings", "grep", "needle( is|$)", "--dir", &dir]).output().await;
    let found = found.assert_success().stdout();
    let lines: Vec<_> = found.lines().map(|line| line.split_once(": ").unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line.1).collect::<Vec<_>>(), ["the needle is here", "another needle"]);
    assert!(lines[0].0.starts_with(&format!("{}:", all[0].1.display())), "{found}");
    let nothing = coracle(&server, &["recordings", "ls"]).output().await;
    assert!(nothing.assert_code(1).stderr().contains("--dir"), "{}", nothing.report());
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_recording_is_told_and_not_played() {
    let server = recording_server("").await;
    let file = server.path("file");
    for content in ["", "hello\n", "{\"version\":1}\n", "{\"version\":2,\"type\":\"x\"}\n"] {
        std::fs::write(&file, content).unwrap();

        let refused = coracle(&server, &["replay", file.to_str().unwrap()]).output().await;

        assert!(refused.assert_code(1).stderr().contains("is no recording"), "{}", refused.report());
    }
    std::fs::write(&file, "{\"version\":2}\n[1e300,\"o\",\"a\"]\n[-5,\"o\",\"b\"]\n[2,\"o\",\"torn").unwrap();
    let played = coracle(&server, &["replay", file.to_str().unwrap(), "--idle-limit", "0.1"]).output().await;
    played.assert_success().assert_stdout("ab");
    server.stop().await;
}
