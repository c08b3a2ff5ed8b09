//! What one connection has forwarded: how much of it there may be, and what it needs one of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::ChannelId;
use tokio::sync::{Semaphore, oneshot};

use super::doors::Display;
use super::slots::{Inlet, Outlet};
use crate::forward::Door;

/// Forwards that the client may have opened on one connection at a time. Past it one is refused.
const DIALS_MAX: usize = 256;

/// Callers of all listeners of one connection at a time, the agent's aside. Past it others wait in the container.
const CALLERS_MAX: usize = 256;

/// Callers of the agent at a time. Past it others wait in the container.
const AGENT_CALLERS_MAX: usize = 64;

/// What one connection has forwarded.
pub(super) struct Forwards {
    /// One for each that the client opens, until its task has ended.
    pub(super) dials: Arc<Semaphore>,
    /// One for each caller.
    pub(super) callers: Arc<Semaphore>,
    /// One for each caller of the agent.
    pub(super) agent_callers: Arc<Semaphore>,
    /// Channels that we open.
    pub(super) openings: Openings,
    /// The agent's socket.
    pub(super) agent: Arc<Door>,
    /// The display.
    pub(super) display: Mutex<Option<Display>>,
}

impl Forwards {
    pub(super) fn new() -> Self {
        Self {
            dials: Arc::new(Semaphore::new(DIALS_MAX)),
            callers: Arc::new(Semaphore::new(CALLERS_MAX)),
            agent_callers: Arc::new(Semaphore::new(AGENT_CALLERS_MAX)),
            openings: Openings::default(),
            agent: Arc::default(),
            display: Mutex::default(),
        }
    }
}

/// Where the task that opened a channel and the callback that hears of its confirmation meet. Either may come first:
/// russh tells the task, then calls back, and both before any data of the channel.
#[derive(Default)]
pub(super) struct Openings(Mutex<Meeting>);

#[derive(Default)]
struct Meeting {
    /// Tasks that have asked for a channel.
    expected: usize,
    met: HashMap<ChannelId, Party>,
}

/// Who came first.
enum Party {
    Callback(Outlet),
    Task(oneshot::Sender<Outlet>),
}

/// A task that has asked for a channel. Nothing of it stays when it is dropped.
pub(super) struct Expectation<'a> {
    openings: &'a Openings,
    claimed: Option<ChannelId>,
}

impl Openings {
    /// To be held by whoever asks for a channel, until it has claimed it.
    pub(super) fn expect(&self) -> Expectation<'_> {
        self.meeting().expected += 1;
        Expectation { openings: self, claimed: None }
    }

    /// A channel was confirmed. `None` where nobody can have asked for it, or it was confirmed before.
    pub(super) fn confirm(&self, id: ChannelId, make: impl FnOnce() -> (Inlet, Outlet)) -> Option<Inlet> {
        let mut meeting = self.meeting();
        match meeting.met.remove(&id) {
            Some(Party::Task(task)) => {
                let (inlet, outlet) = make();
                // A task that has gone meanwhile goes with its connection.
                drop(task.send(outlet));
                Some(inlet)
            }
            Some(first @ Party::Callback(_)) => {
                meeting.met.insert(id, first);
                None
            }
            // No more than there are tasks: whatever a client confirms, nothing piles up.
            None if meeting.met.len() >= meeting.expected => None,
            None => {
                let (inlet, outlet) = make();
                meeting.met.insert(id, Party::Callback(outlet));
                Some(inlet)
            }
        }
    }

    fn meeting(&self) -> MutexGuard<'_, Meeting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expectation<'_> {
    /// Waits for the callback of a channel that russh has handed out. `None` where its task is to end.
    pub(super) async fn claim(mut self, id: ChannelId) -> Option<Outlet> {
        let receiver = {
            let mut meeting = self.openings.meeting();
            match meeting.met.remove(&id) {
                Some(Party::Callback(outlet)) => return Some(outlet),
                Some(Party::Task(_)) | None => {}
            }
            let (sender, receiver) = oneshot::channel();
            meeting.met.insert(id, Party::Task(sender));
            self.claimed = Some(id);
            receiver
        };
        receiver.await.ok()
    }
}

impl Drop for Expectation<'_> {
    fn drop(&mut self) {
        let mut meeting = self.openings.meeting();
        meeting.expected -= 1;
        if let Some(id) = self.claimed {
            meeting.met.remove(&id);
        }
    }
}
