//! When a request is made once more: an engine that restarts is back within seconds.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::{Instant, sleep};

use crate::engine::EngineError;

/// First pause; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause between tries.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long an engine that does not answer is tried: a restart takes less, and a person waits for the reason.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How often an engine that answers with a failure of its own (HTTP 5xx) is asked again. Many of these failures last,
/// and are to be told soon.
const ANSWERED_FAILURES_MAX: u32 = 3;

/// The tries of one request.
#[derive(Debug)]
pub(super) struct Retries {
    until: Instant,
    pause: Duration,
    answered: u32,
}

impl Retries {
    /// For a request that has to be done by `deadline`.
    pub(super) fn before(deadline: Instant) -> Self {
        Self { until: deadline.min(Instant::now() + SILENCE_MAX), pause: PAUSE_MIN, answered: 0 }
    }

    /// Waits, and returns whether to try again after `error`. Cancel safe.
    pub(super) async fn again(&mut self, error: &EngineError) -> bool {
        match error {
            EngineError::Failed { is_answer: true, .. } => self.answered += 1,
            error if may_pass(error) => {}
            _ => return false,
        }
        self.wait(error).await
    }

    /// The same for an error of which the caller knows that it may pass.
    pub(super) async fn wait(&mut self, error: &EngineError) -> bool {
        // Clients that were cut off together must not come back together.
        let pause = self.pause.mul_f64(rand::rng().random_range(0.5..=1.0));
        if self.answered > ANSWERED_FAILURES_MAX || Instant::now() + pause >= self.until {
            return false;
        }
        tracing::debug!(%error, pause_ms = pause.as_millis(), "the engine is asked again");
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        sleep(pause).await;
        true
    }
}

/// Whether the same request may succeed a little later.
fn may_pass(error: &EngineError) -> bool {
    matches!(error, EngineError::Unreachable { .. } | EngineError::Failed { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable() -> EngineError {
        EngineError::Unreachable { endpoint: String::new(), reason: String::new() }
    }

    async fn tries(error: EngineError, deadline: Duration) -> (u32, Duration) {
        let began = Instant::now();
        let mut retries = Retries::before(began + deadline);
        let mut count = 1;
        while retries.again(&error).await {
            count += 1;
        }
        (count, began.elapsed())
    }

    /// I9
    #[tokio::test(start_paused = true)]
    async fn an_engine_that_is_away_is_tried_for_seconds_and_within_the_time_out() {
        let (count, took) = tries(unreachable(), Duration::from_mins(1)).await;
        assert!((8..=16).contains(&count) && took + PAUSE_MAX >= SILENCE_MAX, "{count} in {took:?}");
        assert!(took <= SILENCE_MAX, "{took:?}");

        let (_, took) = tries(unreachable(), Duration::from_secs(1)).await;
        assert!(took <= Duration::from_secs(1), "{took:?}");
    }

    /// I7, I9
    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_a_few_times_and_a_refusal_once() {
        let failed = EngineError::Failed { action: "x", reason: String::new(), is_answer: true };
        let (count, took) = tries(failed, Duration::from_mins(1)).await;
        assert!(count == ANSWERED_FAILURES_MAX + 1 && took < Duration::from_secs(1), "{count} in {took:?}");

        for error in [
            EngineError::Refused { action: "x", status: 409, reason: String::new() },
            EngineError::TimedOut { action: "x", after: Duration::ZERO },
            EngineError::Gone { reason: String::new() },
        ] {
            assert_eq!(tries(error, Duration::from_mins(1)).await, (1, Duration::ZERO));
        }
    }
}
