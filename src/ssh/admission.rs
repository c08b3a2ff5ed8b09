//! How many connections there may be: in total, before their login (OpenSSH's `MaxStartups`), and of one source or user.
//!
//! Where one has to go, it is one of the source that has the most which have not logged in. So whoever floods us only
//! pushes out their own. Knows nothing of sockets: a connection is a [`Ticket`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::config::{Config, MaxStartups};
use super::network::Source;
use crate::ids::Username;
use crate::session::Limits;

/// Bounds on connections; where 0 is allowed it is no bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionLimits {
    /// At a time. 0: as many as the process can bear.
    pub connections: u32,
    /// At a time from one source. 0: no limit.
    pub per_source: u32,
    /// At a time of one user name. 0: no limit.
    pub per_user: u32,
    /// At a time before their login.
    pub startups: MaxStartups,
}

/// Who is in, and who may come.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    state: Arc<Mutex<State>>,
}

/// Why a connection may not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum Refusal {
    /// `limits.maxConnections`, or what the process can bear.
    #[error("too many")]
    TooMany,
    /// `limits.maxConnectionsPerSource`.
    #[error("too many from one source")]
    TooManyOfSource,
    /// `ssh.maxStartups`.
    #[error("too many that have not logged in")]
    TooManyStartups,
    /// `ssh.penalties`.
    #[error("its source is refused for a while")]
    Punished,
    /// `ssh.proxyProtocol`.
    #[error("not identified by a PROXY protocol header")]
    Unidentified,
}

/// `limits.maxConnectionsPerUser` is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("you have {0} connection{s}, as many as this server allows one user", s = if *.0 == 1 { "" } else { "s" })]
pub(super) struct TooMany(u32);

/// A connection's place; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Admission,
    number: u64,
    source: Source,
    /// Cancelled when it has to go. It is not counted any more then.
    evicted: CancellationToken,
}

/// A logged-in user's connection; dropping it counts it off.
#[derive(Debug)]
pub(super) struct UserPlace {
    admission: Admission,
    username: Username,
}

#[derive(Debug)]
struct State {
    limits: ConnectionLimits,
    /// Connections that the process can bear.
    ceiling: u32,
    /// Of the next ticket.
    number: u64,
    connections: u32,
    /// Those of them that have not logged in.
    startups: u32,
    /// A source without connections has no entry.
    sources: HashMap<Source, Held>,
    /// A user without connections has no entry.
    users: HashMap<Username, u32>,
}

/// What one source holds.
#[derive(Debug, Default)]
struct Held {
    connections: u32,
    /// Those of them that have not logged in, the oldest first.
    startups: BTreeMap<u64, CancellationToken>,
}

impl ConnectionLimits {
    /// From the configuration.
    #[must_use]
    pub fn new(ssh: &Config, limits: &Limits) -> Self {
        Self {
            connections: limits.max_connections,
            per_source: limits.max_connections_per_source,
            per_user: limits.max_connections_per_user,
            startups: ssh.max_startups,
        }
    }
}

impl Admission {
    /// `ceiling` bounds the connections that the process can bear.
    pub(super) fn new(limits: ConnectionLimits, ceiling: u32) -> Self {
        let state = State {
            limits,
            ceiling,
            number: 0,
            connections: 0,
            startups: 0,
            sources: HashMap::new(),
            users: HashMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// From now on by these limits; nobody who is in is cut for them.
    pub(super) fn configure(&self, limits: ConnectionLimits) {
        self.state().limits = limits;
    }

    /// A place for a client at `source`. One from another source may have to go for it.
    pub(super) fn admit(&self, source: Source) -> Result<Ticket, Refusal> {
        self.admit_by_lot(source, rand::random_range(0..100))
    }

    /// A place for a connection of the proxy at `source`, which has yet to say whose it is: [`Ticket::identify`] is to
    /// follow. Bursts of a proxy that many clients share are not thinned by chance, only bounded.
    pub(super) fn admit_proxy(&self, source: Source) -> Result<Ticket, Refusal> {
        let mut state = self.state();
        let crowded = state.startups >= u32::from(state.limits.startups.full);
        state.make_place(source, crowded)?;
        Ok(self.ticket(&mut state, source))
    }

    /// Counts a connection of `username`, whose login just succeeded.
    pub(super) fn logged_in(&self, username: &Username) -> Result<UserPlace, TooMany> {
        let mut state = self.state();
        let limit = state.limits.per_user;
        let count = state.users.get(username).copied().unwrap_or_default();
        if limit != 0 && count >= limit {
            return Err(TooMany(limit));
        }
        state.users.insert(username.clone(), count + 1);
        Ok(UserPlace { admission: self.clone(), username: username.clone() })
    }

    /// `lot` is 0 to 99.
    fn admit_by_lot(&self, source: Source, lot: u32) -> Result<Ticket, Refusal> {
        let mut state = self.state();
        state.check_source(source)?;
        let crowded = lot < state.chance_of_loss();
        state.make_place(source, crowded)?;
        Ok(self.ticket(&mut state, source))
    }

    fn ticket(&self, state: &mut State, source: Source) -> Ticket {
        state.number += 1;
        let evicted = CancellationToken::new();
        state.enter(source, state.number, evicted.clone());
        Ticket { admission: self.clone(), number: state.number, source, evicted }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The proxy has said whose connection this is: from here on it counts for `source`.
    pub(super) fn identify(&mut self, source: Source) -> Result<(), Refusal> {
        self.identify_by_lot(source, rand::random_range(0..100))
    }

    fn identify_by_lot(&mut self, source: Source, lot: u32) -> Result<(), Refusal> {
        let mut state = self.admission.state();
        if self.evicted.is_cancelled() {
            return Err(Refusal::TooManyStartups);
        }
        state.check_source(source)?;
        state.leave(self.source, self.number);
        // From here on it holds nothing until it has entered anew.
        let crowded = lot < state.chance_of_loss();
        let made = state.make_place(source, crowded);
        if made.is_ok() {
            self.source = source;
        }
        state.enter(self.source, self.number, self.evicted.clone());
        made
    }

    /// Its login succeeded: it may not be pushed out any more. `false` when it just was.
    #[must_use]
    pub(super) fn logged_in(&self) -> bool {
        let mut state = self.admission.state();
        if self.evicted.is_cancelled() {
            return false;
        }
        if let Some(held) = state.sources.get_mut(&self.source)
            && held.startups.remove(&self.number).is_some()
        {
            state.startups -= 1;
        }
        true
    }

    /// Done when this connection has to go for another.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        if !self.evicted.is_cancelled() {
            state.leave(self.source, self.number);
        }
    }
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        match state.users.get_mut(&self.username) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(state.users.remove(&self.username)),
        }
    }
}

impl State {
    /// In percent, as OpenSSH computes it.
    fn chance_of_loss(&self) -> u32 {
        let MaxStartups { start, rate, full } = self.limits.startups;
        let (start, rate, full) = (u32::from(start), u32::from(rate.get()), u32::from(full));
        match self.startups {
            now if now < start => 0,
            now if now >= full => 100,
            now => rate + (100 - rate) * (now - start) / (full - start),
        }
    }

    fn check_source(&self, source: Source) -> Result<(), Refusal> {
        let limit = self.limits.per_source;
        let count = self.sources.get(&source).map_or(0, |held| held.connections);
        if limit != 0 && count >= limit { Err(Refusal::TooManyOfSource) } else { Ok(()) }
    }

    /// Sees to it that there is a place for one more from `source`. `crowded`: one that has not logged in has to go.
    fn make_place(&mut self, source: Source, crowded: bool) -> Result<(), Refusal> {
        let most = match self.limits.connections {
            0 => self.ceiling,
            limit => limit.min(self.ceiling),
        };
        let full = self.connections >= most;
        if !full && !crowded {
            return Ok(());
        }
        let refusal = if full { Refusal::TooMany } else { Refusal::TooManyStartups };
        let with_newcomer = 1 + self.sources.get(&source).map_or(0, |held| held.startups.len());
        // Between equals the one goes that has the oldest.
        let largest = self
            .sources
            .iter()
            .max_by_key(|(_, held)| (held.startups.len(), Reverse(held.startups.keys().next().copied())));
        match largest {
            Some((largest, held)) if held.startups.len() > with_newcomer => {
                let largest = *largest;
                self.evict_oldest(largest);
                Ok(())
            }
            _ => Err(refusal),
        }
    }

    fn evict_oldest(&mut self, source: Source) {
        let oldest = self.sources.get(&source).and_then(|held| held.startups.first_key_value());
        if let Some((number, evicted)) = oldest {
            let number = *number;
            evicted.cancel();
            self.leave(source, number);
        }
    }

    fn enter(&mut self, source: Source, number: u64, evicted: CancellationToken) {
        let held = self.sources.entry(source).or_default();
        held.connections += 1;
        held.startups.insert(number, evicted);
        self.connections += 1;
        self.startups += 1;
    }

    fn leave(&mut self, source: Source, number: u64) {
        let Some(held) = self.sources.get_mut(&source) else { return };
        self.connections -= 1;
        if held.startups.remove(&number).is_some() {
            self.startups -= 1;
        }
        held.connections -= 1;
        if held.connections == 0 {
            self.sources.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests;
