//! To close some descriptors means to wait, for as long as whoever made them likes. None of the threads that serve
//! everybody may do that.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use coracle_init::Token;
use socket2::SockRef;

use crate::guest::{Guest, hello, terminals};
use crate::stage::{Meeting, Pulse, Stage, meeting, unseen, within};

/// A connection with data that nobody takes, whose last closing waits until somebody does.
struct Sticky {
    _listener: TcpListener,
    _reader: TcpStream,
}

fn sticky() -> (Sticky, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (reader, _) = listener.accept().unwrap();
    SockRef::from(&reader).set_recv_buffer_size(1024).unwrap();
    writer.set_nonblocking(true).unwrap();
    let chunk = vec![0; 64 << 10];
    while rustix::io::write(&writer, &chunk).is_ok() {}
    SockRef::from(&writer).set_linger(Some(Duration::from_secs(8))).unwrap();
    (Sticky { _listener: listener, _reader: reader }, writer.into())
}

/// Each of these leaves the server with the last of a descriptor that takes 8 s to close.
async fn assert_nothing_stalls(attack: impl FnOnce(&Path, OwnedFd)) {
    let stage = Stage::new();
    let (waiting, socket) = stage.open();
    let (_sticky, descriptor) = sticky();
    let pulse = Pulse::begin().await;

    unseen(|| attack(&socket, descriptor));

    end_of(waiting).await;
    // What is closed late is closed now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    pulse.assert_steady();
}

async fn end_of(waiting: Meeting) {
    drop(within(10, "the end of the meeting", waiting).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_descriptor_that_is_slow_to_close_stalls_nobody_instead_of_the_folder() {
    assert_nothing_stalls(|socket, descriptor| {
        Guest::connect(socket).send(&hello(Token::default()), &[descriptor.as_fd()]).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_descriptor_that_is_slow_to_close_stalls_nobody_with_half_a_hello() {
    assert_nothing_stalls(|socket, descriptor| {
        Guest::connect(socket).send(&hello(Token::default())[..9], &[descriptor.as_fd()]).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_descriptor_that_is_slow_to_close_stalls_nobody_with_what_is_no_hello() {
    assert_nothing_stalls(|socket, descriptor| {
        Guest::connect(socket).send(b"GET / HTTP/1.1\r\n\r\n", &[descriptor.as_fd()]).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_descriptor_that_is_slow_to_close_stalls_nobody_among_two_hundred() {
    assert_nothing_stalls(|socket, descriptor| {
        let folder = terminals();
        let mut all = vec![folder.as_fd(); 200];
        all.push(descriptor.as_fd());
        Guest::connect(socket).send(&hello(Token::default()), &all).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_descriptor_that_is_slow_to_close_stalls_nobody_behind_the_hello() {
    assert_nothing_stalls(|socket, descriptor| {
        let guest = Guest::connect(socket);
        // Sent as one, so that it is there when the hello is read.
        guest.send(&hello(Token::default())[..30], &[terminals().as_fd()]).unwrap();
        guest.send(&hello(Token::default())[30..], &[]).unwrap();
        drop(guest.send(b"x", &[descriptor.as_fd()]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_descriptor_that_is_slow_to_close_stalls_nobody_in_a_connection_that_is_never_accepted() {
    let stage = Stage::new();
    let room = stage.rooms.make(coracle::engine::init::Architecture::X86_64).unwrap();
    let socket = room.folder().join("socket");
    let (_sticky, descriptor) = sticky();
    let pulse = Pulse::begin().await;
    let first = Guest::connect(&socket);
    first.greet(Token::default());
    let second = Guest::connect(&socket);
    second.send(b"x", &[descriptor.as_fd()]).unwrap();
    drop((second, descriptor));

    let (waiting, _) = meeting(room);

    within(5, "an init", waiting).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    pulse.assert_steady();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_descriptor_that_is_slow_to_close_stalls_nobody_when_nobody_is_waited_for_any_more() {
    let stage = Stage::new();
    let (waiting, socket) = stage.open();
    let (_sticky, descriptor) = sticky();
    let pulse = Pulse::begin().await;
    let _guest = unseen(|| {
        let guest = Guest::connect(&socket);
        guest.send(&hello(Token::default())[..9], &[descriptor.as_fd()]).unwrap();
        drop(descriptor);
        guest
    });
    tokio::time::sleep(Duration::from_millis(300)).await;

    waiting.abort();

    drop(waiting.await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    pulse.assert_steady();
}
