//! `coracle ps`, `kill` and `drain`: what whoever runs the server sees of it, and does to it while it runs.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::{Client, GUEST, Output, Running, TINY, TestServer, docker, poll_until};

/// For what takes a moment on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_mins(1);

impl TestServer {
    /// The program itself, as whoever runs this server types it.
    fn operator(&self, words: &[&str]) -> Client {
        let program = self.program(env!("CARGO_BIN_EXE_coracle"));
        let (command, rest) = words.split_first().unwrap();
        program.arg(command).arg("--config").arg(self.path("config.yaml")).then(rest)
    }

    async fn ps(&self) -> Value {
        let output = self.operator(&["ps", "--json"]).output().await;
        serde_json::from_str(&output.assert_success().stdout()).unwrap()
    }

    async fn connections(&self) -> Vec<Value> {
        self.ps().await["connections"].as_array().unwrap().clone()
    }

    /// Waits until they are as many.
    async fn connections_when(&self, count: usize) -> Vec<Value> {
        poll_until("so many connections", PATIENCE, async || {
            let connections = self.connections().await;
            (connections.len() == count).then_some(connections)
        })
        .await
    }
}

async fn session(server: &TestServer, command: &str) -> Running {
    let mut client = server.ssh(&[&format!("echo started; {command}")]).spawn();
    client.wait_for("started").await;
    client
}

fn id(connection: &Value) -> String {
    connection["id"].as_str().unwrap().to_owned()
}

fn assert_refused(output: &Output, reason: &str) {
    output.assert_code(1).assert_stdout("");
    assert!(output.stderr().contains(reason), "{}", output.report());
}

#[tokio::test]
async fn whoever_runs_the_server_sees_connections_their_sessions_and_containers() {
    let server = TestServer::builder().image(GUEST).forwarding().start().await;
    assert_eq!(server.operator(&["ps"]).output().await.assert_success().stdout(), "no connections\n");

    let hostile = "cat; : \u{1b}[2J\u{202e}\n";
    let master = server.master(&[]).await;
    let mut first = master.ssh(&[&format!("echo started; {hostile}")]).spawn();
    first.wait_for("started").await;
    let mut second = master.ssh(&["echo started; sleep 600"]).arg("-tt").spawn();
    second.wait_for("started").await;
    let connection = server.connections_when(1).await.remove(0);

    assert_eq!(connection["user"], "root");
    assert_eq!(connection["stage"], "logged-in");
    assert_eq!(connection["methods"], "publicKey");
    assert!(connection["version"].as_str().unwrap().starts_with("SSH-2.0-OpenSSH"), "{connection}");
    assert!(connection["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{connection}");
    let container = server.the_container().await;
    assert_eq!(connection["container"], json!({ "id": container, "state": "running" }));
    let sessions = connection["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2, "{connection}");
    assert_eq!(sessions[0]["detail"], format!("echo started; {hostile}"));
    assert_eq!(sessions[0]["terminal"], false);
    assert_eq!(sessions[1]["terminal"], true);
    assert_eq!(sessions[1]["request"], "exec");
    let table = server.operator(&["ps"]).output().await.assert_success().stdout();
    assert!(table.starts_with("CONNECTION "), "{table}");
    assert!(table.contains(&id(&connection)) && table.contains(&container[..12]), "{table}");
    assert!(!table.contains(|letter: char| letter != '\n' && (letter.is_control() || letter == '\u{202e}')));
    assert_eq!(table.lines().count(), 4, "{table}");

    second.kill();
    first.end().await.assert_success();
    drop(master);
    server.connections_when(0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_killed_is_told_why_and_leaves_nothing() {
    let server = TestServer::builder().image(TINY).start().await;
    let (doomed, spared) = (session(&server, "sleep 600").await, session(&server, "cat").await);
    let connections = server.connections_when(2).await;
    let (first, second) = (id(&connections[0]), id(&connections[1]));

    for (words, reason) in [
        (vec!["kill", "nonsense"], "no connection `nonsense`"),
        (vec!["kill", &first, "nonsense"], "no connection `nonsense`"),
        (vec!["kill", "--user", "nobody"], "`nobody` has no connection"),
    ] {
        assert_refused(&server.operator(&words).output().await, reason);
    }
    // All that are named, or none.
    assert_eq!(server.connections().await.len(), 2);
    let killed = server.operator(&["kill", &first[..8], "--reason", "a\u{1b}[2J\nb"]).output().await;

    killed.assert_success().assert_stdout(&format!("{first} ended\n"));
    assert_eq!(server.containers().await.len(), 1);
    let connections = server.connections().await;
    assert_eq!(connections.iter().map(id).collect::<Vec<_>>(), [second]);
    let told = doomed.end().await;
    told.assert_told("an operator ended this connection: a [2J b");
    let log = server.log.text();
    assert!(log.contains(&format!(r#""connections":"[\"{first}\"]""#)), "{log}");

    let killed = server.operator(&["kill", "--user", "root", "--json"]).output().await;

    let killed: Value = serde_json::from_str(&killed.assert_success().stdout()).unwrap();
    assert_eq!(killed["left"], json!([]));
    assert_eq!(killed["ended"].as_array().unwrap().len(), 1);
    assert_eq!(server.containers().await, Vec::<String>::new());
    spared.end().await.assert_told("an operator ended this connection");
    server.stop().await;
}

#[tokio::test]
async fn containers_of_sessions_are_gone_with_a_killed_connection() {
    let server = TestServer::builder().image(TINY).docker_config("mode: session").start().await;
    let client = session(&server, "sleep 600").await;
    let connection = server.connections_when(1).await.remove(0);
    assert_eq!(connection["container"], Value::Null);
    assert_eq!(connection["sessions"][0]["container"]["id"], server.the_container().await);

    server.operator(&["kill", &id(&connection)]).output().await.assert_success();

    assert_eq!(server.containers().await, Vec::<String>::new());
    client.end().await.assert_told("an operator ended this connection");
    server.stop().await;
}

#[tokio::test]
async fn a_persistent_container_stays_when_its_connection_is_killed() {
    let server = TestServer::builder().image(TINY).docker_config("mode: persistent").start().await;
    let mut client = server.ssh(&["touch /kept; echo started; sleep 600"]).spawn();
    client.wait_for("started").await;
    let container = server.the_container().await;
    let connection = server.connections_when(1).await.remove(0);

    server.operator(&["kill", &id(&connection)]).output().await.assert_success();

    client.end().await.assert_told("an operator ended this connection");
    assert_eq!(server.the_container().await, container);
    server.ssh(&["test -e /kept"]).output().await.assert_success();
    docker(&["rm", "-fv", &container]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_has_not_logged_in_can_be_killed() {
    let server = TestServer::builder().image(TINY).start().await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let connection = server.connections_when(1).await.remove(0);
    assert_eq!((&connection["stage"], &connection["user"]), (&json!("connected"), &Value::Null));
    let table = server.operator(&["ps"]).output().await.stdout();
    assert!(table.contains("(not yet)"), "{table}");

    server.operator(&["kill", &id(&connection)]).output().await.assert_success();

    let mut rest = Vec::new();
    let end = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut rest);
    // An end or a reset: either way the server has closed it.
    drop(tokio::time::timeout(PATIENCE, end).await.expect("the connection is closed"));
    server.stop().await;
}

/// L7
#[tokio::test]
async fn a_drain_lets_sessions_end_and_whoever_waits_hears_of_the_end() {
    let mut server = TestServer::builder().image(TINY).section("shutdown: {grace: 10m}").start().await;
    let client = session(&server, "cat; exit 7").await;
    server.connections_when(1).await;

    let drain = server.operator(&["drain", "--wait"]).spawn();
    poll_until("the drain", PATIENCE, async || {
        (server.ps().await["server"]["draining"] == true).then_some(())
    })
    .await;
    // At once: a port that is free is another test's before long.
    poll_until("it listens no more", PATIENCE, async || {
        TcpStream::connect(server.address).await.is_err().then_some(())
    })
    .await;
    let again = server.operator(&["drain"]).output().await;
    again.assert_success().assert_stdout("draining: 1 connection is left\n");
    let impatient = server.operator(&["drain", "--wait", "--timeout", "1s"]).output().await;
    impatient.assert_code(1);
    assert!(impatient.stderr().contains("still draining: 1 connection is left"), "{}", impatient.report());
    client.end().await.assert_code(7);

    drain.end().await.assert_success().assert_stdout("draining: 1 connection is left\nended\n");
    server.assert_ends_within(Duration::from_secs(5)).await;
    assert!(!server.path("state/control.sock").exists());
    let late = server.operator(&["ps"]).output().await;
    assert_refused(&late, "no server runs with");
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_a_killed_servers_is_replaced() {
    let mut server = TestServer::builder().image(TINY).start().await;
    let socket = server.path("state/control.sock");
    let found = std::fs::symlink_metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);

    server.kill();

    assert_refused(&server.operator(&["ps"]).output().await, "the one that made it has ended");
    server.start_again().await;
    let asked = server.program(env!("CARGO_BIN_EXE_coracle")).arg("ps").arg("--socket").arg(&socket);
    assert_eq!(asked.output().await.assert_success().stdout(), "no connections\n");
    server.stop().await;
}

#[tokio::test]
async fn other_users_of_the_machine_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let socket = folder.path().join("c.sock");
    let at = format!("control: {{socket: {}}}", socket.display());
    let server = TestServer::builder().image(TINY).section(&at).start().await;
    // As somebody else: the permissions of the file keep them out,
    let ask = "import os, socket, sys\nos.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
               s.sendall(b'{\"version\":1,\"request\":\"ps\"}\\n')\nprint(s.makefile().readline())";
    let as_nobody = || server.program("python3").args(["-c", ask]).then([&socket]).output();
    let kept_out = as_nobody().await;
    assert!(kept_out.stderr().contains("Permission denied"), "{}", kept_out.report());

    // and where these were changed, the server does.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let refused = as_nobody().await;

    assert!(refused.stdout().contains("this socket is for root"), "{}", refused.report());
    poll_until("the refusal in the log", PATIENCE, async || {
        server.log.text().contains("refused at the control socket").then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn nonsense_at_the_socket_is_answered_and_harms_nobody() {
    let server = TestServer::builder().image(TINY).start().await;
    let long = "x".repeat(100_000);

    for (nonsense, answer) in [
        ("what?", "this is no request"),
        (r#"{"version":2,"anything":"new"}"#, "speaks version 1 of the control protocol, not 2"),
        (r#"{"version":1,"request":"dance"}"#, "this is no request"),
        (r#"{"version":1,"request":{"kill":{"connections":[""],"wait_seconds":1}}}"#, "this is no request"),
        (r#"{"version":1,"request":{"kill":{"connections":[""],"waitSeconds":1}}}"#, "no connection ``"),
        (r#"{"version":1,"request":{"kill":{"waitSeconds":1}}}"#, "no connection was named"),
        (&long, "a request has at most 65536 bytes"),
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(server.path("state/control.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // What is too long is not read to its end.
        drop(std::io::Write::write_all(&mut stream, format!("{nonsense}\n").as_bytes()));
        let mut line = String::new();
        drop(std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line));
        assert!(line.contains(answer), "{nonsense:.60}: {line:?}");
    }
    // Whoever asks nothing is in nobody's way.
    let silent: Vec<_> = (0..8)
        .map(|_| std::os::unix::net::UnixStream::connect(server.path("state/control.sock")).unwrap())
        .collect();
    assert_eq!(server.connections().await.len(), 0);
    drop(silent);
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_a_socket_says_so_and_serves() {
    let server = TestServer::builder().image(TINY).section("control: {socket: off}").start().await;

    let refused = server.operator(&["ps"]).output().await;

    assert_refused(&refused, "`control.socket` is off");
    assert!(!server.path("state/control.sock").exists());
    server.ssh(&["true"]).output().await.assert_success();
    server.stop().await;
}
