//! What listens in one container, by the numbers that the init knows it by.

use std::sync::Arc;

use coracle_init::{DISPLAY_MIN, DISPLAY_PORT, Malformed, ToInit};
use tokio::sync::{oneshot, watch};

use super::processes::{Books, Processes, Refusal, UNKNOWN, gone};
use super::wires::Outbox;
use crate::engine::{Address, ForwardError, ListenSpec};

/// What listens in one container at once. Inits have no more, either.
const LISTENERS_MAX: usize = 64;

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) port: u16,
    pub(super) path: String,
}

/// What an init may say of where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// At this port, or at any for 0.
    Port(u16),
    /// At this path.
    Socket(String),
    /// At a path of its choice.
    Agent,
    /// At a port and with a file of its choice.
    Display,
}

/// Something that listens, or is to.
#[derive(Debug)]
pub(super) struct Listening {
    expected: Expected,
    /// Whom to tell that it does.
    begun: Option<oneshot::Sender<Result<Place, Refusal>>>,
    /// Whether somebody waits to be taken in.
    knock: watch::Sender<bool>,
    /// Whoever wanted it has gone before it did.
    is_unwanted: bool,
}

/// Something that is to listen.
#[derive(Debug)]
pub(super) struct ListenEntry {
    begun: oneshot::Receiver<Result<Place, Refusal>>,
    pub(super) knock: watch::Receiver<bool>,
    pub(super) hold: Hold,
}

/// Our hold on what listens: dropped, it does so no more.
#[derive(Debug)]
pub(super) struct Hold {
    processes: Arc<Processes>,
    outbox: Outbox,
    number: u32,
    was_asked_for: bool,
}

impl Processes {
    /// Makes room for something more to listen.
    pub(super) fn enter_listener(
        self: &Arc<Self>,
        expected: Expected,
        outbox: &Outbox,
    ) -> Result<ListenEntry, ForwardError> {
        let mut books = self.books();
        let number = books.next().map_err(gone)?;
        if books.listeners.len() >= LISTENERS_MAX {
            return Err(ForwardError::Exhausted("too much listens there already".to_owned()));
        }
        let (sender, begun) = oneshot::channel();
        let (knock_sender, knock) = watch::channel(false);
        let listening = Listening { expected, begun: Some(sender), knock: knock_sender, is_unwanted: false };
        books.listeners.insert(number, listening);
        let (processes, outbox) = (Arc::clone(self), outbox.clone());
        Ok(ListenEntry { begun, knock, hold: Hold { processes, outbox, number, was_asked_for: false } })
    }
}

impl ListenEntry {
    /// Waits until it does; `None` when the init is gone.
    pub(super) async fn begun(&mut self) -> Option<Result<Place, Refusal>> {
        (&mut self.begun).await.ok()
    }
}

impl Hold {
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The init is being asked for it.
    pub(super) fn asked_for(&mut self) {
        self.was_asked_for = true;
    }

    /// Who has knocked is being taken in: the next knock is somebody's who comes after.
    pub(super) fn answer_knock(&self) {
        if let Some(listening) = self.processes.books().listeners.get(&self.number) {
            listening.knock.send_replace(false);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut books = self.processes.books();
        let Some(listening) = books.listeners.get_mut(&self.number) else { return };
        if self.was_asked_for && listening.begun.is_some() {
            // What was not heard of is not there to be ended.
            listening.is_unwanted = true;
            return;
        }
        books.listeners.remove(&self.number);
        if self.was_asked_for {
            unlisten(&self.outbox, self.number);
        }
    }
}

impl Books {
    /// It listens.
    pub(super) fn begin_listener(
        &mut self,
        number: u32,
        port: u16,
        path: &[u8],
        outbox: &Outbox,
    ) -> Result<(), Malformed> {
        let listening = self.listeners.get_mut(&number).ok_or(UNKNOWN)?;
        let begun = listening.begun.take().ok_or(Malformed("it listens already"))?;
        let place = listening.expected.place(port, path)?;
        if listening.is_unwanted {
            self.listeners.remove(&number);
            unlisten(outbox, number);
        } else {
            // Gone between the two: `Hold` then sees that it listens.
            drop(begun.send(Ok(place)));
        }
        Ok(())
    }

    /// It is not to listen.
    pub(super) fn refuse_listener(&mut self, number: u32, refusal: Refusal) -> Result<(), Malformed> {
        let listening = self.listeners.get_mut(&number).ok_or(UNKNOWN)?;
        let begun = listening.begun.take().ok_or(Malformed("what listens is refused"))?;
        self.listeners.remove(&number);
        drop(begun.send(Err(refusal)));
        Ok(())
    }

    /// Somebody wants to be taken in.
    pub(super) fn knock(&mut self, number: u32) -> Result<(), Malformed> {
        let Some(listening) = self.listeners.get(&number) else {
            // On its way while the init was told that nobody listens there any more.
            return if (1..=self.last).contains(&number) { Ok(()) } else { Err(UNKNOWN) };
        };
        if listening.begun.is_some() {
            return Err(Malformed("somebody knocks where nothing listens yet"));
        }
        if listening.knock.send_replace(true) {
            return Err(Malformed("somebody knocks who has knocked"));
        }
        Ok(())
    }
}

impl Expected {
    pub(super) fn of(spec: &ListenSpec) -> Self {
        match spec {
            ListenSpec::At(Address::Tcp { port, .. }) => Self::Port(*port),
            ListenSpec::At(Address::Unix { path }) => Self::Socket(path.clone()),
            ListenSpec::Agent => Self::Agent,
            ListenSpec::Display { .. } => Self::Display,
        }
    }

    /// Where it listens, if it may be there.
    fn place(&self, port: u16, path: &[u8]) -> Result<Place, Malformed> {
        let is_theirs = match self {
            Self::Port(0) => port != 0,
            Self::Port(asked) => port == *asked,
            Self::Socket(_) | Self::Agent => port == 0,
            Self::Display => port >= DISPLAY_PORT + DISPLAY_MIN,
        };
        if !is_theirs {
            return Err(Malformed("it listens elsewhere"));
        }
        let path = match self {
            Self::Port(_) => String::new(),
            Self::Socket(path) => path.clone(),
            Self::Agent | Self::Display => made(path)?,
        };
        Ok(Place { port, path })
    }
}

/// The path of what was made; programs find it in a variable.
fn made(path: &[u8]) -> Result<String, Malformed> {
    let is_plain = path.first() == Some(&b'/') && path.iter().all(u8::is_ascii_graphic);
    let path = std::str::from_utf8(path).ok().filter(|_| is_plain);
    path.map(str::to_owned).ok_or(Malformed("a path is none that could have been made"))
}

fn unlisten(outbox: &Outbox, listener: u32) {
    outbox.promise(&ToInit::Unlisten { listener });
}
