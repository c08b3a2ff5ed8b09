//! Takes in who calls a listener inside the container, and has the client asked about each.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::relay::{Socket, kill, relay_socket};
use super::x11::Gatekeeper;
use super::{Traffic, Tunnel, agent};
use crate::engine::{Caller, ForwardError, Listener};

/// How long a client has to take a caller in, or turn it away.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// Callers of one listener whom the client has not answered for, or who have yet to say who they are. Past it nobody
/// is taken in; they wait in the listener's own queue.
const CALLERS_PENDING_MAX: usize = 16;

/// Before the next attempt where nobody could be taken in: something is short, and haste would make it worse.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// Opens channels to the client. Implemented by `ssh/`; a double in tests.
#[async_trait]
pub trait Opener: Send + Sync {
    /// Asks the client to take in who calls from this address. Waits for as long as it takes the client to answer, or
    /// until the connection is over. To be awaited to its end.
    async fn open(&self, host: &str, port: u16) -> Result<Tunnel, Refused>;

    /// Says what became of a caller.
    fn note(&self, host: &str, port: u16, outcome: Result<Traffic, Refused>);
}

/// Why a caller was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The client does not want it.
    #[error("the client refused it")]
    ByClient,
    /// The client did not say.
    #[error("the client did not answer for it")]
    Unanswered,
    /// It did not show what it has to (X11).
    #[error("it did not show the cookie")]
    Unauthorized,
    /// The connection is over.
    #[error("the connection is over")]
    Over,
}

/// What goes through a listener.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Anything.
    Plain,
    /// Messages for the authentication agent.
    Agent,
    /// X11, of whoever shows our cookie; with `only_one` of one and no other.
    Display {
        /// Who gets in.
        gatekeeper: Arc<Gatekeeper>,
        /// The listener goes with the first caller.
        only_one: bool,
    },
}

/// Who takes callers in.
pub struct Reception {
    /// The way to the client.
    pub opener: Arc<dyn Opener>,
    /// What they may say.
    pub manner: Manner,
    /// One for each caller until its end. Past it nobody is taken in.
    pub places: Arc<Semaphore>,
    /// Owner of all tasks.
    pub tasks: TaskTracker,
    /// Where what a connection's end has to wait for is counted.
    pub sessions: TaskTracker,
    /// Done when nobody is to be taken in any more.
    pub until: BoxFuture<'static, ()>,
}

impl std::fmt::Debug for Reception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reception").finish_non_exhaustive()
    }
}

impl Reception {
    /// Takes callers in until it is told not to, or the listener is gone. Whom it took in goes on.
    pub async fn serve(self, mut listener: Box<dyn Listener>) {
        let Self { opener, manner, places, tasks, sessions, until } = self;
        let only_one = matches!(manner, Manner::Display { only_one: true, .. });
        let pending = Arc::new(Semaphore::new(if only_one { 1 } else { CALLERS_PENDING_MAX }));
        let taken = CancellationToken::new();
        let serve = async {
            loop {
                let Some(wait) = seats(&pending, &places).await else { return };
                match listener.accept().await {
                    Ok(caller) => {
                        let (opener, sessions) = (Arc::clone(&opener), sessions.clone());
                        let guest = Guest { opener, manner: manner.clone(), sessions, taken: taken.clone() };
                        tasks.spawn(guest.receive(caller, wait));
                    }
                    // It is gone, with what it was in.
                    Err(error @ ForwardError::Engine(_)) => {
                        tracing::debug!(%error, "a listener is gone");
                        return;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a caller could not be taken in");
                        sleep(REFUSED_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            // Whoever waits for the first one's seat must not be taken in by it.
            biased;
            () = taken.cancelled(), if only_one => {}
            () = until => {}
            () = serve => {}
        }
    }
}

/// What a caller holds while it waits: a place among those who wait, and one until its end.
struct Seats {
    pending: OwnedSemaphorePermit,
    place: OwnedSemaphorePermit,
}

async fn seats(pending: &Arc<Semaphore>, places: &Arc<Semaphore>) -> Option<Seats> {
    let pending = Arc::clone(pending).acquire_owned().await.ok()?;
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    Some(Seats { pending, place })
}

/// What one caller meets.
struct Guest {
    opener: Arc<dyn Opener>,
    manner: Manner,
    sessions: TaskTracker,
    /// Cancelled when one was let in.
    taken: CancellationToken,
}

impl Guest {
    async fn receive(self, caller: Caller, seats: Seats) {
        let Caller { process, host, port } = caller;
        let control = Arc::clone(&process.control);
        let mut socket = Socket::from(process);
        match &self.manner {
            Manner::Plain => {}
            Manner::Agent => socket.output = agent::messages(socket.output),
            Manner::Display { gatekeeper, .. } => {
                let Some(admitted) = gatekeeper.examine(socket).await else {
                    kill(control.as_ref()).await;
                    return self.opener.note(&host, port, Err(Refused::Unauthorized));
                };
                socket = admitted;
            }
        }
        let opening = self.opener.open(&host, port);
        tokio::pin!(opening);
        let opened = timeout(OPEN_DEADLINE, &mut opening).await.unwrap_or(Err(Refused::Unanswered));
        let tunnel = match opened {
            Ok(tunnel) => tunnel,
            Err(refused) => {
                kill(control.as_ref()).await;
                self.opener.note(&host, port, Err(refused));
                // An answer that comes after all must find somebody: what it opens is closed again. Until then the
                // caller's seat is taken.
                if refused == Refused::Unanswered
                    && let Ok(late) = opening.await
                {
                    late.client.close().await;
                }
                return;
            }
        };
        self.taken.cancel();
        let Seats { pending, place } = seats;
        drop(pending);
        let traffic = self.sessions.track_future(relay_socket(socket, tunnel)).await;
        drop(place);
        self.opener.note(&host, port, Ok(traffic));
    }
}
