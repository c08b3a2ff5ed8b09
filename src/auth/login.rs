//! One connection's way in: what it has proven so far, and how often it has guessed wrong.

use super::Method;
use super::door::Proof;

/// Wrong passwords and codes on a connection, after which nothing is judged any more: OpenSSH's
/// `MaxAuthTries`. Keys that are only offered do not count here.
pub(super) const GUESSES_MAX: u32 = 6;

/// What a connection has proven so far. All of it belongs to one user name: with another it begins anew.
#[derive(Debug, Default)]
pub struct Login {
    /// The name as the client typed it.
    pub(super) typed: String,
    /// Proofs that were accepted, in their order.
    pub(super) passed: Vec<Method>,
    /// What they have shown so far.
    pub(super) shown: Proof,
    /// The key that was judged when it was offered, by its blob, and what came of it: a hook need not be asked again
    /// about its signature.
    pub(super) offered: Option<(Vec<u8>, Option<Proof>)>,
    guesses: u32,
}

impl Login {
    /// Begins anew where the name is another than before (RFC 4252 §5). Wrong guesses stay.
    pub(super) fn bind(&mut self, typed: &str) {
        if self.typed != typed {
            self.forget();
            typed.clone_into(&mut self.typed);
        }
    }

    /// Begins anew, as nobody yet: of what was shown nothing is to be found in a later login. Wrong guesses stay.
    pub fn forget(&mut self) {
        *self = Self { guesses: self.guesses, ..Self::default() };
    }

    pub(super) fn guessed_wrong(&mut self) {
        self.guesses = self.guesses.saturating_add(1);
    }

    /// The proofs that were accepted, in their order: `publicKey+totp`.
    #[must_use]
    pub fn passed(&self) -> String {
        let names: Vec<&str> = self.passed.iter().map(|method| method.name()).collect();
        names.join("+")
    }

    /// Whether there were as many wrong guesses as there may be.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.guesses >= GUESSES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A8
    #[test]
    fn another_name_begins_anew_but_for_the_wrong_guesses() {
        let mut login = Login::default();
        login.bind("alice");
        login.passed.push(Method::PublicKey);
        for _ in 0..GUESSES_MAX {
            login.guessed_wrong();
        }

        login.bind("bob");

        assert!(login.passed.is_empty());
        assert!(login.is_exhausted());
    }

    /// A7: who was not let in by the one key leaves nothing behind for the other.
    #[test]
    fn what_is_forgotten_is_found_in_no_later_login() {
        let mut login = Login::default();
        login.bind("alice");
        login.passed.push(Method::PublicKey);
        login.shown.key_fingerprint = Some("SHA256:one".to_owned());
        login.guessed_wrong();

        login.forget();

        assert!(login.passed.is_empty() && login.shown.key_fingerprint.is_none());
        assert_eq!(login.guesses, 1);
    }
}
