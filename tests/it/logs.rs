//! The log: what is in it, and what becomes of it when its file or its daemon goes.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{TINY, TestServer, poll_until, python};

/// For what takes a moment on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_mins(1);

const FORMATS: [&str; 2] = ["text", "json"];

fn lines_of(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Waits for a line of the log with all of these in it.
async fn line_with(server: &TestServer, words: &[&str]) -> String {
    poll_until(&format!("a line with {words:?}"), PATIENCE, async || {
        let lines = server.log.lines();
        lines.into_iter().find(|line| words.iter().all(|word| line.contains(word)))
    })
    .await
}

/// As the formats write it.
fn field(format: &str, name: &str, value: &str) -> String {
    match (format, value.parse::<u64>()) {
        ("json", Ok(number)) => format!("\"{name}\":{number}"),
        ("json", Err(_)) => format!("\"{name}\":\"{value}"),
        (_, Ok(number)) => format!("{name}={number}"),
        // Ids and addresses are written bare, texts of others as literals.
        (_, Err(_)) => format!("{name}="),
    }
}

/// Neither something that moves a cursor, nor a line that is none of ours.
fn assert_tame(format: &str, lines: &[String]) {
    assert!(!lines.is_empty());
    for line in lines {
        let is_wild = |letter: char| letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}');
        assert!(!line.contains(is_wild), "{line:?}");
        assert!(line.len() < 12_000, "a line of {} bytes", line.len());
        if format == "json" {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
        } else {
            let mut words = line.split_whitespace();
            let (time, level) = (words.next().unwrap(), words.next().unwrap());
            assert!(time.ends_with('Z') && time.starts_with("20"), "{line:?}");
            assert!(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "{line:?}");
        }
    }
}

#[tokio::test]
async fn a_line_tells_of_each_connection_denial_and_session_with_the_connections_id() {
    for format in FORMATS {
        let server = TestServer::builder().image(TINY).log(&format!("{{format: {format}}}")).start().await;

        let output = server.ssh(&["cat; echo bye; exit 3"]).stdin("hello").output().await;
        output.assert_code(3);
        server.ssh_as("mallory", &server.keys.stranger()).output().await.assert_code(255);

        let ended = line_with(&server, &["session ended"]).await;
        for (name, value) in
            [("session", "1"), ("outcome", "exited"), ("exit", "3"), ("received", "5"), ("sent", "9")]
        {
            let (one, other) = (field(format, name, value), format!("{name}\":\"{value}\""));
            assert!(
                ended.contains(&one)
                    || ended.contains(&other)
                    || ended.contains(&format!("{name}=\"{value}\"")),
                "{name}: {ended}"
            );
        }
        for name in ["connection", "user", "container", "seconds"] {
            assert!(
                ended.contains(&format!("{name}=")) || ended.contains(&format!("\"{name}\":")),
                "{ended}"
            );
        }
        let id =
            ended.split("connection").nth(1).unwrap().trim_start_matches(['=', '"', ':']).get(..12).unwrap();
        for said in ["connected", "logged in", "session started", "session ended", "disconnected"] {
            line_with(&server, &[said, id]).await;
        }
        let denied = line_with(&server, &["left without a login"]).await;
        for word in ["mallory", "refused", "publicKey", "127.0.0.1:", "connection"] {
            assert!(denied.contains(word), "{word}: {denied}");
        }
        server.stop().await;
    }
}

/// A9
#[tokio::test]
async fn nothing_that_clients_say_forges_a_line_or_moves_a_cursor() {
    let evil = "\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[2J\u{9b}1m\u{202e}\u{7}";
    for format in FORMATS {
        let log = format!("{{format: {format}, level: debug}}");
        let mut server = TestServer::builder().image(TINY).forwarding().log(&log).start().await;

        let mut raw = TcpStream::connect(server.address).await.unwrap();
        raw.write_all("SSH-2.0-x\u{1b}[2J\u{202e}\r\n".as_bytes()).await.unwrap();
        drop(raw);
        for name in [evil, "root"] {
            let hexadecimal = data_encoding::HEXLOWER.encode(name.as_bytes());
            python(&server, "logins.py", &["named_on_stdin"]).stdin(hexadecimal).output().await;
        }
        let command = format!("true # {evil}{}", "x".repeat(20_000));
        server.ssh(&[&command]).option("SetEnv=EV\u{1b}IL=1").option("SetEnv=TOKEN=s3cr3t").output().await;
        server.ssh(&["-s", evil]).output().await;
        let forward = format!("a{evil}:80");
        server.ssh(&[]).arg("-W").arg(&forward).output().await;

        line_with(&server, &["session ended"]).await;
        let lines = server.log.lines();
        assert_tame(format, &lines);
        assert!(lines.iter().any(|line| line.contains("forged")), "{}", lines.join("\n"));
        assert!(!lines.concat().contains("s3cr3t"));
        server.expect_errors();
        server.stop().await;
    }
}

#[tokio::test]
async fn a_file_that_is_rotated_loses_no_line() {
    let log = "{format: json, to: {file: FOLDER/logs/log}}";
    let server =
        TestServer::builder().image(TINY).file("logs/other", "").log(log).log_file("logs/log").start().await;
    let path = server.path("logs/log");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");

    let mut files = vec![path.clone()];
    for round in 0..4 {
        let logins = (0..3).map(|_| server.ssh(&["true"]).output());
        let rotation = async {
            let renamed = server.path(&format!("logs/log.{round}"));
            std::fs::rename(&path, &renamed).unwrap();
            let pid = rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
            poll_until("the new file", PATIENCE, async || path.exists().then_some(())).await;
            files.push(renamed);
        };
        let (outputs, ()) = tokio::join!(futures::future::join_all(logins), rotation);
        for output in outputs {
            output.assert_success();
        }
    }
    let pairs = poll_until("all lines", PATIENCE, async || {
        let lines: Vec<Value> = files
            .iter()
            .flat_map(|file| lines_of(file))
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect();
        let ids = |message: &str| -> BTreeSet<String> {
            let found = lines.iter().filter(|line| line["message"] == message);
            found.map(|line| line["connection"].as_str().unwrap().to_owned()).collect()
        };
        let pairs = (ids("session started"), ids("disconnected"));
        (pairs.1.len() == 12).then_some(pairs)
    })
    .await;

    assert_eq!(pairs.0, pairs.1);
    assert!(files.iter().all(|file| !lines_of(file).is_empty()), "a file got nothing");
    assert_eq!(server.log.text(), "");
    server.stop().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_costs_lines_and_one_complaint_and_no_login() {
    let log = "{format: json, to: {file: FOLDER/logs/log}}";
    let server =
        TestServer::builder().image(TINY).file("logs/other", "").log(log).log_file("logs/log").start().await;
    let logs = server.path("logs");

    std::fs::remove_dir_all(&logs).unwrap();
    let complaint = poll_until("a complaint", PATIENCE, async || {
        server.ssh(&["true"]).output().await.assert_success();
        let said = server.log.text();
        said.contains("lines are lost until it works").then_some(said)
    })
    .await;
    server.ssh(&["true"]).output().await.assert_success();

    assert_eq!(server.log.text(), complaint, "one complaint is enough");
    std::fs::create_dir(&logs).unwrap();
    server.ssh(&["true"]).output().await.assert_success();
    let told = poll_until("the gap is told", PATIENCE, async || {
        let lines = lines_of(&logs.join("log"));
        lines.into_iter().find(|line| line.contains("lines of the log were lost"))
    })
    .await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["lost"].as_u64().unwrap() > 1, "{told}");
    assert!(server.log.text().contains("works again"), "{}", server.log.text());
    server.stop().await;
}

/// A daemon that writes down what it hears, until it has heard the last word.
fn syslog(folder: &Path, last: Option<&'static str>) -> (PathBuf, PathBuf) {
    let (socket, heard) = (folder.join("log.sock"), folder.join("heard"));
    let daemon = UnixDatagram::bind(&socket).unwrap();
    let file = heard.clone();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 100_000];
        while let Ok(length) = daemon.recv(&mut buffer) {
            let mut so_far = std::fs::read(&file).unwrap_or_default();
            so_far.extend_from_slice(&buffer[..length]);
            so_far.push(b'\n');
            // Readers find whole records.
            std::fs::write(file.with_extension("new"), so_far).unwrap();
            std::fs::rename(file.with_extension("new"), &file).unwrap();
            while last.is_some_and(|last| String::from_utf8_lossy(&buffer[..length]).contains(last)) {
                // It is there, and reads no more.
                std::thread::park();
            }
        }
    });
    (socket, heard)
}

#[tokio::test]
async fn the_systems_log_gets_a_record_for_each_line() {
    for format in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        let (socket, heard) = syslog(folder.path(), None);
        let log = format!(
            "{{format: {format}, to: syslog, syslog: {{socket: {}, facility: local3}}}}",
            socket.display()
        );
        let server =
            TestServer::builder().image(TINY).log(&log).log_file(heard.to_str().unwrap()).start().await;

        server.ssh(&["true; : '\n<0>forged\u{1b}'"]).output().await.assert_success();

        let record = poll_until("the session's record", PATIENCE, async || {
            lines_of(&heard).into_iter().find(|line| line.contains("session started"))
        })
        .await;
        // local3.info, who, and the rest of the line.
        assert!(record.starts_with("<158>"), "{record}");
        assert!(record.contains(&format!(" coracle[{}]: ", server.pid())), "{record}");
        for record in lines_of(&heard) {
            assert!(record.starts_with('<') && !record.starts_with("<0>"), "{record:?}");
            assert!(!record.contains(char::is_control), "{record:?}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_daemon_that_takes_nothing_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, heard) = syslog(folder.path(), Some("listening address="));
    let log = format!("{{level: trace, to: syslog, syslog: {{socket: {}}}}}", socket.display());
    let mut server =
        TestServer::builder().image(TINY).log(&log).log_file(heard.to_str().unwrap()).start().await;

    poll_until("a complaint", PATIENCE, async || {
        server.ssh(&["true"]).output().await.assert_success();
        server.log.text().contains("nobody takes what is logged; lines are lost").then_some(())
    })
    .await;
    let output = server.ssh(&["true"]).output().await;

    output.assert_success();
    assert!(output.wall < Duration::from_secs(20), "{}", output.report());
    server.terminate();
    server.assert_ends_within(PATIENCE).await;
}
