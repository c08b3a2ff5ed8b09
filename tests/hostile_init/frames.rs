//! What an init says once it is welcome, where programs have descriptors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle::engine::EngineError;
use coracle_init::{Exit, FromInit, OutputStream, Token};
use futures::future::join_all;

use crate::guest::{Asked, encoded, hello, serve_well};
use crate::stage::{Stage, exec, output_of, program, within};

/// Programs that an init has not answered for are no more than this, so that what they are given is not, either.
const STARTS_UNANSWERED_MAX: usize = 8;

const STARTED: FromInit<'_> = FromInit::Started { process: 1, pid: 2 };
const REFUSED: FromInit<'_> = FromInit::Refused { process: 1, reason: b"no" };
const EXITED: FromInit<'_> = FromInit::Exited { process: 1, exit: Exit::Status(0) };
const OUTPUT: FromInit<'_> = FromInit::Output { process: 1, stream: OutputStream::Stdout, bytes: b"x" };

fn frames(frames: &[FromInit<'_>]) -> Vec<u8> {
    frames.iter().flat_map(encoded).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_that_talks_nonsense_is_one_no_more() {
    let stage = Stage::new();
    let header = |kind: u8, length: [u8; 4]| [vec![kind, 0, 0, 0, 0, 0, 0, 1], length.to_vec()].concat();
    let of = |process| FromInit::Started { process, pid: 2 };
    let with_reserved_bytes = {
        let mut bytes = frames(&[STARTED]);
        bytes[3] = 1;
        bytes
    };
    for (what, bytes) in [
        ("a program that was never asked for", frames(&[of(7)])),
        ("one that nobody could have asked for", frames(&[of(u32::MAX)])),
        ("a program that begins twice", frames(&[STARTED, STARTED])),
        ("an end before the beginning", frames(&[EXITED])),
        ("a refusal after the beginning", frames(&[STARTED, REFUSED])),
        ("two ends", frames(&[STARTED, EXITED, EXITED])),
        ("an end after a refusal", frames(&[REFUSED, EXITED])),
        ("a beginning after the end", frames(&[STARTED, EXITED, STARTED])),
        ("a second hello", hello(Token::default())),
        ("a body of 4 GiB", header(66, [255; 4])),
        ("a body of a little more than there can be", header(68, [0, 0, 0x80, 2])),
        ("an output that is too long", header(68, [0, 0, 0x80, 2])),
        ("reserved bytes", with_reserved_bytes),
        ("a kind that does not exist", header(99, [0; 4])),
        ("a kind of the server's", header(2, [0; 4])),
        ("a body that is too short", header(66, [0, 0, 0, 1]).into_iter().chain([0]).collect()),
        ("a body that is too long", header(66, [0, 0, 0, 5]).into_iter().chain([0; 5]).collect()),
        ("an end in no known way", header(70, [0, 0, 0, 2]).into_iter().chain([7, 7]).collect()),
        ("a reason of 2 KiB", encoded(&FromInit::Refused { process: 1, reason: &[b'x'; 2048] })),
        ("output, where there are pipes", frames(&[STARTED, OUTPUT])),
        (
            "the end of an output, where there are pipes",
            frames(&[STARTED, FromInit::OutputEnd { process: 1, stream: OutputStream::Stderr }]),
        ),
        ("credit, where there are pipes", frames(&[STARTED, FromInit::Credit { process: 1, bytes: 1 }])),
    ] {
        let (init, mut guest) = stage.greeted().await;
        let init = Arc::new(init);
        let begun = tokio::spawn({
            let init = Arc::clone(&init);
            async move { exec(&init, program()).await }
        });
        let Asked { descriptors, .. } = guest.asked();
        drop(descriptors);

        guest.say_bytes(&bytes).unwrap();

        let reason = within(5, what, init.over()).await;
        assert!(reason.contains("makes no sense"), "{what}: {reason}");
        if let Ok(mut process) = within(5, what, begun).await.unwrap() {
            within(5, what, output_of(&mut process)).await;
            drop(within(5, what, process.control.wait()).await);
        }
        let late = exec(&init, program()).await.unwrap_err();
        assert!(matches!(&late, EngineError::Gone { .. }), "{what}: {late}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_at_any_byte_ends_what_runs() {
    let stage = Stage::new();
    let bytes = frames(&[STARTED, EXITED]);
    for cut in 0..=bytes.len() {
        let (init, mut guest) = stage.greeted().await;
        let (begun, ()) = tokio::join!(exec(&init, program()), async {
            let asked = tokio::task::block_in_place(|| guest.asked());
            guest.say_bytes(&bytes[..cut]).unwrap();
            drop((asked, guest));
        });

        let reason = within(5, "the end", init.over()).await;
        assert!(reason.contains("ended"), "{reason}");
        match begun {
            Ok(mut process) => {
                within(5, "the output's end", output_of(&mut process)).await;
                let exit = within(5, "the exit", process.control.wait()).await;
                assert_eq!(exit.is_ok(), cut == bytes.len(), "cut at {cut}: {exit:?}");
            }
            Err(error) => assert!(matches!(error, EngineError::Gone { .. }), "cut at {cut}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_either_way_ends_it() {
    let stage = Stage::new();
    let (deaf, mut guest) = stage.greeted().await;
    guest.pipe = None;
    assert!(within(5, "the end", deaf.over()).await.contains("has ended"));

    let (mute, guest) = stage.greeted().await;
    guest.socket.shutdown(std::net::Shutdown::Both).unwrap();
    let refused = within(5, "a refusal", exec(&mute, program())).await.unwrap_err();
    assert!(matches!(refused, EngineError::Gone { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_read_holds_few_descriptors_and_no_other_up() {
    let stage = Stage::new();
    let (init, mut guest) = stage.greeted().await;
    let init = Arc::new(init);
    let (other, other_guest) = stage.greeted().await;
    serve_well(other_guest);
    let waiting: Vec<_> = (0..200)
        .map(|_| {
            let init = Arc::clone(&init);
            tokio::spawn(async move { exec(&init, program()).await })
        })
        .collect();

    for _ in 0..30 {
        let begun = Instant::now();
        let mut process = within(5, "a program elsewhere", exec(&other, program())).await.unwrap();
        assert_eq!(within(5, "its output", output_of(&mut process)).await, b"done");
        within(5, "its exit", process.control.wait()).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4), "it took {:?}", begun.elapsed());
    }

    let asked = guest.count_asked();
    assert!(
        asked > 0 && asked <= STARTS_UNANSWERED_MAX,
        "{asked} were asked for, with three descriptors each"
    );
    drop(guest);
    for refused in within(10, "all others", join_all(waiting)).await {
        assert!(matches!(refused.unwrap(), Err(EngineError::Gone { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_nobody_waits_for_any_more_count_until_they_are_answered_for() {
    let stage = Stage::new();
    let (init, mut guest) = stage.greeted().await;
    for _ in 0..STARTS_UNANSWERED_MAX {
        let begun = tokio::time::timeout(Duration::from_millis(300), exec(&init, program())).await;
        assert!(begun.is_err(), "nobody answered");
    }
    let one_more = tokio::time::timeout(Duration::from_millis(300), exec(&init, program())).await;
    assert!(one_more.is_err() && guest.count_asked() == STARTS_UNANSWERED_MAX);

    for process in 1..=u32::try_from(STARTS_UNANSWERED_MAX).unwrap() {
        guest.started(process);
        guest.exited(process);
    }

    let begun = tokio::spawn(async move { exec(&init, program()).await });
    let asked = guest.asked();
    guest.started(asked.process);
    within(5, "a program", begun).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_ends_and_beginnings_is_what_was_asked_for_and_no_more() {
    let stage = Stage::new();
    let (init, guest) = stage.greeted().await;
    serve_well(guest);

    for _ in 0..300 {
        let mut process = within(5, "a program", exec(&init, program())).await.unwrap();
        assert_eq!(within(5, "its output", output_of(&mut process)).await, b"done");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reason_of_any_bytes_is_told() {
    let stage = Stage::new();
    let (init, mut guest) = stage.greeted().await;

    let (refused, ()) = tokio::join!(exec(&init, program()), async {
        let asked = tokio::task::block_in_place(|| guest.asked());
        guest.say(&FromInit::Refused { process: asked.process, reason: &[0xff, b'n', b'o', 0x1b, 0] });
    });

    let reason = refused.unwrap_err().to_string();
    assert!(reason.contains("no"), "{reason}");
}
