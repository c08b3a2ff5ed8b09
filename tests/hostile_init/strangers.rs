//! Rooms of containers that outlive the server: when it comes back, anybody in there can be first at the socket.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use coracle::engine::init::Architecture;
use coracle_init::{FromInit, Token};

use crate::guest::{Guest, encoded, hello, terminals};
use crate::stage::{Meeting, Stage, meeting, within};

/// A room whose init was met before: where it is met again, and what it has to show.
async fn room_that_stays(stage: &Stage) -> (Meeting, PathBuf, Token) {
    let mut room = stage.rooms.make(Architecture::X86_64).unwrap();
    room.keep().unwrap();
    let name = room.name().to_owned();
    let (before, socket) = meeting(room);
    let mut guest = Guest::connect(&socket);
    guest.greet(Token::default());
    let token = guest.welcome().unwrap();
    drop(before.await.unwrap().unwrap());
    let (meeting, socket) = meeting(stage.rooms.find(&name).unwrap());
    (meeting, socket, token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_turned_away_and_the_true_one_gets_in() {
    let stage = Stage::new();
    let (meeting, socket, token) = room_that_stays(&stage).await;
    let mut nearly = token;
    nearly[31] ^= 1;
    for bytes in [
        hello(Token::default()),
        hello([0xff; 32]),
        hello(nearly),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        encoded(&FromInit::Hello { version_min: 7, version_max: 9, token }),
        [hello(token), hello(token)].concat(),
    ] {
        let mut stranger = Guest::connect(&socket);
        stranger.send(&bytes, &[terminals().as_fd()]).unwrap();
        assert!(stranger.welcome().is_none(), "a stranger was welcomed: {bytes:?}");
    }

    let mut guest = Guest::connect(&socket);
    guest.greet(token);

    assert_eq!(guest.welcome(), Some(token));
    within(5, "the init", meeting).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stranger_does_not_keep_the_true_one_waiting() {
    let stage = Stage::new();
    let (meeting, socket, token) = room_that_stays(&stage).await;
    let _silent = Guest::connect(&socket);
    let begun = Instant::now();

    let mut guest = Guest::connect(&socket);
    guest.greet(token);

    assert_eq!(guest.welcome(), Some(token));
    assert!(begun.elapsed() < Duration::from_secs(4), "it took {:?}", begun.elapsed());
    within(5, "the init", meeting).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_silent_strangers_is_cut_short() {
    let stage = Stage::new();
    let (meeting, socket, token) = room_that_stays(&stage).await;
    let _silent: Vec<_> = (0..200).map(|_| Guest::connect(&socket)).collect();
    let begun = Instant::now();

    let mut guest = Guest::connect(&socket);
    guest.greet(token);

    assert_eq!(guest.welcome(), Some(token));
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    within(5, "the init", meeting).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_later_finds_nobody_there() {
    let stage = Stage::new();
    let (meeting, socket, token) = room_that_stays(&stage).await;
    let mut guest = Guest::connect(&socket);
    guest.greet(token);
    guest.welcome().unwrap();
    let _init = within(5, "the init", meeting).await.unwrap().unwrap();

    let mut late = std::os::unix::net::UnixStream::connect(&socket);
    for _ in 0..500 {
        if late.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        late = std::os::unix::net::UnixStream::connect(&socket);
    }
    panic!("the socket still takes connections");
}
