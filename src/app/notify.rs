//! What a service manager is told of us, where there is one (`sd_notify(3)`): that we are ready, reload or stop, and, where
//! it has a watchdog, that we are alive. Without one nothing happens.
//!
//! A message is written by the main loop at once. A manager that does not read holds up that loop and none of the
//! connections.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;

/// Of the watchdog's time; half of it passes between two beats, as `sd_watchdog_enabled(3)` wants it.
const BEATS_PER_LIMIT: u32 = 2;

/// How often a manager is asked for more time while we end: for as long as sessions may last, however long that is.
const MORE_TIME_INTERVAL: Duration = Duration::from_secs(30);

/// How much each time.
const MORE_TIME_MICROSECONDS: u32 = 120_000_000;

/// Who started us and wants to know how we are.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// `None`: nobody waits for signs of life.
    beats: Option<Interval>,
    tasks: TaskTracker,
}

impl Supervisor {
    /// As the environment says.
    pub(super) fn of_this_process() -> Self {
        let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
        let beats = limit.map(|limit| {
            let mut beats = interval(limit / BEATS_PER_LIMIT);
            // After a stall one beat says as much as several.
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beats
        });
        Self { beats, tasks: TaskTracker::new() }
    }

    /// Clients can connect.
    pub(super) fn ready(address: SocketAddr) {
        tell(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {address}"))]);
    }

    /// The configuration is being read again; [`Supervisor::ready`] follows.
    pub(super) fn reloading() {
        match NotifyState::monotonic_usec_now() {
            // The time tells the manager which of its own requests this answers.
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the service manager is not told of the reload"),
        }
    }

    /// The end has begun.
    pub(super) fn stopping() {
        let patience = NotifyState::ExtendTimeoutUsec(MORE_TIME_MICROSECONDS);
        tell(&[NotifyState::Stopping, NotifyState::Status("waiting for sessions to end"), patience]);
    }

    /// Says that we are alive, and that it takes longer, until `work` is done.
    pub(super) async fn end_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut more_time = interval(MORE_TIME_INTERVAL);
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.beat() => {}
                _ = more_time.tick() => tell(&[NotifyState::ExtendTimeoutUsec(MORE_TIME_MICROSECONDS)]),
            }
        }
    }

    /// Waits until it is time, and says that we are alive. Cancel safe: a beat that was cancelled is lost, and the next
    /// one comes in time.
    pub(super) async fn beat(&mut self) {
        let Some(beats) = &mut self.beats else { return std::future::pending().await };
        beats.tick().await;
        // The main loop has a thread to itself. Those that serve connections have to have come round, too.
        if self.tasks.spawn(async {}).await.is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// Says that we are alive until `work` is done.
    pub(super) async fn beat_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.beat() => {}
            }
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told how we are");
    }
}
