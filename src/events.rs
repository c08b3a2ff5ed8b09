//! What happens to connections, told once by those to whom it happens, for whoever wants to know: the log, metrics, the
//! audit stream, the register of what lives. Those who tell know none of them.

mod detail;
mod happening;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

pub use detail::{Deed, Vouched};
pub use happening::{Happening, Phase, Proof};

use crate::ids::ConnectionId;

/// Somebody who wants to know. Called in the middle of things, also in the loop that serves a whole connection: it must
/// neither wait nor fail, and what it cannot take at once it drops and counts.
pub trait Witness: Send + Sync {
    /// Hears of something.
    fn hear(&self, event: &Event<'_>);

    /// Whether it wants to hear what is done to files, which costs more than the rest to find out.
    fn wants_files(&self) -> bool {
        false
    }

    /// Why nobody may come in now, where that must not happen without its being told of.
    fn objects(&self) -> Option<&'static str> {
        None
    }
}

/// Everybody who wants to know.
#[derive(Clone, Default)]
pub struct Events(Arc<[Arc<dyn Witness>]>);

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({})", self.0.len())
    }
}

impl Events {
    /// These hear of everything, in this order.
    #[must_use]
    pub fn new(witnesses: Vec<Arc<dyn Witness>>) -> Self {
        Self(witnesses.into())
    }

    /// A connection that was accepted.
    #[must_use]
    pub fn of_connection(&self, connection: ConnectionId, client: SocketAddr) -> Teller {
        Teller {
            petty: AtomicU32::new(0),
            events: self.clone(),
            connection,
            client,
            user: OnceLock::new(),
            begun: Instant::now(),
        }
    }

    /// Tells of a client that never got a connection.
    pub fn tell_refusal(&self, client: SocketAddr, reason: &'static str) {
        let what = Happening::TurnedAway { reason };
        self.tell(&Event { at: SystemTime::now(), connection: None, client, user: None, what: &what });
    }

    /// Why nobody may come in now, where somebody has something against it.
    #[must_use]
    pub fn objection(&self) -> Option<&'static str> {
        self.0.iter().find_map(|witness| witness.objects())
    }

    /// Whether somebody wants to hear what is done to files.
    #[must_use]
    pub fn wants_files(&self) -> bool {
        self.0.iter().any(|witness| witness.wants_files())
    }

    fn tell(&self, event: &Event<'_>) {
        for witness in self.0.iter() {
            witness.hear(event);
        }
    }
}

/// What a client can make happen at will, as often as it can send a message, is told so often per connection. Past it a word
/// that there was more, and then nothing: it must not drown what others do.
const PETTY_MAX: u32 = 1000;

/// Tells what happens to one connection.
#[derive(Debug)]
pub struct Teller {
    petty: AtomicU32,
    events: Events,
    connection: ConnectionId,
    client: SocketAddr,
    user: OnceLock<String>,
    begun: Instant,
}

impl Teller {
    /// From now on it is this user's.
    pub fn is_of(&self, user: &str) {
        self.user.get_or_init(|| user.to_owned());
    }

    /// How long the connection has lived.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Tells. Never waits.
    pub fn tell(&self, what: &Happening) {
        if what.is_petty() {
            match self.petty.fetch_add(1, Ordering::Relaxed) {
                0..PETTY_MAX => {}
                PETTY_MAX => return self.pass_on(&Happening::LimitReached { limit: "events" }),
                _ => {
                    self.petty.store(PETTY_MAX + 1, Ordering::Relaxed);
                    return;
                }
            }
        }
        self.pass_on(what);
    }

    fn pass_on(&self, what: &Happening) {
        let user = self.user.get().map(String::as_str);
        let (at, connection) = (SystemTime::now(), Some(&self.connection));
        self.events.tell(&Event { at, connection, client: self.client, user, what });
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When.
    pub at: SystemTime,
    /// To whom; `None` before there is a connection.
    pub connection: Option<&'a ConnectionId>,
    /// Its client, also behind a proxy.
    pub client: SocketAddr,
    /// Its user, once that is proven.
    pub user: Option<&'a str>,
    /// What it was.
    pub what: &'a Happening,
}

#[cfg(test)]
mod tests;
