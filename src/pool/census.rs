//! How many containers there are, of whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{LaunchError, Limits};

/// Counts containers from before their creation until after their removal.
#[derive(Clone, Debug, Default)]
pub(super) struct Census {
    /// Per user name; a name without containers has no entry.
    counts: Arc<Mutex<HashMap<String, u32>>>,
}

/// One counted container; dropping it counts it off.
#[derive(Debug)]
pub(super) struct Counted {
    census: Census,
    username: String,
}

impl Census {
    /// Counts one more container, unless a limit forbids it.
    pub(super) fn count(&self, username: &str, limits: &Limits) -> Result<Counted, LaunchError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let all: u32 = counts.values().sum();
        let own = counts.get(username).copied().unwrap_or_default();
        if limits.containers != 0 && all >= limits.containers {
            return Err(LaunchError::TooMany);
        }
        if limits.containers_per_user != 0 && own >= limits.containers_per_user {
            return Err(LaunchError::TooManyOfUser(limits.containers_per_user));
        }
        counts.insert(username.to_owned(), own + 1);
        Ok(Counted { census: self.clone(), username: username.to_owned() })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.census.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.username) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.username)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limits(containers: u32, containers_per_user: u32) -> Limits {
        Limits { launch_timeout: Duration::ZERO, containers, containers_per_user }
    }

    #[test]
    fn limits_hold_per_user_and_for_all_until_a_container_is_gone() {
        let (census, limits) = (Census::default(), limits(3, 2));
        let first = census.count("alice", &limits).unwrap();
        let _second = census.count("alice", &limits).unwrap();

        assert!(matches!(census.count("alice", &limits), Err(LaunchError::TooManyOfUser(2))));
        let _third = census.count("bob", &limits).unwrap();
        assert!(matches!(census.count("carol", &limits), Err(LaunchError::TooMany)));
        drop(first);
        assert!(census.count("carol", &limits).is_ok());
    }

    #[test]
    fn without_limits_anything_goes() {
        let census = Census::default();

        let counted: Vec<_> = (0..100).map(|_| census.count("alice", &limits(0, 0)).unwrap()).collect();

        assert_eq!(counted.len(), 100);
    }
}
