//! What the callbacks know of each channel of a connection, and what they feed its task with.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use russh::server::Msg;
use russh::{ChannelId, ChannelWriteHalf, Pty};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::channel::sane_term;
use super::files::FileWatch;
use super::shared::Shared;
use crate::engine::{Signal, Terminal, TerminalMode, TerminalSize};
use crate::policy::Rules;
use crate::recording::Tap;
use crate::session::{self, StdinQueue, StdinSender};

/// The channels of a connection.
#[derive(Default)]
pub(super) struct Slots(HashMap<ChannelId, Slot>);

/// A channel of this connection.
pub(super) enum Slot {
    /// A session's whose program has not been asked for yet.
    Opening(Opening),
    /// A session's whose program runs, is about to, or has ended.
    Running(Running),
    /// One that carries a forward.
    Forward(Inlet),
}

/// A channel whose program has not been asked for yet. It is *moved* out of the map when one is, so that a second
/// request finds nothing.
pub(super) struct Opening {
    pub(super) place: OwnedSemaphorePermit,
    pub(super) write: ChannelWriteHalf<Msg>,
    pub(super) env: Vec<(String, String)>,
    pub(super) terminal: Option<Terminal>,
    /// The screen of the client's display, where X11 was asked for and granted.
    pub(super) screen: Option<u32>,
}

impl Opening {
    /// `false` where it has one already.
    pub(super) fn take_terminal(&mut self, term: &str, size: TerminalSize, modes: &[(Pty, u32)]) -> bool {
        let is_first = self.terminal.is_none();
        if is_first {
            let modes = modes
                .iter()
                .map(|(code, argument)| TerminalMode { opcode: *code as u8, argument: *argument });
            self.terminal = Some(Terminal { term: sane_term(term), size, modes: modes.collect() });
        }
        is_first
    }

    /// `false` where it is not accepted.
    pub(super) fn take_variable(&mut self, rules: &Rules, name: &str, value: &str) -> bool {
        let accepted = rules.accepts_variable(name, value, &self.env);
        if accepted {
            self.env.push((name.to_owned(), value.to_owned()));
        }
        accepted
    }
}

/// A channel whose program runs, is about to, or has ended.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) inlet: Inlet,
    pub(super) sizes: watch::Sender<TerminalSize>,
    pub(super) signals: mpsc::Sender<Signal>,
    /// Which of the connection's sessions.
    pub(super) number: u32,
    pub(super) has_terminal: bool,
}

impl Running {
    /// The client's terminal has another size.
    pub(super) fn resize(&self, size: TerminalSize) {
        self.inlet.tap.resize(size.columns(), size.rows());
        self.sizes.send_replace(size);
    }

    /// Passes a signal on; `false` where too many wait.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        let passed_on = self.signals.try_send(signal).is_ok();
        if passed_on {
            self.inlet.tap.signal(signal.name());
        }
        passed_on
    }
}

/// The callbacks' end of a channel that has a task.
#[derive(Debug)]
pub(super) struct Inlet {
    input: StdinSender,
    pub(super) tap: Tap,
    /// Who follows what is said.
    pub(super) files: Option<Arc<FileWatch>>,
    /// Bytes that the client has sent.
    received: Arc<AtomicU64>,
    pub(super) closed: CancellationToken,
    overflowed: CancellationToken,
    ended: CancellationToken,
    over: CancellationToken,
}

/// The end of that task.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) input: StdinQueue,
    /// Bytes that the client has sent.
    pub(super) received: Arc<AtomicU64>,
    /// Cancelled when the channel is closed, or the connection is over.
    pub(super) closed: CancellationToken,
    /// Cancelled when more came than can be kept.
    pub(super) overflowed: CancellationToken,
    /// Cancelled when the client has sent all.
    pub(super) ended: CancellationToken,
    /// To be dropped once the client was told of the end.
    pub(super) over: DropGuard,
}

/// Both ends for a channel of which nothing is recorded.
pub(super) fn inlet(shared: &Arc<Shared>) -> (Inlet, Outlet) {
    tapped_inlet(shared, Tap::default())
}

/// Both ends for a channel.
pub(super) fn tapped_inlet(shared: &Arc<Shared>, tap: Tap) -> (Inlet, Outlet) {
    let (sender, queue) = session::stdin_queue(&shared.budget);
    let (overflowed, ended) = (CancellationToken::new(), CancellationToken::new());
    let (closed, over) = (shared.over.child_token(), CancellationToken::new());
    let received = Arc::new(AtomicU64::new(0));
    let outlet = Outlet {
        input: queue,
        received: Arc::clone(&received),
        closed: closed.clone(),
        overflowed: overflowed.clone(),
        ended: ended.clone(),
        over: over.clone().drop_guard(),
    };
    (Inlet { input: sender, tap, files: None, received, closed, overflowed, ended, over }, outlet)
}

impl Inlet {
    /// The client has sent something. Never waits.
    pub(super) fn push(&self, data: &[u8]) {
        self.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.tap.input(data);
        if let Some(files) = &self.files {
            files.request(data);
        }
        if self.input.push(data).is_err() {
            self.overflowed.cancel();
        }
    }

    /// The client has sent all.
    pub(super) fn end(&self) {
        self.input.end();
        self.ended.cancel();
    }
}

impl Drop for Inlet {
    /// The task has its own life; it must hear that its channel is gone, however that came.
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Slot {
    fn inlet(&self) -> Option<&Inlet> {
        match self {
            Self::Opening(_) => None,
            Self::Running(running) => Some(&running.inlet),
            Self::Forward(inlet) => Some(inlet),
        }
    }
}

impl Slots {
    /// Forgets channels that are over. Where we close first, russh forgets the channel at once and never tells of the
    /// client's own close.
    pub(super) fn sweep(&mut self) {
        self.0.retain(|_, slot| slot.inlet().is_none_or(|inlet| !inlet.over.is_cancelled()));
    }

    pub(super) fn insert(&mut self, id: ChannelId, slot: Slot) {
        self.0.insert(id, slot);
    }

    /// The client has closed a channel.
    pub(super) fn close(&mut self, id: ChannelId) {
        if let Some(Slot::Forward(inlet)) = self.0.remove(&id) {
            // For whoever it is connected to, it is the end of what is said. A program is hung up instead.
            inlet.end();
        }
    }

    pub(super) fn has(&self, id: ChannelId) -> bool {
        self.0.contains_key(&id)
    }

    /// Takes out a channel whose program is now to start.
    pub(super) fn take_opening(&mut self, id: ChannelId) -> Option<Opening> {
        match self.0.remove(&id)? {
            Slot::Opening(opening) => Some(opening),
            // A second program on the channel: RFC 4254 §6.5 allows one.
            other => {
                self.0.insert(id, other);
                None
            }
        }
    }

    pub(super) fn opening(&mut self, id: ChannelId) -> Option<&mut Opening> {
        match self.0.get_mut(&id) {
            Some(Slot::Opening(opening)) => Some(opening),
            _ => None,
        }
    }

    pub(super) fn running(&self, id: ChannelId) -> Option<&Running> {
        match self.0.get(&id) {
            Some(Slot::Running(running)) => Some(running),
            _ => None,
        }
    }

    pub(super) fn inlet(&self, id: ChannelId) -> Option<&Inlet> {
        self.0.get(&id).and_then(Slot::inlet)
    }
}
