//! When a connection has to end from our side, and when its users are to be warned of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use humantime::format_duration;
use tokio::time::{Instant, sleep_until};

use crate::session::Cut;

/// How long before the end a user is warned; half the limit where that is shorter.
const WARNING: Duration = Duration::from_mins(1);

/// When something was last sent in either direction.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    last_milliseconds: AtomicU64,
}

impl Activity {
    pub(super) fn begin() -> Self {
        Self { start: Instant::now(), last_milliseconds: AtomicU64::new(0) }
    }

    /// Something was sent.
    pub(super) fn note(&self) {
        let milliseconds = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_milliseconds.store(milliseconds, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last_milliseconds.load(Ordering::Relaxed))
    }
}

/// What users are told before the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The server goes down, in so long at the latest.
    Draining(Duration),
    /// The connection has lived almost as long as it may.
    Lifetime(Duration),
    /// Nothing has happened for almost as long as that may be.
    Idle(Duration),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining(within) => {
                write!(f, "the server is shutting down; this session ends in {}", format_duration(*within))
            }
            Self::Lifetime(within) => {
                write!(f, "this connection has reached its limit and ends in {}", format_duration(*within))
            }
            Self::Idle(within) => {
                write!(f, "nothing has happened for long; this session ends in {}", format_duration(*within))
            }
        }
    }
}

/// What a curfew brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Warn.
    Warn(Notice),
    /// End.
    End(Cut),
}

/// The limits of one connection; `None` for no limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Curfew {
    /// From the login on.
    pub(super) lifetime: Option<Duration>,
    /// Without anything sent.
    pub(super) idle: Option<Duration>,
}

/// A curfew of a connection that lives.
#[derive(Debug)]
pub(super) struct Clock {
    curfew: Curfew,
    begun: Instant,
    lifetime_warned: bool,
    /// For which silence a warning was given: a new silence gets a new one.
    idle_warned: Option<Instant>,
}

impl Clock {
    pub(super) fn start(curfew: Curfew) -> Self {
        Self { curfew, begun: Instant::now(), lifetime_warned: false, idle_warned: None }
    }

    /// Waits for the next call. Cancel safe.
    pub(super) async fn next(&mut self, activity: &Activity) -> Call {
        loop {
            let last = activity.last();
            let lifetime = self.curfew.lifetime.map(|limit| self.begun + limit);
            let idle = self.curfew.idle.map(|limit| last + limit);
            let lifetime_warning = lifetime.map(|end| end - warning(self.curfew.lifetime));
            let idle_warning = idle.map(|end| end - warning(self.curfew.idle));
            let now = Instant::now();
            let due = |moment: Option<Instant>| moment.is_some_and(|moment| moment <= now);
            if due(lifetime) {
                return Call::End(Cut::Lifetime(self.curfew.lifetime.unwrap_or_default()));
            }
            if due(idle) {
                return Call::End(Cut::Idle(self.curfew.idle.unwrap_or_default()));
            }
            if due(lifetime_warning) && !self.lifetime_warned {
                self.lifetime_warned = true;
                return Call::Warn(Notice::Lifetime(warning(self.curfew.lifetime)));
            }
            if due(idle_warning) && self.idle_warned != Some(last) {
                self.idle_warned = Some(last);
                return Call::Warn(Notice::Idle(warning(self.curfew.idle)));
            }
            let moments = [lifetime, idle, lifetime_warning, idle_warning];
            match moments.into_iter().flatten().filter(|moment| *moment > now).min() {
                Some(moment) => sleep_until(moment).await,
                None => std::future::pending().await,
            }
        }
    }
}

fn warning(limit: Option<Duration>) -> Duration {
    limit.map_or(WARNING, |limit| WARNING.min(limit / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// L13
    #[tokio::test(start_paused = true)]
    async fn a_connection_is_warned_and_then_ended_at_its_lifetime() {
        let activity = Activity::begin();
        let mut clock = Clock::start(Curfew { lifetime: Some(seconds(600)), idle: None });
        let begun = Instant::now();

        assert_eq!(clock.next(&activity).await, Call::Warn(Notice::Lifetime(seconds(60))));
        assert_eq!(begun.elapsed(), seconds(540));
        assert_eq!(clock.next(&activity).await, Call::End(Cut::Lifetime(seconds(600))));
        assert_eq!(begun.elapsed(), seconds(600));
    }

    /// L13
    #[tokio::test(start_paused = true)]
    async fn whatever_is_sent_begins_a_new_silence() {
        let activity = Activity::begin();
        let mut clock = Clock::start(Curfew { lifetime: None, idle: Some(seconds(20)) });

        assert_eq!(clock.next(&activity).await, Call::Warn(Notice::Idle(seconds(10))));
        advance(seconds(5)).await;
        activity.note();
        let silence = Instant::now();

        assert_eq!(clock.next(&activity).await, Call::Warn(Notice::Idle(seconds(10))));
        assert_eq!(clock.next(&activity).await, Call::End(Cut::Idle(seconds(20))));
        assert_eq!(silence.elapsed(), seconds(20));
    }

    #[tokio::test(start_paused = true)]
    async fn without_limits_nothing_ever_comes() {
        let mut clock = Clock::start(Curfew::default());
        let activity = Activity::begin();

        assert!(tokio::time::timeout(seconds(1_000_000), clock.next(&activity)).await.is_err());
    }
}
