//! How many containers there are: of whom, of which profile, and how many that nobody has yet.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{LaunchError, Limits};
use crate::engine::{LABEL_PROFILE, LABEL_USERNAME};

/// Counts containers from before their creation until after their removal. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Census {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<Counts>,
    /// Told whenever there may be room, or a container to be had.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    /// Of them, those that nobody has yet.
    unclaimed: u32,
    /// People who wait for room, by the profile that they are to have, in the order in which they came.
    line: VecDeque<(u64, String)>,
    last_ticket: u64,
    /// Per user name; one without containers has no entry.
    users: HashMap<String, u32>,
    /// Per profile; the same.
    profiles: HashMap<String, OfProfile>,
}

#[derive(Debug, Default)]
struct OfProfile {
    all: u32,
    unclaimed: u32,
}

/// Whose a container is to be.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub(super) username: String,
    /// Empty for what everybody gets.
    pub(super) profile: String,
}

impl Who {
    pub(super) fn of(labels: &BTreeMap<String, String>) -> Self {
        let text = |name| labels.get(name).cloned().unwrap_or_default();
        Self { username: text(LABEL_USERNAME), profile: text(LABEL_PROFILE) }
    }
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Server,
    Profile,
    User(u32),
}

impl From<Full> for LaunchError {
    fn from(full: Full) -> Self {
        match full {
            Full::Server | Full::Profile => Self::TooMany,
            Full::User(limit) => Self::TooManyOfUser(limit),
        }
    }
}

/// One counted container; dropping it counts it off.
#[derive(Debug)]
pub(super) struct Counted {
    census: Census,
    /// `None` while nobody has it.
    username: Option<String>,
    profile: String,
}

/// Somebody who waits for room; dropping it ends the wait.
#[derive(Debug)]
pub(super) struct InLine {
    census: Census,
    ticket: u64,
}

impl Census {
    /// Counts one more container, unless a limit forbids it.
    pub(super) fn count(&self, who: &Who, limits: &Limits) -> Result<Counted, Full> {
        let mut counts = self.counts();
        counts.check_server(limits)?;
        counts.check_profile(&who.profile, limits)?;
        counts.check_user(&who.username, limits)?;
        Ok(self.counted(&mut counts, Some(who.username.clone()), &who.profile))
    }

    /// Counts one more container whatever the limits are: it is there already.
    pub(super) fn count_existing(&self, who: &Who) -> Counted {
        self.counted(&mut self.counts(), Some(who.username.clone()), &who.profile)
    }

    /// Counts one more container that nobody has, unless a limit forbids it or somebody waits for room.
    pub(super) fn count_unclaimed(&self, profile: &str, limits: &Limits) -> Option<Counted> {
        let mut counts = self.counts();
        let has_room = counts.line.is_empty()
            && counts.check_server(limits).is_ok()
            && counts.check_profile(profile, limits).is_ok();
        has_room.then(|| self.counted(&mut counts, None, profile))
    }

    /// Whether the limit would not be reached without containers that nobody has yet.
    pub(super) fn could_make_room(&self, full: Full, profile: &str) -> bool {
        let counts = self.counts();
        match full {
            Full::Server => counts.unclaimed > 0,
            Full::Profile => counts.profiles.get(profile).is_some_and(|of| of.unclaimed > 0),
            Full::User(_) => false,
        }
    }

    /// Whether somebody waits for room for a container of this profile.
    pub(super) fn has_line(&self, profile: &str) -> bool {
        self.counts().line.iter().any(|(_, other)| other == profile)
    }

    /// Whether somebody waits for room, of whatever profile.
    pub(super) fn has_any_line(&self) -> bool {
        !self.counts().line.is_empty()
    }

    /// Waits for room, behind whoever came before; nobody takes room meanwhile for what nobody waits for.
    pub(super) fn stand_in_line(&self, profile: &str) -> InLine {
        let mut counts = self.counts();
        counts.last_ticket += 1;
        let ticket = counts.last_ticket;
        counts.line.push_back((ticket, profile.to_owned()));
        drop(counts);
        self.note_change();
        InLine { census: self.clone(), ticket }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.counts().all as usize
    }

    /// Hears of every change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }

    /// There may be a container to be had.
    pub(super) fn note_change(&self) {
        self.shared.changed.send_replace(());
    }

    fn counted(&self, counts: &mut Counts, username: Option<String>, profile: &str) -> Counted {
        counts.add(username.as_deref(), profile);
        Counted { census: self.clone(), username, profile: profile.to_owned() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Makes one that nobody has somebody's, unless a limit on what a user or a profile may have forbids it.
    pub(super) fn claim(&mut self, who: &Who, limits: &Limits) -> Result<(), Full> {
        let mut counts = self.census.counts();
        if self.profile != who.profile {
            counts.check_profile(&who.profile, limits)?;
        }
        counts.check_user(&who.username, limits)?;
        counts.subtract(self.username.as_deref(), &self.profile);
        counts.add(Some(&who.username), &who.profile);
        drop(counts);
        self.username = Some(who.username.clone());
        self.profile.clone_from(&who.profile);
        Ok(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.census.counts().subtract(self.username.as_deref(), &self.profile);
        self.census.note_change();
    }
}

impl InLine {
    /// Whether nobody came before for the same profile.
    pub(super) fn is_first(&self) -> bool {
        let counts = self.census.counts();
        let own = counts.line.iter().find(|(ticket, _)| *ticket == self.ticket).map(|(_, profile)| profile);
        let first = counts.line.iter().find(|(_, profile)| Some(profile) == own);
        first.is_some_and(|(ticket, _)| *ticket == self.ticket)
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.census.counts().line.retain(|(ticket, _)| *ticket != self.ticket);
        self.census.note_change();
    }
}

impl Counts {
    fn check_server(&self, limits: &Limits) -> Result<(), Full> {
        if is_reached(self.all, limits.containers) { Err(Full::Server) } else { Ok(()) }
    }

    fn check_profile(&self, profile: &str, limits: &Limits) -> Result<(), Full> {
        let all = self.profiles.get(profile).map_or(0, |of| of.all);
        if is_reached(all, limits.containers_of_profile) { Err(Full::Profile) } else { Ok(()) }
    }

    fn check_user(&self, username: &str, limits: &Limits) -> Result<(), Full> {
        let limit = limits.containers_per_user;
        let own = self.users.get(username).copied().unwrap_or_default();
        if is_reached(own, limit) { Err(Full::User(limit)) } else { Ok(()) }
    }

    fn add(&mut self, username: Option<&str>, profile: &str) {
        let of_profile = self.profiles.entry(profile.to_owned()).or_default();
        self.all += 1;
        of_profile.all += 1;
        if let Some(username) = username {
            *self.users.entry(username.to_owned()).or_default() += 1;
        } else {
            self.unclaimed += 1;
            of_profile.unclaimed += 1;
        }
    }

    fn subtract(&mut self, username: Option<&str>, profile: &str) {
        self.all -= 1;
        if let Some(of_profile) = self.profiles.get_mut(profile) {
            of_profile.all -= 1;
            of_profile.unclaimed -= u32::from(username.is_none());
            if of_profile.all == 0 {
                self.profiles.remove(profile);
            }
        }
        let Some(username) = username else {
            self.unclaimed -= 1;
            return;
        };
        if let Some(count) = self.users.get_mut(username) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(username);
            }
        }
    }
}

/// 0 is no limit.
fn is_reached(count: u32, limit: u32) -> bool {
    limit != 0 && count >= limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limits(containers: u32, containers_of_profile: u32, containers_per_user: u32) -> Limits {
        Limits { launch_timeout: Duration::ZERO, containers, containers_of_profile, containers_per_user }
    }

    fn who(username: &str, profile: &str) -> Who {
        Who { username: username.to_owned(), profile: profile.to_owned() }
    }

    #[test]
    fn limits_hold_per_user_and_for_all_until_a_container_is_gone() {
        let (census, limits) = (Census::default(), limits(3, 0, 2));
        let first = census.count(&who("alice", ""), &limits).unwrap();
        let _second = census.count(&who("alice", "a"), &limits).unwrap();

        assert_eq!(census.count(&who("alice", ""), &limits).err(), Some(Full::User(2)));
        let _third = census.count(&who("bob", ""), &limits).unwrap();
        assert_eq!(census.count(&who("carol", ""), &limits).err(), Some(Full::Server));
        drop(first);
        assert!(census.count(&who("carol", ""), &limits).is_ok());
    }

    #[test]
    fn a_profiles_limit_is_its_own() {
        let (census, limits) = (Census::default(), limits(0, 1, 0));
        let lab = census.count(&who("alice", "lab"), &limits).unwrap();

        assert_eq!(census.count(&who("bob", "lab"), &limits).err(), Some(Full::Profile));
        let _other = census.count(&who("bob", ""), &limits).unwrap();
        drop(lab);
        assert!(census.count(&who("bob", "lab"), &limits).is_ok());
    }

    #[test]
    fn without_limits_anything_goes() {
        let census = Census::default();
        let alice = who("alice", "");

        let counted: Vec<_> = (0..100).map(|_| census.count(&alice, &limits(0, 0, 0)).unwrap()).collect();

        assert_eq!(counted.len(), 100);
        drop(counted);
        let counts = census.counts();
        assert!(counts.all == 0 && counts.users.is_empty() && counts.profiles.is_empty());
    }

    #[test]
    fn what_nobody_has_counts_until_it_is_somebodys() {
        let (census, limits) = (Census::default(), limits(2, 0, 1));
        let mut waiting = census.count_unclaimed("", &limits).unwrap();
        let mut other = census.count_unclaimed("", &limits).unwrap();
        assert!(census.count_unclaimed("", &limits).is_none());
        assert_eq!(census.count(&who("alice", ""), &limits).err(), Some(Full::Server));
        assert!(census.could_make_room(Full::Server, "") && census.could_make_room(Full::Profile, ""));
        assert!(!census.could_make_room(Full::Profile, "lab"));

        waiting.claim(&who("alice", "lab"), &limits).unwrap();

        assert_eq!(other.claim(&who("alice", ""), &limits), Err(Full::User(1)));
        drop(other);
        assert!(!census.could_make_room(Full::Server, ""));
        let (first, second) = (census.stand_in_line(""), census.stand_in_line(""));
        assert!(census.count_unclaimed("", &limits).is_none(), "somebody waits for the room");
        assert!(first.is_first() && !second.is_first() && census.stand_in_line("lab").is_first());
        drop(first);
        assert!(second.is_first() && census.has_line("") && !census.has_line("lab"));
        drop(second);
        assert!(census.count_unclaimed("", &limits).is_some());
    }
}
