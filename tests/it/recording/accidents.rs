//! What becomes of recordings when something goes wrong.

use serde_json::json;
use tempfile::TempDir;

use super::{PATIENCE, files, folder, lines, recording_server, recordings, the_recording};
use crate::harness::{Fault, FaultProxy, Terminal, TestServer, call, poll_until};

#[tokio::test]
async fn a_recording_that_a_killed_server_left_is_closed_at_the_next_start() {
    let mut server = recording_server("").await;
    let terminal = Terminal::open(&server.ssh(&["echo said before; sleep 600"]).arg("-tt")).await;
    terminal.wait_for("said before").await;
    let written = || {
        files(&folder(&server)).iter().find(|name| name.ends_with(".cast.partial")).is_some_and(|name| {
            std::fs::read_to_string(folder(&server).join(name)).unwrap().contains("said before")
        })
    };
    poll_until("the output on disk", PATIENCE, async || written().then_some(())).await;
    server.kill();
    // As if the machine had gone down in the middle of a line.
    let names = files(&folder(&server));
    let partial = names.iter().find(|name| name.ends_with(".cast.partial")).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(folder(&server).join(partial)).unwrap();
    std::io::Write::write_all(&mut file, b"[9.5,\"o\",\"torn").unwrap();

    server.start_again().await;

    let (sidecar, cast) = the_recording(&server).await;
    assert_eq!((&sidecar["interrupted"], &sidecar["exit"]), (&json!(true), &json!(null)));
    assert_eq!(sidecar["user"], server.user);
    let events = lines(&cast);
    assert!(events.iter().any(|event| event[2].as_str().is_some_and(|text| text.contains("said before"))));
    assert_eq!(sidecar["bytes"]["recorded"], std::fs::metadata(&cast).unwrap().len());
    server.stop().await;
}

/// The engine keeps a container locked while it looks at what changed, and whoever is in there decides for how long.
#[tokio::test]
async fn an_engine_that_does_not_come_to_an_end_is_asked_once_what_changed() {
    const SESSIONS: usize = 4;
    let engine_folder = TempDir::with_prefix("coracle-it-looks-").unwrap();
    let engine = FaultProxy::listen(engine_folder.path());
    let server = TestServer::builder().section("recording: {dir: recordings}").docker_host(&engine.url());
    let server = server.start().await;
    let master = server.master(&[]).await;
    engine.spoil(call::CHANGES, Fault::Hold);

    for _ in 0..SESSIONS {
        master.ssh(&["echo fine"]).output().await.assert_success().assert_stdout("fine\n");
    }

    let all = recordings(&folder(&server), SESSIONS).await;
    let looks = engine.take().iter().filter(|request| request.ends_with("/changes")).count();
    assert_eq!(looks, 1);
    for (sidecar, _) in &all {
        assert_eq!(sidecar["exit"], json!({"status": 0}));
        assert!(sidecar["changes"]["error"].is_string(), "{sidecar}");
    }
    master.close().await;
    server.stop().await;
}

#[tokio::test]
async fn two_servers_that_share_a_folder_leave_each_others_recordings_alone() {
    let one = recording_server("").await;
    let mut client = one.ssh(&["echo ready; cat"]).spawn();
    client.wait_for("ready").await;

    let shared = folder(&one).display().to_string();
    let two = TestServer::builder().section(&format!("recording: {{dir: {shared:?}}}"));
    let two = two.beside(&one).start().await;
    two.ssh(&["echo other"]).output().await.assert_success();

    client.close_stdin();
    client.end().await.assert_success();
    let all = recordings(&folder(&one), 2).await;
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|(sidecar, _)| sidecar["interrupted"] == false), "{all:?}");
    two.stop().await;
    one.stop().await;
}

#[tokio::test]
async fn a_session_goes_on_without_a_folder_for_its_recording() {
    let server = recording_server("").await;
    let warnings = || server.log.text().matches("is not kept").count();
    std::fs::remove_dir_all(folder(&server)).unwrap();

    let output = server.ssh(&["for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"]).output().await;

    output.assert_success().assert_stdout("1\n2\n3\n4\n5\n");
    poll_until("a warning", PATIENCE, async || (warnings() == 1).then_some(())).await;
    std::fs::create_dir(folder(&server)).unwrap();
    server.ssh(&["echo back"]).output().await.assert_success();
    let (sidecar, _) = the_recording(&server).await;
    assert_eq!(sidecar["command"], "echo back");
    assert_eq!(warnings(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_recording_ends_at_its_greatest_size_and_the_session_does_not() {
    let server = recording_server(", maxBytes: 64KiB").await;

    let output = server.ssh(&["yes coracle | head -c 1000000"]).arg("-tt").output().await;

    assert!(output.assert_success().stdout().len() >= 1_000_000);
    let (sidecar, cast) = the_recording(&server).await;
    assert_eq!((&sidecar["truncated"], &sidecar["exit"]), (&json!(true), &json!({"status": 0})));
    assert!(std::fs::metadata(&cast).unwrap().len() <= 64 << 10);
    let last = lines(&cast).pop().unwrap();
    assert!(last[1] == "m" && last[2].as_str().unwrap().contains("ends here"), "{last}");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_record_does_not_start() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, "stateDir: state\nssh: {listen: 127.0.0.1:0}\nrecording: {dir: file/below}\n")
        .unwrap();

    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_coracle"));
    command.arg("serve").arg("--config").arg(&config).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();

    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("file/below` ") || said.contains("file/below`:"), "{said}");
}

#[tokio::test]
async fn a_reload_changes_what_is_recorded_and_removes_what_is_too_old() {
    let server = TestServer::start().await;
    server.ssh(&["echo before"]).output().await.assert_success();
    let file = server.path("config.yaml");
    let config = std::fs::read_to_string(&file).unwrap();

    std::fs::write(&file, format!("{config}\nrecording: {{dir: recordings}}\n")).unwrap();
    server.reload("configuration read again").await;
    server.ssh(&["echo after"]).output().await.assert_success();
    let (sidecar, _) = the_recording(&server).await;
    assert_eq!(sidecar["command"], "echo after");

    std::fs::write(&file, format!("{config}\nrecording: {{dir: recordings, retention: 1ms}}\n")).unwrap();
    // Names tell seconds.
    let gone = poll_until("the removal of what is too old", PATIENCE, async || {
        server.reload("configuration read again").await;
        files(&folder(&server)).is_empty().then_some(())
    });
    gone.await;
    server.stop().await;
}
