//! Checks of passwords: away from the event loop, a few at a time, in the same time whoever is asked for.

mod hash;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

pub use hash::PasswordHash;

use crate::secret::Secret;

/// Longest password that is looked at, in bytes. sha512-crypt takes longer the longer it is.
pub const PASSWORD_BYTES_MAX: usize = 512;

/// Checks that run at a time, each on a processor and with the memory of its hash.
pub(super) const CHECKS_MAX: usize = 4;

/// How long an attempt waits for its turn. Past it, it is denied, and the log says so.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Different costs of hashes that an attempt is made to pay for; of more, the dearest.
const COSTS_MAX: usize = 4;

/// Checks passwords against hashes.
///
/// A denial takes one check of each cost that the configuration has hashes of, so that its time tells neither whether a
/// user exists nor which kind of hash is theirs.
#[derive(Clone, Debug)]
pub struct PasswordChecker {
    /// One for each cost, the dearest first.
    decoys: Arc<[PasswordHash]>,
    turns: Arc<Semaphore>,
}

impl PasswordChecker {
    /// For a configuration with these hashes.
    #[must_use]
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a PasswordHash>) -> Self {
        Self { decoys: decoys(configured), turns: Arc::new(Semaphore::new(CHECKS_MAX)) }
    }

    /// For a configuration that was read again. Both together do not run more checks at a time than one.
    #[must_use]
    pub fn reloaded<'a>(&self, configured: impl IntoIterator<Item = &'a PasswordHash>) -> Self {
        Self { decoys: decoys(configured), turns: Arc::clone(&self.turns) }
    }

    /// Whether `hash` is of `password`; without a hash (no such user, or none with a password) it never is, after the
    /// same time. Cancel safe: a check under way goes on, and keeps its turn until it is done.
    pub async fn check(&self, hash: Option<&PasswordHash>, password: &Secret<String>) -> bool {
        let Ok(Ok(turn)) = timeout(TURN_TIMEOUT, Arc::clone(&self.turns).acquire_owned()).await else {
            let (seconds, at_a_time) = (TURN_TIMEOUT.as_secs(), CHECKS_MAX);
            tracing::warn!(seconds, at_a_time, "a password was denied unchecked: too many at a time");
            return false;
        };
        let (hash, password, decoys) = (hash.cloned(), password.clone(), Arc::clone(&self.decoys));
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            compare(hash.as_ref(), password.expose().as_bytes(), &decoys)
        });
        checked.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the check of a password failed");
            false
        })
    }
}

/// One hash for each cost among `configured`; of [`PasswordHash::of`]'s cost if there is none.
fn decoys<'a>(configured: impl IntoIterator<Item = &'a PasswordHash>) -> Arc<[PasswordHash]> {
    let mut costs = Vec::new();
    for hash in configured {
        if !costs.contains(&hash.cost()) {
            costs.push(hash.cost());
        }
    }
    if costs.is_empty() {
        costs.push(hash::Cost::default());
    }
    costs.sort_by_key(|cost| std::cmp::Reverse(cost.microseconds()));
    costs.into_iter().take(COSTS_MAX).map(hash::Cost::decoy).collect()
}

/// Pays for a check of each cost, unless the password is right.
fn compare(hash: Option<&PasswordHash>, password: &[u8], decoys: &[PasswordHash]) -> bool {
    // What is too long is denied, but only after as much work.
    let examined = password.get(..PASSWORD_BYTES_MAX).unwrap_or(password);
    let same = hash.is_some_and(|hash| hash.matches(examined)) && examined.len() == password.len();
    if same {
        return true;
    }
    for decoy in decoys.iter().filter(|decoy| hash.is_none_or(|hash| hash.cost() != decoy.cost())) {
        black_box(decoy.matches(examined));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
    const BCRYPTS_PASSWORD: &str = "correct horse";
    const ARGON2ID: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn hash(text: &str) -> PasswordHash {
        text.parse().unwrap()
    }

    fn secret(text: impl Into<String>) -> Secret<String> {
        Secret::new(text.into())
    }

    /// The processor time that a denial of each takes, at the least. Taken in turns, so that the machine's other work
    /// disturbs all of them alike.
    fn times<const N: usize>(
        denied: [(Option<&PasswordHash>, &str); N],
        decoys: &[PasswordHash],
    ) -> [Duration; N] {
        let mut least = [Duration::MAX; N];
        for _ in 0..9 {
            for ((hash, password), least) in denied.iter().zip(&mut least) {
                let start = processor_time();
                assert!(!compare(*hash, password.as_bytes(), decoys));
                *least = (*least).min(processor_time().saturating_sub(start));
            }
        }
        least
    }

    fn processor_time() -> Duration {
        rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap()
    }

    fn are_alike(times: &[Duration]) -> bool {
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        most.as_secs_f64() < least.as_secs_f64() * 1.5
    }

    /// A1
    #[tokio::test]
    async fn the_right_password_of_an_existing_user_is_the_only_one_let_in() {
        let (bcrypt, argon2id) = (hash(BCRYPT), hash(ARGON2ID));
        let checker = PasswordChecker::new([&bcrypt, &argon2id]);

        assert!(checker.check(Some(&bcrypt), &secret(BCRYPTS_PASSWORD)).await);
        assert!(checker.check(Some(&argon2id), &secret("password")).await);
        assert!(!checker.check(Some(&argon2id), &secret(BCRYPTS_PASSWORD)).await);
        assert!(!checker.check(Some(&bcrypt), &secret("")).await);
        assert!(!checker.check(None, &secret("password")).await);
        assert!(!PasswordChecker::new([]).check(None, &secret("")).await);
    }

    /// A1
    #[test]
    fn a_denial_takes_the_same_time_whoever_is_asked_for() {
        let (dear, cheap) = (hash(&ARGON2ID.replace("m=256", "m=4096")), hash(BCRYPT));
        let decoys = decoys([&cheap, &dear, &cheap]);

        let times = times([(None, "x"), (Some(&dear), "x"), (Some(&cheap), "x")], &decoys);

        assert_eq!(decoys.len(), 2);
        assert!(are_alike(&times), "{times:?}");
    }

    /// A1
    #[test]
    fn a_password_that_is_too_long_is_denied_after_a_check_like_any_other() {
        let longest = "x".repeat(PASSWORD_BYTES_MAX);
        // bcrypt looks at the first 72 bytes alone, so the longer one has the same hash.
        let bcrypt = hash(&bcrypt::hash(&longest, 6).unwrap());
        let decoys = decoys([&bcrypt]);
        let too_long = longest.clone() + "x";

        assert!(compare(Some(&bcrypt), longest.as_bytes(), &decoys));
        assert!(!compare(Some(&bcrypt), too_long.as_bytes(), &decoys));
        let times = times([(Some(&bcrypt), "wrong"), (Some(&bcrypt), &"y".repeat(100_000))], &decoys);
        assert!(are_alike(&times), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_whose_turn_does_not_come_is_denied() {
        let bcrypt = hash(BCRYPT);
        let checker = PasswordChecker::new([&bcrypt]);
        let reloaded = checker.reloaded([]);
        let all = u32::try_from(CHECKS_MAX).unwrap();
        let turns = Arc::clone(&checker.turns).acquire_many_owned(all).await.unwrap();

        assert!(!checker.check(Some(&bcrypt), &secret(BCRYPTS_PASSWORD)).await);
        assert!(!reloaded.check(Some(&bcrypt), &secret(BCRYPTS_PASSWORD)).await);
        drop(turns);
        assert!(checker.check(Some(&bcrypt), &secret(BCRYPTS_PASSWORD)).await);
    }

    #[test]
    fn of_many_costs_the_dearest_are_paid_for() {
        let hashes: Vec<_> =
            (1..=8).map(|passes| hash(&ARGON2ID.replace("t=2", &format!("t={passes}")))).collect();

        let decoys = decoys(&hashes);

        let costs: Vec<_> = decoys.iter().map(|decoy| decoy.cost().microseconds() / 256).collect();
        assert_eq!(costs, [8, 7, 6, 5]);
    }
}
