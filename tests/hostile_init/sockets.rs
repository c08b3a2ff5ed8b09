//! What an init says of sockets: of what was never dialled, of listeners that are none, and too often.

use std::sync::Arc;
use std::time::Duration;

use coracle::engine::init::Init;
use coracle::engine::{Address, Caller, DialSpec, EngineError, ForwardError, ListenSpec, Listener, Process};
use coracle::secret::Secret;
use coracle_init::{Exit, Failure, FromInit, ToInit};
use futures::future::join_all;
use tokio::task::block_in_place;

use crate::guest::{Guest, encoded};
use crate::stage::{Pulse, Stage, exec, program, unseen, within};

/// The most that may lie in one socket: each may have descriptors with it.
const UNREAD_MAX: usize = 16;

/// Connections that are not answered for.
const DIALS_PENDING_MAX: usize = 256;

const KNOCK: FromInit<'_> = FromInit::Knock { listener: 1 };
const LISTENS: FromInit<'_> = FromInit::Listening { listener: 1, port: 8080, path: b"" };
const STARTED: FromInit<'_> = FromInit::Started { process: 1, pid: 2 };
const FAILED: FromInit<'_> = FromInit::Failed { process: 1, failure: Failure::Other, reason: b"no" };
const EXITED: FromInit<'_> = FromInit::Exited { process: 1, exit: Exit::Status(0) };

fn somewhere() -> DialSpec {
    let to = Address::Tcp { host: "somewhere".to_owned(), port: 80 };
    DialSpec { to, spares_neighbours: true }
}

fn anywhere() -> ListenSpec {
    ListenSpec::At(Address::Tcp { host: "localhost".to_owned(), port: 0 })
}

fn display() -> ListenSpec {
    ListenSpec::Display { protocol: "MIT-MAGIC-COOKIE-1".to_owned(), cookie: Secret::new(vec![1; 16]) }
}

fn accepted(process: u32, host: &[u8]) -> FromInit<'_> {
    FromInit::Accepted { process, host, port: 1 }
}

fn listening(port: u16, path: &[u8]) -> FromInit<'_> {
    FromInit::Listening { listener: 1, port, path }
}

/// What is killed, or listens no more.
fn ended(frame: &ToInit<'_>) -> Option<(bool, u32)> {
    match frame {
        ToInit::Signal { process, number: 9 } => Some((true, *process)),
        ToInit::Unlisten { listener } => Some((false, *listener)),
        _ => None,
    }
}

fn dialled(frame: &ToInit<'_>) -> Option<u32> {
    if let ToInit::Dial { process, .. } = frame { Some(*process) } else { None }
}

fn asked_to_listen(frame: &ToInit<'_>) -> Option<u32> {
    if let ToInit::Listen { listener, .. } = frame { Some(*listener) } else { None }
}

fn asked_to_accept(frame: &ToInit<'_>) -> Option<u32> {
    if let ToInit::Accept { process, .. } = frame { Some(*process) } else { None }
}

async fn connected(init: &Init, guest: &mut Guest) -> Process {
    let dial = somewhere();
    let (process, ()) = tokio::join!(init.dial(&dial), async {
        let process = block_in_place(|| guest.until(dialled));
        guest.started(process);
    });
    process.unwrap()
}

async fn listener(init: &Init, guest: &mut Guest) -> Box<dyn Listener> {
    let anywhere = anywhere();
    let (listener, ()) = tokio::join!(init.listen(&anywhere), async {
        let listener = block_in_place(|| guest.until(asked_to_listen));
        guest.say(&FromInit::Listening { listener, port: 8080, path: b"" });
    });
    listener.unwrap()
}

/// Takes in somebody who waits, from wherever the guest says.
async fn take_in(
    mut listener: Box<dyn Listener>,
    guest: &mut Guest,
    host: &[u8],
) -> Result<Caller, ForwardError> {
    let accepting = tokio::spawn(async move { listener.accept().await });
    let process = block_in_place(|| guest.until(asked_to_accept));
    guest.say(&accepted(process, host));
    within(5, "a caller", accepting).await.unwrap()
}

async fn assert_nonsense(what: &str, init: &Init) {
    let reason = within(5, what, init.over()).await;
    assert!(reason.contains("makes no sense"), "{what}: {reason}");
    let late = init.dial(&somewhere()).await.unwrap_err();
    assert!(matches!(late, ForwardError::Engine(EngineError::Gone { .. })), "{what}: {late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_of_a_call_ends_it() {
    let stage = Stage::new();
    for (what, frames) in [
        ("a call that was taken in", vec![accepted(1, b"")]),
        ("a call that is refused as a program is", vec![FromInit::Refused { process: 1, reason: b"no" }]),
        ("a call that listens", vec![LISTENS]),
        ("a call that knocks", vec![KNOCK]),
        ("a call that ends before it begins", vec![EXITED]),
        ("a call that begins twice", vec![STARTED, STARTED]),
        ("a call that fails after it has begun", vec![STARTED, FAILED]),
        ("a call that begins after it has failed", vec![FAILED, STARTED]),
        ("a call that fails twice", vec![FAILED, FAILED]),
        ("somebody taken in who was not asked for", vec![accepted(2, b"")]),
        (
            "the failure of what was not asked for",
            vec![FromInit::Failed { process: 7, failure: Failure::Other, reason: b"" }],
        ),
    ] {
        let (init, mut guest) = stage.greeted().await;
        let init = Arc::new(init);
        let dialling = tokio::spawn({
            let init = Arc::clone(&init);
            async move { init.dial(&somewhere()).await }
        });
        block_in_place(|| guest.until(dialled));

        guest.say_bytes(&frames.iter().flat_map(encoded).collect::<Vec<_>>()).unwrap();

        assert_nonsense(what, &init).await;
        drop(within(5, what, dialling).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_of_a_listener_ends_it() {
    let stage = Stage::new();
    let control: &[u8] = b"/tmp/\x1b[2J\r\n\x07";
    for (what, spec, frames) in [
        ("two listeners of one", anywhere(), vec![LISTENS, LISTENS]),
        ("a knock before it listens", anywhere(), vec![KNOCK]),
        ("two knocks", anywhere(), vec![LISTENS, KNOCK, KNOCK]),
        ("a listener that begins as a program", anywhere(), vec![STARTED]),
        ("a listener that fails after it has begun", anywhere(), vec![LISTENS, FAILED]),
        ("a knock where nobody was ever asked to listen", anywhere(), vec![FromInit::Knock { listener: 2 }]),
        ("a listener with no number", anywhere(), vec![FromInit::Knock { listener: 0 }]),
        ("no port", anywhere(), vec![listening(0, b"")]),
        ("an agent at a port", ListenSpec::Agent, vec![listening(1, b"/tmp/agent")]),
        ("an agent nowhere", ListenSpec::Agent, vec![listening(0, b"")]),
        ("an agent somewhere", ListenSpec::Agent, vec![listening(0, b"agent")]),
        ("a path of control characters", ListenSpec::Agent, vec![listening(0, control)]),
        ("a path that is no text", ListenSpec::Agent, vec![listening(0, b"/\xff")]),
        ("a display of another kind", display(), vec![listening(80, b"/tmp/cookie")]),
        ("a display's file of control characters", display(), vec![listening(6010, control)]),
    ] {
        let (init, mut guest) = stage.greeted().await;
        let init = Arc::new(init);
        let beginning = tokio::spawn({
            let init = Arc::clone(&init);
            async move { init.listen(&spec).await }
        });
        block_in_place(|| guest.until(asked_to_listen));

        guest.say_bytes(&frames.iter().flat_map(encoded).collect::<Vec<_>>()).unwrap();

        assert_nonsense(what, &init).await;
        if let Ok(mut listener) = within(5, what, beginning).await.unwrap() {
            assert!(within(5, what, listener.accept()).await.is_err(), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_from_nowhere_ends_it() {
    for host in [&b"nowhere"[..], b"127.0.0.1\n", b"\xff", b"[::1]"] {
        let (init, mut guest) = Stage::new().greeted().await;
        let listener = listener(&init, &mut guest).await;
        guest.say(&KNOCK);

        let caller = take_in(listener, &mut guest, host).await;

        assert!(matches!(caller, Err(ForwardError::Engine(_))), "{caller:?}");
        assert_nonsense("a caller from nowhere", &init).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crosses_on_its_way_is_nobodys_fault() {
    let (init, mut guest) = Stage::new().greeted().await;
    let first = listener(&init, &mut guest).await;
    drop(first);
    assert_eq!(block_in_place(|| guest.until(ended)), (false, 1));
    guest.say(&KNOCK);

    // Whoever wanted to call has gone, and so has whoever wanted to listen, before there was an answer.
    let (dial, agent) = (somewhere(), ListenSpec::Agent);
    let late = Duration::from_secs(1);
    assert!(tokio::time::timeout(late, init.dial(&dial)).await.is_err());
    let call = block_in_place(|| guest.until(dialled));
    assert_eq!(block_in_place(|| guest.until(ended)), (true, call));
    guest.started(call);
    assert_eq!(block_in_place(|| guest.until(ended)), (true, call));
    guest.exited(call);
    assert!(tokio::time::timeout(late, init.listen(&agent)).await.is_err());
    let unwanted = block_in_place(|| guest.until(asked_to_listen));
    guest.say(&FromInit::Listening { listener: unwanted, port: 0, path: b"/tmp/agent" });
    assert_eq!(block_in_place(|| guest.until(ended)), (false, unwanted));

    // And whoever was about to be taken in.
    let mut last = listener(&init, &mut guest).await;
    guest.say(&FromInit::Knock { listener: unwanted + 1 });
    assert!(tokio::time::timeout(late, last.accept()).await.is_err());
    let caller = block_in_place(|| guest.until(asked_to_accept));
    drop(last);
    assert_eq!(block_in_place(|| guest.until(ended)), (false, unwanted + 1));
    guest.say(&accepted(caller, b"127.0.0.1"));
    assert_eq!(block_in_place(|| guest.until(ended)), (true, caller));
    guest.exited(caller);

    connected(&init, &mut guest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_taken_in_also_when_nobody_waits_for_them_for_a_while() {
    let (init, mut guest) = Stage::new().greeted().await;
    let mut listener = listener(&init, &mut guest).await;
    guest.say(&KNOCK);
    let late = Duration::from_secs(1);
    assert!(tokio::time::timeout(late, listener.accept()).await.is_err());
    let gone = block_in_place(|| guest.until(asked_to_accept));

    // The first has gone meanwhile, the second stays.
    guest.say(&FromInit::Failed { process: gone, failure: Failure::Unreachable, reason: b"gone" });
    guest.say(&KNOCK);

    let Caller { host, port, .. } = take_in(listener, &mut guest, b"::1").await.unwrap();
    assert_eq!((host.as_str(), port), ("::1", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reason_is_short_and_fit_for_a_terminal() {
    let (init, mut guest) = Stage::new().greeted().await;
    let reason = [&b"\x1b[2Jno\r\n\xff\xe2\x80\xae"[..], &[b'x'; 900]].concat();

    let dial = somewhere();
    let (refused, ()) = tokio::join!(init.dial(&dial), async {
        let process = block_in_place(|| guest.until(dialled));
        guest.say(&FromInit::Failed { process, failure: Failure::Forbidden, reason: &reason });
    });

    let Err(ForwardError::Forbidden(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("no") && reason.len() < 300, "{reason}");
    assert!(reason.chars().all(|character| !character.is_control() && character != '\u{202e}'), "{reason}");
}

/// Starts programs, and makes no call.
fn serve_programs(mut guest: Guest) {
    std::thread::spawn(move || {
        loop {
            let started = guest.until(|frame| match frame {
                ToInit::Start { process, .. } => Some(Some(*process)),
                ToInit::Dial { .. } => Some(None),
                _ => None,
            });
            let count = if started.is_some() { 3 } else { 2 };
            drop(guest.descriptors.drain(..count));
            if let Some(process) = started {
                guest.started(process);
                guest.exited(process);
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_never_answered_keep_no_program_from_starting() {
    let (init, guest) = Stage::new().greeted().await;
    serve_programs(guest);
    let init = Arc::new(init);
    let calls: Vec<_> = (0..DIALS_PENDING_MAX)
        .map(|_| {
            let init = Arc::clone(&init);
            tokio::spawn(async move { init.dial(&somewhere()).await })
        })
        .collect();

    let refused = within(5, "one that is too many", async {
        loop {
            if let Ok(refused) =
                tokio::time::timeout(Duration::from_millis(20), init.dial(&somewhere())).await
            {
                return refused.unwrap_err();
            }
        }
    });

    assert!(matches!(refused.await, ForwardError::Exhausted(_)));
    for _ in 0..20 {
        let process = within(5, "a program", exec(&init, program())).await.unwrap();
        within(5, "its exit", process.control.wait()).await.unwrap();
    }
    for call in calls {
        call.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_that_does_not_read_holds_few_descriptors_of_calls() {
    let (init, mut guest) = Stage::new().greeted().await;
    let dial = somewhere();
    let waiting = join_all((0..100).map(|_| init.dial(&dial)));

    assert!(tokio::time::timeout(Duration::from_millis(300), waiting).await.is_err());

    // Nothing is sent while they are counted.
    let unread = unseen(|| guest.count_asked());
    assert!((1..=UNREAD_MAX).contains(&unread), "{unread} were asked for, with two descriptors each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flood_of_knocks_holds_nothing_up() {
    let (init, mut guest) = Stage::new().greeted().await;
    drop(listener(&init, &mut guest).await);
    block_in_place(|| guest.until(ended));
    let pulse = Pulse::begin().await;
    let knocks = encoded(&KNOCK).repeat(1000);

    let flood = tokio::task::spawn_blocking(move || {
        for _ in 0..100 {
            guest.say_bytes(&knocks).unwrap();
        }
        guest
    });

    let mut guest = within(20, "the end of it", flood).await.unwrap();
    pulse.assert_steady();
    connected(&init, &mut guest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_closes_in_the_middle_ends_calls_and_listeners() {
    let (init, mut guest) = Stage::new().greeted().await;
    let process = connected(&init, &mut guest).await;
    let mut listener = listener(&init, &mut guest).await;
    let dial = somewhere();
    let (pending, ()) = tokio::join!(init.dial(&dial), async {
        block_in_place(|| guest.until(dialled));
        drop(guest);
    });

    assert!(matches!(pending, Err(ForwardError::Engine(EngineError::Gone { .. }))), "{pending:?}");
    assert!(within(5, "no caller", listener.accept()).await.is_err());
    within(5, "the end", process.control.ended()).await;
    assert!(process.control.wait().await.is_err());
}
