//! The first words.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use coracle_init::{Exit, FromInit, Token, VERSION};
use rustix::fs::{CWD, Mode, OFlags};

use crate::guest::{Guest, encoded, hello, terminals};
use crate::stage::{Stage, exec, on_terminal, program, refusal, within};

fn version(version_min: u16, version_max: u16) -> Vec<u8> {
    encoded(&FromInit::Hello { version_min, version_max, token: Token::default() })
}

/// A hello with another byte at one place.
fn spoilt(place: usize, byte: u8) -> Vec<u8> {
    let mut bytes = hello(Token::default());
    bytes[place] = byte;
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_hello_is_refused_at_once() {
    let stage = Stage::new();
    let good = hello(Token::default());
    for (what, bytes, reason) in [
        ("nothing", Vec::new(), "end of file"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: coracle\r\n\r\n".to_vec(), "zero"),
        ("random text", b"hello there, how are you".to_vec(), "zero"),
        ("another magic", spoilt(12, b'C'), "not ours"),
        ("a reserved byte", spoilt(2, 1), "zero"),
        ("4 GiB", [65, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255].to_vec(), "too long"),
        ("a long one", [65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 0].repeat(30), "no end"),
        ("too short a body", [&good[..11], &[2], &good[12..14]].concat(), "too short"),
        ("a version to come", version(VERSION + 1, VERSION + 7), "versions 2 to 8"),
        ("no version", version(0, 0), "versions 0 to 0"),
        ("versions the wrong way round", version(VERSION + 1, VERSION - 1), "versions"),
        ("a frame of later on", encoded(&FromInit::Started { process: 1, pid: 1 }), "begin with a hello"),
        (
            "an end without a beginning",
            encoded(&FromInit::Exited { process: 1, exit: Exit::Status(0) }),
            "begin",
        ),
        ("a frame of the server's", vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "no known kind"),
        ("two hellos", [good.clone(), good.clone()].concat(), "more than hello"),
        ("a frame behind it", [good, encoded(&FromInit::Started { process: 1, pid: 1 })].concat(), "more"),
    ] {
        let (meeting, socket) = stage.open();
        let begun = Instant::now();

        let guest = Guest::connect(&socket);
        guest.send(&bytes, &[]).unwrap();
        // Some of these could become one: nothing follows.
        guest.socket.shutdown(std::net::Shutdown::Write).unwrap();

        let refused = refusal(meeting).await;
        assert!(refused.contains(reason), "{what}: {refused}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{what}: took {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_at_any_byte_of_the_hello_is_refused() {
    let stage = Stage::new();
    let hello = hello(Token::default());
    for cut in 0..hello.len() {
        let (meeting, socket) = stage.open();
        let guest = Guest::connect(&socket);
        guest.send(&hello[..cut], &[]).unwrap();
        drop(guest);

        let refused = refusal(meeting).await;
        assert!(refused.contains("end of file") || refused.contains("reset"), "cut at {cut}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_may_come_in_pieces() {
    let stage = Stage::new();
    let (meeting, socket) = stage.open();
    let mut guest = Guest::connect(&socket);

    for (place, byte) in hello(Token::default()).iter().enumerate() {
        let folder = terminals();
        let descriptors = [folder.as_fd()];
        guest.send(&[*byte], if place == 0 { &descriptors } else { &[] }).unwrap();
    }

    assert!(guest.welcome().is_some());
    within(5, "an init", meeting).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_says_nothing_or_half_a_hello_is_given_up() {
    let stage = Stage::new();
    let (silent, socket) = stage.open();
    let (halting, other) = stage.open();
    let _silent_guest = Guest::connect(&socket);
    let halting_guest = Guest::connect(&other);
    halting_guest.send(&hello(Token::default())[..20], &[terminals().as_fd()]).unwrap();

    for meeting in [silent, halting] {
        assert!(refusal(meeting).await.contains("too long to say hello"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_a_folder_of_terminals_is_taken_with_a_hello() {
    let stage = Stage::new();
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    let open = |path: &std::path::Path, flags| rustix::fs::open(path, flags, Mode::empty()).unwrap();
    let (read_end, write_end) = rustix::pipe::pipe().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let terminal = open("/dev/pts/ptmx".as_ref(), OFlags::RDWR | OFlags::NOCTTY);
    let cases: Vec<(&str, Vec<OwnedFd>)> = vec![
        ("two folders of terminals", vec![terminals(), terminals()]),
        ("one hundred", (0..100).map(|_| terminals()).collect()),
        ("as many as the kernel takes", (0..253).map(|_| File::open("/dev/null").unwrap().into()).collect()),
        ("a terminal and a file", vec![terminals(), File::open("/etc/hostname").unwrap().into()]),
        ("a folder of files", vec![open(folder.path(), OFlags::PATH | OFlags::DIRECTORY)]),
        ("the folder of devices", vec![open("/dev".as_ref(), OFlags::PATH | OFlags::DIRECTORY)]),
        ("a pipe to read", vec![read_end]),
        ("a pipe to write", vec![write_end]),
        ("a FIFO that nobody reads", vec![open(&fifo, OFlags::RDWR)]),
        ("a file", vec![File::open("/etc/passwd").unwrap().into()]),
        ("a device without end", vec![File::open("/dev/zero").unwrap().into()]),
        ("a socket", vec![UnixStream::pair().unwrap().0.into()]),
        ("a connection", vec![TcpStream::connect(listener.local_addr().unwrap()).unwrap().into()]),
        ("a terminal itself", vec![terminal]),
    ];
    for (what, descriptors) in cases {
        let (meeting, socket) = stage.open();
        let mut guest = Guest::connect(&socket);
        let borrowed: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
        guest.send(&hello(Token::default()), &borrowed).unwrap();

        let refused = refusal(meeting).await;
        assert!(refused.contains("descriptor"), "{what}: {refused}");
        assert!(guest.welcome().is_none(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_that_was_welcomed_can_send_no_descriptors_any_more() {
    let stage = Stage::new();
    let (init, guest) = stage.greeted().await;

    let sent = guest.send(b"x", &[terminals().as_fd()]);

    assert_eq!(sent.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    drop(init);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_without_terminals_says_so_when_one_is_wanted() {
    let stage = Stage::new();
    let (meeting, socket) = stage.open();
    let mut guest = Guest::connect(&socket);
    guest.send(&hello(Token::default()), &[]).unwrap();
    guest.welcome().unwrap();
    let init = meeting.await.unwrap().unwrap();

    let refused = exec(&init, on_terminal()).await.unwrap_err();

    assert!(refused.to_string().contains("no /dev/pts"), "{refused}");
    let (begun, ()) = tokio::join!(exec(&init, program()), async {
        let asked = tokio::task::block_in_place(|| guest.asked());
        guest.started(asked.process);
    });
    begun.unwrap();
}
