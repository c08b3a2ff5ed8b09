//! Dialling from inside the container of a connection.

use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;

use super::Failure;
use super::listen::container_of;
use super::relay::kill;
use crate::engine::Process;
use crate::policy::DialPermit;
use crate::pool::LaunchState;

/// Waits for the container, and dials from in it; there is no deadline but the container's own. Cancel safe: whoever
/// answers too late is cut.
///
/// # Errors
/// [`Failure`] says why nobody is there.
pub async fn dial(
    container: watch::Receiver<LaunchState>,
    permit: DialPermit,
    tasks: &TaskTracker,
) -> Result<Process, Failure> {
    let container = container_of(container).await?;
    let spec = permit.redeem();
    let (sender, receiver) = oneshot::channel();
    // A call under way is never cut: it would be nobody's.
    tasks.spawn(async move {
        if let Err(Ok(late)) = sender.send(container.dial(&spec).await) {
            kill(late.control.as_ref()).await;
        }
    });
    Ok(receiver.await.map_err(|_fault| Failure::Over)??)
}
