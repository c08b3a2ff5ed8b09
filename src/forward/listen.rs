//! Listening inside the container of a connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::Failure;
use crate::engine::{Container, Listener};
use crate::policy::ListenPermit;
use crate::pool::LaunchState;

/// How long a listener may take once its container is there. The client waits for it, and whatever else it sends behind.
const LISTEN_DEADLINE: Duration = Duration::from_secs(10);

/// How long a client that wants a listener waits for its container.
const LAUNCH_DEADLINE: Duration = Duration::from_mins(1);

/// Waits for the container, and listens in it. Cancel safe: what comes too late listens no more.
///
/// # Errors
/// [`Failure`] says why nothing listens.
pub async fn listen(
    container: watch::Receiver<LaunchState>,
    permit: ListenPermit,
    tasks: &TaskTracker,
) -> Result<Box<dyn Listener>, Failure> {
    let container =
        timeout(LAUNCH_DEADLINE, container_of(container)).await.map_err(|_| Failure::TooEarly)??;
    listen_in(container, permit, tasks).await
}

/// Listens in a container. Cancel safe.
pub(super) async fn listen_in(
    container: Arc<dyn Container>,
    permit: ListenPermit,
    tasks: &TaskTracker,
) -> Result<Box<dyn Listener>, Failure> {
    let spec = permit.redeem();
    let (sender, receiver) = oneshot::channel();
    // A call under way is never cut: it would be nobody's. Dropped, a listener listens no more.
    tasks.spawn(async move { drop(sender.send(container.listen(&spec).await)) });
    match timeout(LISTEN_DEADLINE, receiver).await {
        Ok(Ok(listening)) => Ok(listening?),
        Ok(Err(_fault)) => Err(Failure::Over),
        Err(_elapsed) => Err(Failure::TimedOut(LISTEN_DEADLINE)),
    }
}

/// Waits for the container. Cancel safe.
pub(super) async fn container_of(
    mut state: watch::Receiver<LaunchState>,
) -> Result<Arc<dyn Container>, Failure> {
    loop {
        match state.borrow_and_update().clone() {
            LaunchState::Ready(container) => return Ok(container),
            LaunchState::Failed(error) => return Err(error.into()),
            LaunchState::Lost(reason) => return Err(Failure::Lost(reason)),
            LaunchState::InProgress(_) => {}
        }
        if state.changed().await.is_err() {
            return Err(Failure::Over);
        }
    }
}
