//! Drain: stop accepting, let what lives end, then cut.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by everything that has tasks: who owns them, and when they are to end.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// Cancelled when the server is to end.
    pub token: CancellationToken,
    /// Owner of every task.
    pub tasks: TaskTracker,
}

impl Drain {
    /// Asks everything to end and waits for it; `false` when some of it did not end in time.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.token.cancel();
        self.tasks.close();
        timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}
