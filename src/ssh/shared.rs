//! What the owner of a connection, its callbacks and its sessions share.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::curfew::{Activity, Notice};
use super::forwards::Forwards;
use super::penalties::Suspect;
use super::services::Services;
use crate::auth::Caller;
use crate::events::Teller;
use crate::ids::ConnectionId;
use crate::pool::LaunchState;
use crate::session::registry::Registration;
use crate::session::{Budget, Cut};

/// What the owner of a connection, its callbacks and its sessions share.
pub(super) struct Shared {
    pub(super) id: ConnectionId,
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    /// To be told of what the client does wrong before its login.
    pub(super) suspect: Suspect,
    /// The same as far as logins go.
    pub(super) caller: Caller,
    /// To tell what happens.
    pub(super) teller: Teller,
    /// Where it can be found and ended.
    pub(super) registration: Registration,
    /// As they were when the connection came.
    pub(super) services: Arc<Services>,
    /// As they are now.
    pub(super) current: watch::Receiver<Arc<Services>>,
    pub(super) budget: Arc<Budget>,
    /// Cancelled when the connection is over.
    pub(super) over: CancellationToken,
    /// Cancelled when it was told who has come in, or why not.
    pub(super) introduced: CancellationToken,
    /// Cancelled when there were too many wrong guesses.
    pub(super) exhausted: CancellationToken,
    /// Where the connection's container stands; set by the owner once the client is in.
    pub(super) container: watch::Receiver<LaunchState>,
    /// Set when sessions are to end.
    pub(super) cut: watch::Receiver<Option<Cut>>,
    /// Set when users are to be told something.
    pub(super) notice: watch::Receiver<Option<Notice>>,
    /// When something was last sent.
    pub(super) activity: Activity,
    /// The tasks of the sessions that live, and of what is forwarded.
    pub(super) sessions: TaskTracker,
    /// Held by what has to ask the container something before it goes.
    pub(super) held: TaskTracker,
    /// What is forwarded.
    pub(super) forwards: Forwards,
}

impl Shared {
    /// Waits until it was told who has come in: nothing of theirs is to be told before. Whoever answers for the
    /// connection does that at once.
    pub(super) async fn introduction(&self) {
        tokio::select! {
            () = self.introduced.cancelled() => {}
            () = self.over.cancelled() => {}
        }
    }
}
