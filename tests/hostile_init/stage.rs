//! The server's side, as far as it is needed.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use coracle::engine::init::{Architecture, Init, Room, Rooms};
use coracle::engine::{EngineError, Output, Process, ProcessSpec, Program, Terminal, TerminalSize};
use futures::StreamExt as _;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};
use tokio_util::task::TaskTracker;

use crate::guest::Guest;

/// How long the server's threads may be held up on a machine that does other things as well.
const STALL_MAX: Duration = Duration::from_secs(4);

/// Rooms to meet guests in.
pub(crate) struct Stage {
    pub(crate) rooms: Rooms,
    _folder: TempDir,
}

/// A server that waits for a guest, or has one.
pub(crate) type Meeting = JoinHandle<Result<Init, EngineError>>;

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("coracle-hostile-").unwrap();
        Self { rooms: Rooms::new(folder.path().join("rooms")), _folder: folder }
    }

    /// A new room in which somebody is waited for, and the path of its socket.
    pub(crate) fn open(&self) -> (Meeting, PathBuf) {
        meeting(self.rooms.make(Architecture::X86_64).unwrap())
    }

    /// A guest that is welcome, and what the server has of it.
    pub(crate) async fn greeted(&self) -> (Init, Guest) {
        let (meeting, socket) = self.open();
        let guest = Guest::welcomed(&socket);
        (meeting.await.unwrap().expect("an init"), guest)
    }
}

pub(crate) fn meeting(room: Room) -> (Meeting, PathBuf) {
    let socket = room.folder().join("socket");
    (tokio::spawn(async move { Init::meet(room, None, &TaskTracker::new()).await }), socket)
}

/// What becomes of a meeting that has to fail, and to do so in time.
pub(crate) async fn refusal(meeting: Meeting) -> String {
    let met = within(10, "the end of the meeting", meeting).await.unwrap();
    met.expect_err("nobody to talk to").to_string()
}

/// Fails when that takes longer.
pub(crate) async fn within<F: Future>(seconds: u64, what: &str, future: F) -> F::Output {
    timeout(Duration::from_secs(seconds), future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not in {seconds} s"))
}

pub(crate) fn program() -> ProcessSpec {
    ProcessSpec {
        program: Program::Args(vec!["/bin/program".to_owned()]),
        env: Vec::new(),
        terminal: None,
        username: "demo".to_owned(),
    }
}

pub(crate) fn on_terminal() -> ProcessSpec {
    let size = TerminalSize::from_client(80, 24);
    let terminal = Terminal { term: "xterm".to_owned(), size, modes: Vec::new() };
    ProcessSpec { terminal: Some(terminal), ..program() }
}

pub(crate) async fn exec(init: &Init, spec: ProcessSpec) -> Result<Process, EngineError> {
    init.exec(&spec).await
}

/// All that a program says; how it went on is left out.
pub(crate) async fn output_of(process: &mut Process) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(Ok(Output::Stdout(bytes) | Output::Stderr(bytes))) = process.output.next().await {
        all.extend(bytes);
    }
    all
}

/// Does something while the only thread of the server's is busy, so that it is all there when the server looks.
pub(crate) fn unseen<T>(attack: impl FnOnce() -> T) -> T {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (is_held, held) = std::sync::mpsc::channel();
    tokio::spawn(async move {
        is_held.send(()).unwrap();
        wait.recv().ok();
    });
    held.recv().unwrap();
    let done = attack();
    drop(go);
    done
}

/// Watches one of the runtime's threads for being held up.
pub(crate) struct Pulse(JoinHandle<()>, tokio::sync::watch::Receiver<Duration>);

impl Pulse {
    pub(crate) async fn begin() -> Self {
        let (longest, mut seen) = tokio::sync::watch::channel(Duration::ZERO);
        let beat = tokio::spawn(async move {
            let mut beats = interval(Duration::from_millis(5));
            loop {
                let before = Instant::now();
                beats.tick().await;
                let took = before.elapsed();
                longest.send_if_modified(|longest| {
                    let is_longer = took > *longest;
                    *longest = took.max(*longest);
                    is_longer
                });
            }
        });
        seen.changed().await.unwrap();
        Self(beat, seen)
    }

    pub(crate) fn assert_steady(self) {
        self.0.abort();
        let longest = *self.1.borrow();
        assert!(longest < STALL_MAX, "a thread of the server stood still for {longest:?}");
    }
}
