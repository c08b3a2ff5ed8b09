//! The same in frames. Time is not real here.

use std::time::Duration;

use coracle::engine::init::Init;
use coracle::engine::{Address, DialSpec, EngineError, ForwardError, ListenSpec, Process};
use coracle_init::{FromInit, OutputStream, ToInit, WINDOW_BYTES};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use crate::framed::{Far, greeted};
use crate::stage::output_of;

fn somewhere() -> DialSpec {
    let to = Address::Unix { path: "/somewhere".to_owned() };
    DialSpec { to, spares_neighbours: true }
}

async fn connected(bytes_held: usize) -> (Init, Far, Process) {
    let (init, mut far) = greeted(bytes_held).await;
    let dial = somewhere();
    let (process, ()) = tokio::join!(init.dial(&dial), async {
        let process = far
            .until(|frame| if let ToInit::Dial { process, .. } = frame { Some(*process) } else { None })
            .await;
        far.say(&FromInit::Started { process, pid: 2 }).await;
    });
    (init, far, process.unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_says_is_within_its_window_and_on_one_output() {
    let chunk = vec![0; 32 << 10];
    let say = |stream, bytes| FromInit::Output { process: 1, stream, bytes };
    let window = usize::try_from(WINDOW_BYTES).unwrap();
    let full = vec![say(OutputStream::Stdout, &chunk[..]); window / chunk.len() + 1];
    for frames in [full, vec![say(OutputStream::Stderr, b"x")]] {
        let (init, mut far, mut process) = connected(1 << 20).await;
        for frame in &frames {
            far.say(frame).await;
        }

        let reason = timeout(Duration::from_secs(5), init.over()).await.unwrap();
        assert!(reason.contains("makes no sense"), "{reason}");
        timeout(Duration::from_secs(5), output_of(&mut process)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_never_answers_is_given_up() {
    let (init, _far) = greeted(1 << 20).await;
    for seconds in [35, 70] {
        let begun = Instant::now();
        let late = match seconds {
            35 => init.dial(&somewhere()).await.map(drop).unwrap_err(),
            _ => init.listen(&ListenSpec::Agent).await.map(drop).unwrap_err(),
        };
        assert!(matches!(late, ForwardError::Engine(EngineError::TimedOut { .. })), "{late}");
        assert_eq!(begun.elapsed().as_secs(), 35);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_has_any_more_is_let_go_of_also_by_one_that_does_not_read() {
    let (_init, mut far, mut process) = connected(512).await;
    let (long, signal) = (vec![0; 1 << 20], coracle::engine::Signal::Hup);
    let fed = timeout(Duration::from_secs(1), process.stdin.write_all(&long)).await;
    assert!(fed.is_err(), "it does not read");
    for _ in 0..100 {
        drop(timeout(Duration::from_secs(1), process.control.signal(signal)).await);
    }

    drop(process);

    let is_let_go_of = |frame: &ToInit<'_>| matches!(frame, ToInit::Release { process: 1 }).then_some(());
    timeout(Duration::from_secs(5), far.until(is_let_go_of)).await.expect("to be let go of");
}
