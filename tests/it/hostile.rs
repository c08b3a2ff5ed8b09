//! What comes before a login and is no login (T1, T2, T4), and one connection that wants too much (T7).

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{MIB, Sshd, TINY, Target, TestServer, python, resident_bytes};

const ID: &[u8] = b"SSH-2.0-test\r\n";

/// Message numbers (RFC 4250 §4.1).
const KEXINIT: u8 = 20;
const USERAUTH_SUCCESS: u8 = 52;
const REQUEST_SUCCESS: u8 = 81;
const CHANNEL_OPEN: u8 = 90;
const CHANNEL_OPEN_CONFIRMATION: u8 = 91;

/// A packet without encryption (RFC 4253 §6).
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 16 - (payload.len() + 5) % 8;
    let length = u32::try_from(1 + payload.len() + padding).unwrap();
    [&length.to_be_bytes()[..], &[u8::try_from(padding).unwrap()], payload, &vec![0; padding]].concat()
}

fn name_list(names: &str) -> Vec<u8> {
    [&u32::try_from(names.len()).unwrap().to_be_bytes()[..], names.as_bytes()].concat()
}

fn kexinit(kex: &str) -> Vec<u8> {
    let ciphers = "aes256-gcm@openssh.com";
    let lists =
        [kex, "ssh-ed25519", ciphers, ciphers, "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""];
    let lists = lists.map(name_list).concat();
    packet(&[&[KEXINIT][..], &[7; 16], &lists, &[0; 5]].concat())
}

/// What is no SSH, and should be given up at once.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let after_id = |bytes: &[u8]| [ID, bytes].concat();
    let length = |length: u32| after_id(&[&length.to_be_bytes()[..], &[4], &[0; 64]].concat());
    vec![
        ("SSH 1.5", b"SSH-1.5-old\r\n".to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec()),
        ("TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0; 500], b"\n"].concat()),
        ("a long id", [b"SSH-2.0-", &[b'x'; 100_000][..]].concat()),
        ("no id", vec![b'x'; 100_000]),
        ("a packet of 4 GiB", length(u32::MAX)),
        ("a packet of 1 MiB", length(1 << 20)),
        ("a packet of 0 bytes", length(0)),
        ("a packet of 1 byte", length(1)),
        ("padding longer than its packet", after_id(&[&12_u32.to_be_bytes()[..], &[200], &[0; 64]].concat())),
        ("no common key exchange", after_id(&kexinit("diffie-hellman-group1-sha1"))),
        (
            "a channel before any keys",
            after_id(&packet(&[&[CHANNEL_OPEN][..], &name_list("session")].concat())),
        ),
        ("a login before any keys", after_id(&packet(&[USERAUTH_SUCCESS]))),
    ]
}

/// Sends `bytes`, waits for the server to close, and says how long that took from the connect.
async fn until_closed(address: SocketAddrV4, bytes: &[u8]) -> Duration {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may well close before it has all.
    drop(stream.write_all(bytes).await);
    wait_for_close(&mut stream).await;
    begun.elapsed()
}

async fn wait_for_close(stream: &mut TcpStream) {
    let mut sink = [0; 4096];
    let closing = async { while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(Duration::from_mins(1), closing).await.expect("the server closes");
}

on_both!(
    /// T1
    what_is_no_ssh_is_given_up_at_once,
    |target| {
        for (what, bytes) in garbage() {
            let took = until_closed(target.address, &bytes).await;

            assert!(took < Duration::from_secs(20), "{what}: closed after {took:?}");
        }
        target.ssh(&["true"]).output().await.assert_success();
    }
);

/// T1: sshd's client may send lines before its version, too; a server's client may not (RFC 4253 §4.2).
#[tokio::test]
async fn text_before_the_version_is_given_up_at_once() {
    let server = TestServer::builder().image(TINY).start().await;

    let took = until_closed(server.address, b"hello\r\nSSH-2.0-test\r\n").await;

    assert!(took < Duration::from_secs(20), "closed after {took:?}");
    server.stop().await;
}

/// T1
#[tokio::test]
async fn garbage_leaves_memory_as_it_was() {
    let server = TestServer::builder().image(TINY).start().await;
    let rounds = async |count| {
        for _ in 0..count {
            let all = garbage();
            let closing = all.iter().map(|(_, bytes)| until_closed(server.address, bytes));
            futures::future::join_all(closing).await;
        }
    };
    rounds(10).await;
    let before = resident_bytes(server.pid());

    rounds(40).await;

    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 8 * MIB, "the server grew by {grown} bytes");
    assert!(server.containers().await.is_empty());
    server.stop().await;
}

/// T2
#[tokio::test]
async fn who_does_not_log_in_is_cut_at_the_login_grace_time() {
    let server = TestServer::builder().image(TINY).ssh("loginGraceTime: 4s").start().await;
    let begin_of_kex = [ID, &kexinit("curve25519-sha256")].concat();
    let begun = Instant::now();
    let drip = async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let (mut read, mut write) = stream.split();
        let mut sink = vec![0; 4096];
        let dripping = async {
            for byte in b"SSH-2.0-".iter().chain([b'x'; 60].iter()) {
                if write.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let closing = async { while read.read(&mut sink).await.is_ok_and(|count| count > 0) {} };
        tokio::select! { () = dripping => {}, () = closing => {} }
        begun.elapsed()
    };

    let (silent, after_id, after_kexinit, dripped, after_keys) = tokio::join!(
        until_closed(server.address, b""),
        until_closed(server.address, ID),
        until_closed(server.address, &begin_of_kex),
        drip,
        python(&server, "before_login.py", &["after_keys"]).output(),
    );

    let after_keys = after_keys.assert_success().stdout();
    let after_keys = Duration::from_secs_f64(after_keys.split_whitespace().next().unwrap().parse().unwrap());
    for (what, took) in [
        ("silent", silent),
        ("after its version", after_id),
        ("after KEXINIT", after_kexinit),
        ("a byte a second", dripped),
        ("after NEWKEYS", after_keys),
    ] {
        assert!((3000..15_000).contains(&took.as_millis()), "{what}: closed after {took:?}");
    }
    server.stop().await;
}

/// T4
#[tokio::test]
async fn before_the_login_no_message_opens_anything() {
    let server = TestServer::builder().image(TINY).ssh("loginGraceTime: 4s").start().await;

    for case in ["messages_after_keys", "messages_after_service"] {
        let output = python(&server, "before_login.py", &[case]).output().await;

        let received = output.assert_success().stdout();
        let granted =
            [USERAUTH_SUCCESS, REQUEST_SUCCESS, CHANNEL_OPEN_CONFIRMATION].map(|kind| kind.to_string());
        let mut kinds = received.split_whitespace().skip(1);
        assert!(!kinds.any(|kind| granted.iter().any(|granted| granted == kind)), "{case}: {received}");
    }

    assert!(server.containers().await.is_empty());
    let log = server.log.text();
    assert!(!log.contains("logged in") && !log.contains("container given back"), "{log}");
    server.stop().await;
}

/// T7
#[tokio::test]
async fn three_thousand_sessions_on_one_connection_are_ten_and_others_do_not_notice() {
    let server =
        TestServer::builder().image(TINY).section("limits: {sessionsPerConnection: 10}").start().await;

    let many = python(&server, "many_sessions.py", &["3000"]).timeout(Duration::from_mins(1)).output();
    let other = server.ssh(&["echo fine"]).output();
    let (many, other) = tokio::join!(many, other);

    // 4 is RESOURCE_SHORTAGE.
    many.assert_success().assert_stdout("10 4:2990\nworks\n");
    other.assert_success().assert_stdout("fine\n");
    server.stop().await;
}

/// T10
#[tokio::test]
async fn an_audit_finds_nothing_but_that_curve25519_is_of_its_time() {
    let server = TestServer::builder().image(TINY).start().await;

    let output = python(&server, "audit.py", &[]).timeout(Duration::from_secs(90)).output().await;

    let found = output.assert_success().stdout();
    let others: Vec<_> =
        found.lines().filter(|line| !line.starts_with("warn kex curve25519-sha256")).collect();
    assert!(others.is_empty(), "{}", output.report());
    assert_eq!(found.lines().count(), 2, "{}", output.report());
    server.stop().await;
}

/// T10
#[tokio::test]
async fn a_host_key_of_each_kind_serves_the_clients_that_ask_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["ed25519", "ecdsa", "rsa"].map(|kind| {
        let path = folder.path().join(kind);
        let mut generate = std::process::Command::new(env!("CARGO_BIN_EXE_coracle"));
        assert!(
            generate
                .args(["hostkey", "generate", "--type", kind])
                .arg(&path)
                .output()
                .unwrap()
                .status
                .success()
        );
        path.display().to_string()
    });
    let server = TestServer::builder().image(TINY).ssh(&format!("hostKeys: {paths:?}")).start().await;

    for algorithm in ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"] {
        let only = format!("HostKeyAlgorithms={algorithm}");
        let output = server.ssh(&["true"]).option(&only).output().await;
        // The next key would be an impostor's.
        std::fs::remove_file(server.path("known_hosts")).unwrap();
        assert_eq!(output.code(), 0, "{algorithm}: {}", output.report());
    }
    server.ssh(&["true"]).option("HostKeyAlgorithms=ssh-rsa").output().await.assert_code(255);
    let found = python(&server, "audit.py", &[]).timeout(Duration::from_secs(90)).output().await;
    assert!(!found.assert_success().stdout().contains("rsa"), "{}", found.report());
    server.stop().await;
}
