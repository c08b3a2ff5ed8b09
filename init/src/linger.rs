//! How long a program's output goes on after its end. `src/engine/init/output.rs` has the same times for pipes of the
//! server's, but goes by the clock alone: it cannot tell a client that pauses from one that is slow for ever.

use std::time::{Duration, Instant};

/// How long what a program leaves behind may be silent before its output is taken to be complete. sshd would wait for
/// the last of them to go, and a daemon that forgot to close its output would hold the session for ever.
const SILENCE: Duration = Duration::from_secs(1);

/// How long it may go on writing.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// How long output waits for the server before that is no part of its flow any more: windows fill up and are opened again
/// all the time.
const STALL_MIN: Duration = Duration::from_millis(200);

/// The time from a program's end until what is there is the rest. It stands still while output stalls: whoever writes it
/// can do nothing then, and must not lose it because the client looks elsewhere.
#[derive(Debug)]
pub(crate) struct Linger {
    silent_at: Instant,
    until: Instant,
    /// Up to when time has been counted.
    seen_at: Instant,
    /// Since when output waits for the server.
    held_since: Option<Instant>,
}

impl Linger {
    /// The program has ended.
    pub(crate) fn new(now: Instant) -> Self {
        Self { silent_at: now + SILENCE, until: now + LINGER_MAX, seen_at: now, held_since: None }
    }

    /// Something was read.
    pub(crate) fn break_silence(&mut self, now: Instant) {
        self.silent_at = now + SILENCE;
    }

    /// Counts the time that has passed. It has to be told before what holds the output up is gone.
    pub(crate) fn pass(&mut self, now: Instant, is_held_up: bool) {
        if is_held_up || self.held_since.is_some() {
            let held_since = self.held_since.unwrap_or(self.seen_at);
            let stalled = now.saturating_duration_since(self.seen_at.max(held_since + STALL_MIN));
            self.silent_at += stalled;
            self.until += stalled;
            self.held_since = is_held_up.then_some(held_since);
        }
        self.seen_at = now;
    }

    /// Whether it is over, given whether there is anything to read.
    pub(crate) fn is_over(&self, now: Instant, has_output: bool) -> bool {
        now >= self.until || (now >= self.silent_at && !has_output)
    }

    /// When to look again, if nothing happens before.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        match self.held_since {
            None => Some(self.silent_at.min(self.until)),
            // What waits for the server is no silence.
            Some(since) => Some(self.until).filter(|until| *until < since + STALL_MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(began: Instant, milliseconds: u64) -> Instant {
        began + Duration::from_millis(milliseconds)
    }

    #[test]
    fn silence_ends_it() {
        let began = Instant::now();
        let mut linger = Linger::new(began);
        linger.pass(after(began, 900), false);
        linger.break_silence(after(began, 900));

        assert_eq!(linger.next_look(), Some(after(began, 1900)));
        assert!(!linger.is_over(after(began, 1899), false));
        // There is something to read, so it is none.
        assert!(!linger.is_over(after(began, 1900), true));
        assert!(linger.is_over(after(began, 1900), false));
    }

    #[test]
    fn noise_does_not_go_on_for_ever() {
        let began = Instant::now();
        let mut linger = Linger::new(began);
        linger.break_silence(after(began, 1999));

        assert!(!linger.is_over(after(began, 1999), true));
        assert!(linger.is_over(after(began, 2000), true));
    }

    #[test]
    fn time_in_which_output_stalls_does_not_count() {
        let began = Instant::now();
        let mut linger = Linger::new(began);
        linger.pass(after(began, 500), false);
        linger.pass(after(began, 500), true);
        assert_eq!(linger.next_look(), None);

        // All of it but what is usual.
        linger.pass(after(began, 5000), true);
        linger.pass(after(began, 9500), true);
        linger.pass(after(began, 9500), false);

        assert_eq!(linger.next_look(), Some(after(began, 1000 + 8800)));
        assert!(!linger.is_over(after(began, 2000 + 8799), true));
        assert!(linger.is_over(after(began, 2000 + 8800), true));
    }

    #[test]
    fn time_in_which_it_flows_by_fits_and_starts_does() {
        let began = Instant::now();
        let mut linger = Linger::new(began);
        for at in (0..2000).step_by(100) {
            linger.pass(after(began, at), false);
            linger.pass(after(began, at), true);
            linger.pass(after(began, at + 99), true);
            assert!(!linger.is_over(after(began, at + 99), true));
        }

        assert_eq!(linger.next_look(), Some(after(began, 2000)));
        assert!(linger.is_over(after(began, 2000), true));
    }
}
