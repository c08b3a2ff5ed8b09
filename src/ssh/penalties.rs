//! Sources that misbehaved before a login are refused for a while, in the manner of OpenSSH's `PerSourcePenalties`.
//! Knows nothing of connections: it is told what somebody did, and says who is refused for how long.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::config;
use super::network::{Network, Source};

/// Sources that are remembered, as at OpenSSH. Past it the least punished is forgotten.
const SOURCES_MAX: usize = 65_536;

/// Bans in a row up to which each makes the penalties of the next double; after so many all reach `max`.
const DOUBLINGS_MAX: u32 = 16;

/// Who is refused, and until when.
#[derive(Debug)]
pub(super) struct Penalties {
    state: Mutex<State>,
    sources_max: usize,
}

/// One client until its login: what it does wrong is its source's.
#[derive(Debug)]
pub(super) struct Suspect {
    penalties: Arc<Penalties>,
    address: IpAddr,
    tried: AtomicBool,
    guessed: AtomicBool,
}

/// What somebody can be punished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offence {
    /// A wrong password or code.
    GuessFailed,
    /// A connection without any attempt to log in.
    LeftWithoutTrying,
    /// The login grace time was over.
    GraceExceeded,
}

#[derive(Debug, Default)]
struct State {
    config: config::Penalties,
    /// Their own addresses are no client's: health checks of a proxy must not lock it out.
    proxies: Vec<Network>,
    records: HashMap<Source, Record>,
    /// The same by their ends, so that the least punished is found at once.
    by_end: BTreeSet<(Instant, Source)>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// When all penalties are served.
    end: Instant,
    /// Refused until `end`.
    banned: bool,
    /// Bans so far, in a row.
    bans: u32,
}

impl Penalties {
    /// Nobody is punished yet.
    #[must_use]
    pub(super) fn new(config: config::Penalties, proxies: Vec<Network>) -> Self {
        let state = State { config, proxies, ..State::default() };
        Self { state: Mutex::new(state), sources_max: SOURCES_MAX }
    }

    /// From now on by these rules; who is punished stays so, unless exempt now.
    pub(super) fn configure(&self, config: config::Penalties, proxies: Vec<Network>) {
        let mut state = self.state();
        (state.config, state.proxies) = (config, proxies);
    }

    /// To be told of every wrong guess (a password, a code, a signature by an unknown key), when it is made.
    pub(super) fn guess_failed(&self, address: IpAddr) {
        self.punish(address, Offence::GuessFailed, Instant::now());
    }

    /// To be told of a connection that ends without any attempt to log in.
    pub(super) fn left_without_trying(&self, address: IpAddr) {
        self.punish(address, Offence::LeftWithoutTrying, Instant::now());
    }

    /// To be told of a connection whose login grace time is over.
    pub(super) fn grace_exceeded(&self, address: IpAddr) {
        self.punish(address, Offence::GraceExceeded, Instant::now());
    }

    /// For how long yet connections from here are refused, if they are.
    #[must_use]
    pub(super) fn is_banned(&self, address: IpAddr) -> Option<Duration> {
        self.ban(address, Instant::now())
    }

    fn ban(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let state = self.state();
        let record = state.records.get(&Source::of(address))?;
        (record.banned && now < record.end && !state.spares(address)).then(|| record.end - now)
    }

    fn punish(&self, address: IpAddr, offence: Offence, now: Instant) {
        let mut state = self.state();
        let penalty = state.penalty_for(offence);
        if penalty.is_zero() || state.spares(address) {
            return;
        }
        let source = Source::of(address);
        let (min, max) = (state.config.min.get(), state.config.max.get());
        let mut record = match state.take(source) {
            // Good for as long as the longest ban lasts: forgiven.
            Some(old) if old.end + max > now => old,
            _ => Record { end: now, banned: false, bans: 0 },
        };
        if record.end <= now {
            (record.end, record.banned) = (now, false);
        }
        // Repeaters pay double for each ban before this one.
        let bans_before = record.bans - u32::from(record.banned);
        let factor = 1 << bans_before.min(DOUBLINGS_MAX);
        record.end = (record.end + penalty.saturating_mul(factor).min(max)).min(now + max);
        let ban_begins = !record.banned && record.end - now >= min;
        if ban_begins {
            record.banned = true;
            record.bans += 1;
        }
        state.put(source, record, now, self.sources_max);
        drop(state);
        if ban_begins {
            let seconds = (record.end - now).as_secs();
            tracing::info!(%source, seconds, bans = record.bans, "refused for a while");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Suspect {
    pub(super) fn new(penalties: &Arc<Penalties>, address: IpAddr) -> Self {
        Self {
            penalties: Arc::clone(penalties),
            address,
            tried: AtomicBool::new(false),
            guessed: AtomicBool::new(false),
        }
    }

    /// It offers a key, or anything else that is an attempt and proves nothing yet.
    pub(super) fn tries(&self) {
        self.tried.store(true, Ordering::Relaxed);
    }

    /// A password, a code or a signature of its was wrong.
    pub(super) fn guess_failed(&self) {
        self.guessed.store(true, Ordering::Relaxed);
        self.penalties.guess_failed(self.address);
    }

    /// It ended without a login.
    pub(super) fn leaves(&self) {
        if self.guessed.load(Ordering::Relaxed) {
            return;
        }
        if self.tried.load(Ordering::Relaxed) {
            // All the keys of a connection are one guess: an agent may have many.
            self.penalties.guess_failed(self.address);
        } else {
            self.penalties.left_without_trying(self.address);
        }
    }

    /// Its login grace time is over.
    pub(super) fn exceeds_grace(&self) {
        self.penalties.grace_exceeded(self.address);
    }
}

impl State {
    fn penalty_for(&self, offence: Offence) -> Duration {
        if !self.config.enabled {
            return Duration::ZERO;
        }
        let penalty = match offence {
            Offence::GuessFailed => self.config.auth_failure,
            Offence::LeftWithoutTrying => self.config.no_auth,
            Offence::GraceExceeded => self.config.grace_exceeded,
        };
        penalty.get()
    }

    fn spares(&self, address: IpAddr) -> bool {
        let mut spared = self.config.exempt.iter().chain(&self.proxies);
        !self.config.enabled || spared.any(|network| network.contains(address))
    }

    fn take(&mut self, source: Source) -> Option<Record> {
        let record = self.records.remove(&source)?;
        self.by_end.remove(&(record.end, source));
        Some(record)
    }

    fn put(&mut self, source: Source, record: Record, now: Instant, sources_max: usize) {
        self.records.insert(source, record);
        self.by_end.insert((record.end, source));
        let max = self.config.max.get();
        while let Some((end, least)) = self.by_end.first().copied()
            && (self.records.len() > sources_max || end + max <= now)
        {
            self.take(least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> config::Penalties {
        config::Penalties { exempt: Vec::new(), ..config::Penalties::default() }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn guess(penalties: &Penalties, from: &str, times: u32, now: Instant) {
        for _ in 0..times {
            penalties.punish(address(from), Offence::GuessFailed, now);
        }
    }

    /// A10
    #[test]
    fn ten_wrong_guesses_lock_one_source_out_for_a_while() {
        let penalties = Penalties::new(config(), Vec::new());
        let begin = Instant::now();

        guess(&penalties, "192.0.2.1", 7, begin);
        assert_eq!(penalties.ban(address("192.0.2.1"), begin), None);
        guess(&penalties, "192.0.2.1", 3, begin);

        assert_eq!(penalties.ban(address("192.0.2.1"), begin), Some(20 * SECOND));
        // Below `min` by now, and refused to the end all the same.
        assert_eq!(penalties.ban(address("192.0.2.1"), begin + 19 * SECOND), Some(SECOND));
        assert_eq!(penalties.ban(address("192.0.2.1"), begin + 20 * SECOND), None);
        assert_eq!(penalties.ban(address("192.0.2.2"), begin), None);
    }

    /// A10
    #[test]
    fn all_the_keys_of_a_connection_without_a_login_cost_one_guess() {
        let penalties = Arc::new(Penalties::new(config(), Vec::new()));

        for _ in 0..10 {
            let suspect = Suspect::new(&penalties, address("192.0.2.1"));
            suspect.tries();
            suspect.tries();
            suspect.leaves();
        }

        let owed = penalties.is_banned(address("192.0.2.1")).unwrap();
        assert!(owed > 15 * SECOND && owed <= 20 * SECOND, "{owed:?}");
    }

    #[test]
    fn guesses_that_come_slowly_are_served_in_between() {
        let penalties = Penalties::new(config(), Vec::new());
        let begin = Instant::now();

        for nth in 0..100 {
            guess(&penalties, "192.0.2.1", 1, begin + nth * 2 * SECOND);
        }

        assert_eq!(penalties.ban(address("192.0.2.1"), begin + 199 * SECOND), None);
    }

    /// A10
    #[test]
    fn each_ban_in_a_row_lasts_longer_up_to_the_most_and_is_forgiven_in_the_end() {
        let penalties = Penalties::new(config(), Vec::new());
        let mut now = Instant::now();
        let mut bans = Vec::new();

        for _ in 0..8 {
            guess(&penalties, "192.0.2.1", 8, now);
            let ban = penalties.ban(address("192.0.2.1"), now).unwrap();
            bans.push(ban.as_secs());
            now += ban;
        }
        assert_eq!(bans, [16, 32, 64, 128, 256, 512, 600, 600]);

        now += 600 * SECOND;
        guess(&penalties, "192.0.2.1", 8, now);
        assert_eq!(penalties.ban(address("192.0.2.1"), now), Some(16 * SECOND));
    }

    #[test]
    fn what_is_exempt_a_proxy_or_switched_off_is_never_punished() {
        let now = Instant::now();
        let exempt = config::Penalties::default();
        let proxied = Penalties::new(exempt.clone(), vec!["198.51.100.7".parse().unwrap()]);

        for from in ["127.0.0.1", "::1", "::ffff:127.0.0.9", "198.51.100.7"] {
            guess(&proxied, from, 100, now);
            assert_eq!(proxied.ban(address(from), now), None, "{from}");
        }

        for config in [
            config::Penalties { enabled: false, ..exempt.clone() },
            config::Penalties { auth_failure: "0".parse().unwrap(), ..exempt },
        ] {
            let off = Penalties::new(config, Vec::new());
            guess(&off, "192.0.2.1", 100, now);
            assert_eq!(off.ban(address("192.0.2.1"), now), None);
        }
    }

    #[test]
    fn each_offence_has_its_price() {
        let penalties = Penalties::new(config(), Vec::new());
        let now = Instant::now();

        for _ in 0..2 {
            penalties.punish(address("2001:db8::1"), Offence::GraceExceeded, now);
            penalties.punish(address("2001:db8::2"), Offence::LeftWithoutTrying, now);
        }

        assert_eq!(penalties.ban(address("2001:db8::3"), now), Some(22 * SECOND));
    }

    #[test]
    fn of_too_many_sources_the_least_punished_is_forgotten() {
        let penalties = Penalties { sources_max: 3, ..Penalties::new(config(), Vec::new()) };
        let now = Instant::now();
        guess(&penalties, "192.0.2.1", 10, now);

        for last in 2..200 {
            guess(&penalties, &format!("192.0.2.{last}"), 1, now);
        }

        assert!(penalties.ban(address("192.0.2.1"), now).is_some());
        let state = penalties.state();
        assert_eq!((state.records.len(), state.by_end.len()), (3, 3));
    }

    #[test]
    fn what_was_served_long_ago_takes_no_memory() {
        let penalties = Penalties::new(config(), Vec::new());
        let begin = Instant::now();
        for last in 0..100 {
            guess(&penalties, &format!("192.0.2.{last}"), 1, begin);
        }

        guess(&penalties, "198.51.100.1", 1, begin + 700 * SECOND);

        assert_eq!(penalties.state().records.len(), 1);
    }
}
