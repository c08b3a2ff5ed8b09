//! What a session leaves in its container.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::pool::LaunchState;
use crate::recording::{CHANGES_MAX, Change, Changes, Left};

/// Asks the container of a session that has ended, for so long at most.
pub async fn left(container: &watch::Receiver<LaunchState>, deadline: Duration) -> Left {
    let state = container.borrow().clone();
    let LaunchState::Ready(container) = state else { return Left::default() };
    let changes = match timeout(deadline, container.changes(CHANGES_MAX)).await {
        Ok(Ok(changes)) => {
            let files = changes.files.into_iter();
            let files = files.map(|(path, change)| Change { path, change: change.name().to_owned() });
            let mut files: Vec<_> = files.collect();
            // Engines have them in no order.
            files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
            Changes { files, truncated: changes.truncated, error: None }
        }
        Ok(Err(error)) => Changes { error: Some(error.to_string()), ..Changes::default() },
        Err(_) => {
            let error = format!("the engine took longer than {}", humantime::format_duration(deadline));
            Changes { error: Some(error), ..Changes::default() }
        }
    };
    Left { container: Some(container.id().as_str().to_owned()), changes: Some(changes) }
}
