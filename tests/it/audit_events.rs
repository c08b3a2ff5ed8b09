//! What the audit stream says of logins, requests, forwards and files.

use serde_json::{Value, json};

use crate::audit::{is, outline, records, until};
use crate::certificates::{certify, ssh_with};
use crate::harness::{
    GUEST, MIB, TestServer, echo, exchange_at, free_port, inside, keygen, noise, password_hash,
};

/// Where all of these write to.
const FILE: &str = "audit: {file: audit.jsonl}";

/// Those of one event, in their order.
fn of<'a>(records: &'a [Value], event: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| is(record, event)).collect()
}

fn lines(records: &[Value], event: &str, fields: &[&str]) -> Vec<String> {
    let some: Vec<_> = of(records, event).into_iter().cloned().collect();
    outline(&some, fields)
}

#[tokio::test]
async fn logins_are_told_right_or_wrong_and_no_secret_is() {
    let hash = password_hash("open sesame");
    let users = format!("  users:\n    alice: {{passwordHash: '{hash}'}}");
    let server = TestServer::builder().auth(&users).container("user: '1234'").section(FILE).start().await;
    // As far as OpenSSH's client lets it through.
    let hostile = "bad\u{202e}name";

    server.ssh_with_password("alice", "a wrong guess", &["true"]).output().await.assert_code(255);
    server.ssh_with_password(hostile, "a wrong guess", &["true"]).output().await.assert_code(255);
    let right = server.ssh_with_password("alice", "open sesame", &["echo $FOO"]);
    right.option("SetEnv=FOO=hidden BAR=hidden").output().await.assert_success().assert_stdout("hidden\n");

    let all = until(&server, "disconnected", 3).await;
    let proofs = lines(&all, "proven", &["name", "method", "outcome"]);
    assert!(proofs.contains(&"alice password refused".to_owned()), "{proofs:?}");
    assert!(proofs.contains(&"alice password accepted".to_owned()), "{proofs:?}");
    assert!(proofs.iter().any(|line| line == "bad\\u{202e}name password refused"));
    let refused = of(&all, "proven").into_iter().find(|record| record["method"] == "publicKey");
    assert!(refused.is_none_or(|record| record["key"].as_str().unwrap().starts_with("SHA256:")));
    assert_eq!(lines(&all, "requestGranted", &["request", "detail"]), ["env FOO"]);
    assert_eq!(lines(&all, "requestRefused", &["request", "detail"]), ["env BAR"]);
    assert_eq!(lines(&all, "loggedIn", &["user", "methods"]), ["alice password"]);
    let text = std::fs::read_to_string(server.path("audit.jsonl")).unwrap();
    assert!(!["sesame", "guess", "hidden"].iter().any(|secret| text.contains(secret)), "{text}");
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    server.stop().await;
}

#[tokio::test]
async fn keys_that_are_refused_are_told_and_so_is_who_vouches_for_one() {
    let auth = "  certificates: {trustedCAs: [FOLDER/ca.pub]}";
    let server =
        TestServer::builder().no_authorized_keys().auth(auth).container("user: '1234'").section(FILE);
    let server = server.start().await;
    for name in ["ca", "other-ca"] {
        keygen(&server.path(name));
    }
    let good = certify(&server, "good", "ca", &["-n", "alice", "-z", "17"]);
    let bad = certify(&server, "bad", "other-ca", &["-n", "alice"]);

    ssh_with(&server, "alice", &bad, &["true"]).output().await.assert_code(255);
    ssh_with(&server, "alice", &good, &["true"]).output().await.assert_success();

    let all = until(&server, "disconnected", 2).await;
    let vouched = of(&all, "proven").into_iter().find(|record| record["outcome"] == "accepted").unwrap();
    assert_eq!((&vouched["method"], &vouched["certificate"]["id"]), (&json!("certificate"), &json!("good")));
    assert_eq!(vouched["certificate"]["serial"], 17);
    assert!(vouched["certificate"]["authority"].as_str().unwrap().starts_with("SHA256:"), "{vouched}");
    let refused = of(&all, "proven").into_iter().find(|record| record.get("key").is_some()).unwrap();
    assert_eq!(refused["outcome"], "refused", "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn containers_refused_requests_signals_and_terminals_are_told() {
    let server = TestServer::builder().section(FILE).start().await;
    let master = server.master(&[]).await;

    let refused = master.ssh(&["nosuch"]).arg("-s").output().await;
    master.ssh(&["echo $TERM"]).arg("-tt").output().await.assert_success();
    master.close().await;

    assert_ne!(refused.code(), 0);
    let all = until(&server, "containerReturned", 1).await;
    assert_eq!(lines(&all, "requestGranted", &["request", "detail"]), ["pty-req xterm-256color"]);
    assert_eq!(lines(&all, "requestRefused", &["request", "detail"]), ["subsystem nosuch"]);
    let (ready, returned) = (of(&all, "containerReady")[0], of(&all, "containerReturned")[0]);
    assert!(ready["container"].as_str().unwrap().len() == 64 && ready["seconds"].is_f64(), "{ready}");
    assert_eq!((&ready["image"], &ready["container"]), (&json!(GUEST), &returned["container"]));
    assert_eq!((&returned["stays"], &returned["user"]), (&json!(false), &json!("root")), "{returned}");
    server.stop().await;
}

#[tokio::test]
async fn the_container_of_one_session_is_told_as_its_own() {
    let server = TestServer::builder().docker_config("mode: session").section(FILE).start().await;

    server.ssh(&["true"]).output().await.assert_success();

    let all = until(&server, "containerReturned", 1).await;
    assert_eq!(lines(&all, "containerReady", &["session"]), ["1"]);
    assert_eq!(of(&all, "sessionEnded")[0]["container"], of(&all, "containerReady")[0]["container"]);
    server.stop().await;
}

#[tokio::test]
async fn forwards_are_told_allowed_and_refused_from_the_beginning_to_the_end() {
    let policy = "policy: {forwarding: {local: enable, remote: enable}}";
    let server = TestServer::builder().section(FILE).section(policy).start().await;
    let outside = echo().await;
    let master = server.master(&[]).await;
    let (listening, port) = master.listen_inside("127.0.0.1:0", "echo").await;
    let (here, back) = (free_port(), free_port());

    master.forward("-L", &format!("{here}:127.0.0.1:{port}")).await.assert_success();
    assert_eq!(exchange_at(here, b"words").await, b"words");
    let refused = master.ssh(&[]).arg("-W").arg("169.254.169.254:80").output().await;
    assert_ne!(refused.code(), 0);
    let remote = format!("{back}:127.0.0.1:{outside}");
    master.forward("-R", &remote).await.assert_success();
    let call = master.ssh(&[&inside(&["dial", &format!("127.0.0.1:{back}")])]).stdin("words").output().await;
    call.assert_success().assert_stdout("words");
    master.cancel("-R", &remote).await.assert_success();
    drop(listening);
    master.close().await;

    let all = until(&server, "disconnected", 1).await;
    let told: Vec<_> = all.iter().filter(|record| record.get("kind").is_some()).cloned().collect();
    let told = outline(&told, &["event", "kind", "target", "reason", "received", "sent", "found"]);
    let expected = [
        format!("forwarded direct-tcpip 127.0.0.1:{port}"),
        format!("forwardEnded direct-tcpip 127.0.0.1:{port} 5 5"),
        "forwardRefused direct-tcpip 169.254.169.254:80 ".to_owned(),
        format!("forwarded tcpip-forward localhost:{back}"),
        "callerTaken forwarded-tcpip 127.0.0.1:".to_owned(),
        "forwardEnded forwarded-tcpip 127.0.0.1:".to_owned(),
        format!("forwardCancelled cancel-tcpip-forward localhost:{back} true"),
    ];
    for line in expected {
        assert!(told.iter().any(|one| one.starts_with(&line)), "no `{line}`: {told:#?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn files_that_are_copied_are_told_with_what_became_of_them() {
    let server = TestServer::builder().section(FILE).start().await;
    let (source, back) = (server.path("source"), server.path("back"));
    std::fs::write(&source, noise(MIB)).unwrap();
    let master = server.master(&[]).await;
    let (from, to) = (source.display().to_string(), back.display().to_string());
    let batch = format!(
        "mkdir /tmp/d\nput {from} /tmp/d/one\nchmod 600 /tmp/d/one\nrename /tmp/d/one /tmp/d/two\n\
         get /tmp/d/two {to}\n-get /tmp/d/three {to}\nln -s /tmp/d/two /tmp/d/link\nrm /tmp/d/link\n\
         rm /tmp/d/two\nrmdir /tmp/d\n"
    );

    server.sftp().option(&master.control_path()).stdin(batch).output().await.assert_success();
    let scp = server.scp(&[&from, &server.remote("/tmp/copied")]).option(&master.control_path());
    scp.arg("-O").output().await.assert_success();
    let rsync = ["-a", &server.remote("/tmp/copied"), &to];
    server.rsync_over(&master, &rsync).output().await.assert_success();
    master.close().await;

    let all = until(&server, "disconnected", 1).await;
    let deeds = lines(&all, "file", &["action", "path", "to", "change", "outcome", "read", "written"]);
    let expected = [
        "mkdir /tmp/d ok",
        "open-write /tmp/d/one ok",
        "close /tmp/d/one ok 0 1048576",
        "setstat /tmp/d/one mode=600 ok",
        "rename /tmp/d/one /tmp/d/two ok",
        "open-read /tmp/d/two ok",
        "close /tmp/d/two ok 1048576 0",
        "symlink /tmp/d/link /tmp/d/two ok",
        "remove /tmp/d/link ok",
        "remove /tmp/d/two ok",
        "rmdir /tmp/d ok",
    ];
    let mut rest = deeds.iter();
    for deed in expected {
        assert!(rest.any(|line| line == deed), "no `{deed}` in its place: {deeds:#?}");
    }
    let copies = lines(&all, "transfer", &["program", "direction", "path"]);
    assert_eq!(copies, ["scp upload /tmp/copied", "rsync download /tmp/copied"]);
    assert!(of(&all, "filesUnseen").is_empty());
    server.stop().await;
}

/// Whatever is forced in place of the subsystem.
#[tokio::test]
async fn what_is_no_sftp_is_said_to_be_unseen_and_works_as_ever() {
    let config = "subsystems: {sftp: /bin/cat}";
    let server = TestServer::builder().docker_config(config).section(FILE).start().await;

    let output = server.ssh(&["sftp"]).arg("-s").stdin("no protocol at all\n").output().await;

    output.assert_success().assert_stdout("no protocol at all\n");
    let all = until(&server, "disconnected", 1).await;
    assert_eq!(lines(&all, "filesUnseen", &["session", "reason"]), ["1 no-sftp"]);
    server.stop().await;
}

#[tokio::test]
async fn commands_are_written_as_they_are_and_cut_where_they_are_too_long() {
    let server = TestServer::builder().section(FILE).start().await;
    let hostile = "\u{1b}[2J\u{9b}31m\u{202e}";
    let command = format!("true '{}{hostile}'", "ö\n".repeat(10_000));
    let short = format!("true '{hostile}'");

    server.ssh(&[&command]).output().await.assert_success();
    server.ssh(&[&short]).output().await.assert_success();

    until(&server, "disconnected", 2).await;
    let all = records(&server.path("audit.jsonl"));
    let started = of(&all, "sessionStarted")[0];
    assert_eq!(started["cut"], json!(["detail"]));
    assert!(started["detail"].as_str().unwrap().starts_with("true 'ö\nö\n"), "{started}");
    assert!(started["detail"].as_str().unwrap().len() < 9000);
    assert_eq!(of(&all, "sessionStarted")[1]["detail"], short);
    let text = std::fs::read_to_string(server.path("audit.jsonl")).unwrap();
    assert!(!text.contains(|letter: char| letter != '\n' && letter.is_control() || letter == '\u{202e}'));
    server.stop().await;
}
