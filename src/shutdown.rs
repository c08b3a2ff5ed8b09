//! Drain: stop accepting, let what lives end, then cut.

use std::future::Future;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::value::{Section, Span};

/// How the server ends.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Shutdown")]
pub struct Config {
    /// What sessions get to end by themselves after SIGTERM or SIGINT, before they are cut. A second signal cuts at
    /// once.
    pub grace: Span,
}

impl Section for Config {}

impl Default for Config {
    fn default() -> Self {
        Self { grace: Span::from_seconds(30) }
    }
}

/// Shared by everything that has tasks: who owns them, and when they are to end.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// Cancelled when the server is to end: nothing new begins, what lives may end by itself.
    pub begun: CancellationToken,
    /// Cancelled when what still lives is to be ended.
    pub cut: CancellationToken,
    /// Owner of every task.
    pub tasks: TaskTracker,
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everything has ended.
    Clean,
    /// Some tasks did not end in time.
    Late,
}

impl Drain {
    /// Lets everything end by itself for `grace`, or until `hurry` is done; then cuts, and waits until `deadline`.
    pub async fn finish(
        &self,
        grace: Duration,
        hurry: impl Future<Output = ()>,
        deadline: Duration,
    ) -> Drained {
        self.begun.cancel();
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => return Drained::Clean,
            () = sleep(grace) => {}
            () = hurry => {}
        }
        self.cut.cancel();
        if timeout(deadline, self.tasks.wait()).await.is_ok() { Drained::Clean } else { Drained::Late }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// L7
    #[tokio::test(start_paused = true)]
    async fn what_ends_by_itself_is_not_cut() {
        let drain = Drain::default();
        drain.tasks.spawn(sleep(Duration::from_secs(20)));

        let drained = drain.finish(Duration::from_secs(30), std::future::pending(), HOUR).await;

        assert_eq!(drained, Drained::Clean);
        assert!(!drain.cut.is_cancelled());
    }

    /// L7
    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_cut_after_the_grace_or_at_once_when_asked_twice() {
        for hurry in [false, true] {
            let drain = Drain::default();
            drain.tasks.spawn(drain.cut.clone().cancelled_owned());
            let begun = tokio::time::Instant::now();

            let asked = async {
                if !hurry {
                    std::future::pending::<()>().await;
                }
            };
            let drained = drain.finish(Duration::from_secs(30), asked, HOUR).await;

            assert_eq!(drained, Drained::Clean);
            assert_eq!(begun.elapsed() >= Duration::from_secs(30), !hurry);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_is_told() {
        let drain = Drain::default();
        drain.tasks.spawn(std::future::pending::<()>());

        let drained = drain.finish(Duration::ZERO, std::future::pending(), Duration::from_secs(1)).await;

        assert_eq!(drained, Drained::Late);
    }
}
