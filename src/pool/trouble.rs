//! When a shelf that could not be filled is tried again, and what is said about it.

use std::time::Duration;

use tokio::time::Instant;

/// First pause after a failure; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause between tries.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Without a failure for so long, the next one is the first again.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(2);

/// What went wrong lately.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    last: Option<Failure>,
    /// What the log has, until it has that it is over.
    told: Option<String>,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    pause: Duration,
}

impl Trouble {
    /// Whether the last try failed: then one at a time is enough.
    pub(super) fn lasts(&self) -> bool {
        self.told.is_some()
    }

    /// Nothing is to be tried before.
    pub(super) fn pause_until(&self) -> Option<Instant> {
        self.last.as_ref().map(|failure| failure.at + failure.pause)
    }

    /// Returns whether there is something new to tell.
    pub(super) fn failed(&mut self, reason: &str) -> bool {
        self.pause();
        let is_news = self.told.as_deref() != Some(reason);
        self.told = Some(reason.to_owned());
        is_news
    }

    /// Makes the next try wait. Those that failed together count once.
    pub(super) fn pause(&mut self) {
        let now = Instant::now();
        let pause = match &self.last {
            Some(failure) if now < failure.at + failure.pause => return,
            Some(failure) if now < failure.at + FORGOTTEN_AFTER => (failure.pause * 2).min(PAUSE_MAX),
            _ => PAUSE_MIN,
        };
        self.last = Some(Failure { at: now, pause });
    }

    /// Returns whether there is something new to tell.
    pub(super) fn succeeded(&mut self) -> bool {
        self.told.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_are_forgotten_after_a_while() {
        let mut trouble = Trouble::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            trouble.failed("no engine");
            // One that failed at the same time.
            trouble.failed("no engine");
            pauses.push(trouble.pause_until().unwrap() - Instant::now());
            sleep_until(trouble.pause_until().unwrap()).await;
        }

        let seconds: Vec<_> = pauses.iter().map(Duration::as_secs_f64).collect();
        assert_eq!(seconds, [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]);
        advance(FORGOTTEN_AFTER).await;
        trouble.failed("no engine");
        assert_eq!(trouble.pause_until(), Some(Instant::now() + PAUSE_MIN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_once_until_it_is_another_or_over() {
        let mut trouble = Trouble::default();

        assert!(trouble.failed("no engine") && trouble.lasts());
        assert!(!trouble.failed("no engine"));
        assert!(trouble.failed("no image"));
        assert!(trouble.succeeded() && !trouble.lasts());
        assert!(!trouble.succeeded());
        assert!(trouble.failed("no image"));
    }
}
