//! User names that are made to do harm (A9).

use std::fmt::Write as _;

use crate::harness::{TestServer, docker, python};

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A9
#[tokio::test]
async fn a_name_that_is_none_stays_out_and_leaves_the_log_in_order() {
    let server = TestServer::start().await;
    let long = vec![b'a'; 64 << 10];
    let names: [&[u8]; 8] = [
        b"",
        &long,
        b"ro\0ot",
        b"root\n{\"level\":\"ERROR\"}",
        b"\x1b]0;owned\x07",
        b"\xff\xfe",
        b"\r\nroot",
        "a\u{202e}b".as_bytes(),
    ];

    for name in names {
        let answer =
            python(&server, "logins.py", &["named_on_stdin"]).stdin(hexadecimal(name)).output().await;

        let answer = answer.assert_success().stdout();
        let refused = answer.starts_with("failure ") || answer.starts_with("closed");
        assert!(refused, "{:?}: {answer}", String::from_utf8_lossy(&name[..name.len().min(20)]));
    }

    assert!(server.containers().await.is_empty());
    for line in server.log.lines() {
        assert!(line.len() < 2000, "a line of {} bytes", line.len());
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        assert!(!line.chars().any(|letter| letter.is_control() || letter == '\u{202e}'), "{line:?}");
    }
    server.stop().await;
}

/// A9: where any name is welcome, one is data: in variables, labels and the log, and never a path.
#[tokio::test]
async fn an_odd_name_is_data_everywhere() {
    let server = TestServer::builder().container("user: '1234'").start().await;

    for name in ["../../x", "$(id)", "a/b:c", "🦀", "-rf", "a b'\"\\", "%u", "a+b"] {
        let mut running = python(&server, "logins.py", &["named", &hexadecimal(name.as_bytes())]).spawn();
        running.wait_for(&format!("{name}|{name}\n")).await;
        let container = server.the_container().await;
        let user = docker(&["inspect", "--format", "{{json .Config.Labels}}", &container]).await;

        let labels: serde_json::Value = serde_json::from_str(&user).unwrap();
        assert_eq!(labels["coracle.username"], name);
        running.end().await.assert_success();
        server.assert_all_given_back().await;
    }
    server.stop().await;
}

/// A9
#[tokio::test]
async fn a_name_leads_to_no_file_of_another_folder() {
    let server = TestServer::builder().authorized_keys("keys/%u").start().await;
    let key = server.path("authorized_keys");
    std::fs::create_dir(server.path("keys")).unwrap();
    for file in ["keys/root", "outside"] {
        std::fs::copy(&key, server.path(file)).unwrap();
    }

    for (name, code) in [("root", 0), ("../outside", 255), ("./root", 255), ("../keys/root", 255), (".", 255)]
    {
        server.ssh_to(name, &["true"]).output().await.assert_code(code);
    }
    server.stop().await;
}
