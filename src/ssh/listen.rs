//! What the client wants listened on inside its container: `tcpip-forward` (RFC 4254 §7.1),
//! `streamlocal-forward@openssh.com`.

use std::collections::HashMap;
use std::sync::Arc;

use russh::server::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::caller::{ChannelOpener, Kind};
use super::login::Admitted;
use super::permit::permit_lost;
use super::rescue;
use super::shared::Shared;
use crate::engine::{Address, Listener};
use crate::events::Happening;
use crate::forward::{self, Failure, Manner, Reception};
use crate::policy::{self, ListenPermit, Rules};

/// Listeners of one connection at a time. Past it one is refused.
const LISTENERS_MAX: usize = 32;

/// What the client has listened on, by what it asked for and the port that it was told.
#[derive(Default)]
pub(super) struct Listeners(HashMap<Address, Standing>);

struct Standing {
    /// Dropped, the listener goes.
    _stop: DropGuard,
    /// Cancelled when it has gone.
    over: CancellationToken,
}

/// Who asks.
pub(super) struct Asker<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) admitted: Option<&'a Admitted>,
    pub(super) handle: Handle,
}

/// Whoever has it.
struct Host<'a> {
    shared: &'a Arc<Shared>,
    admitted: &'a Admitted,
    handle: Handle,
}

impl Listeners {
    /// Listens, and tells the port. `None` where it does not.
    ///
    /// The one callback that waits after the login: russh answers such a request when it returns, and clients take the
    /// next answer for that of the next request. Nothing is held up by the wait for a container, since whatever else a
    /// connection wants waits for that, too; after it a listener has a deadline.
    pub(super) async fn begin(
        &mut self,
        asker: Asker<'_>,
        kind: &'static str,
        at: Option<Address>,
    ) -> Option<u16> {
        let Asker { shared, admitted, handle } = asker;
        let target = at.as_ref().map(Address::to_string).unwrap_or_default();
        let judged = self.judge(shared, admitted, at);
        let (at, permit, admitted) = match judged {
            Ok(judged) => judged,
            Err(reason) => {
                shared.teller.tell(&Happening::ForwardRefused { kind, target, failed: false, reason });
                return None;
            }
        };
        match listen(shared, permit).await {
            Ok(listener) => {
                let port = listener.port();
                let target = if target.ends_with(":0") { format!("{target} → {port}") } else { target };
                shared.teller.tell(&Happening::Forwarded { kind, target });
                self.stand(&Host { shared, admitted, handle }, at, listener);
                Some(port)
            }
            Err(failure) => {
                let reason = rescue::readable(&failure.to_string());
                shared.teller.tell(&Happening::ForwardRefused { kind, target, failed: true, reason });
                None
            }
        }
    }

    /// Listens no more. Whom it took in stays. `false` where there is no such listener.
    pub(super) fn cancel(&mut self, shared: &Shared, kind: &'static str, at: Option<Address>) -> bool {
        let target = at.as_ref().map(Address::to_string).unwrap_or_default();
        let standing = at.and_then(|at| self.0.remove(&at));
        let found = standing.is_some_and(|standing| !standing.over.is_cancelled());
        shared.teller.tell(&Happening::ForwardCancelled { kind, target, found });
        found
    }

    fn judge<'a>(
        &mut self,
        shared: &Shared,
        admitted: Option<&'a Admitted>,
        at: Option<Address>,
    ) -> Result<(Address, ListenPermit, &'a Admitted), String> {
        self.0.retain(|_, standing| !standing.over.is_cancelled());
        let admitted = admitted.ok_or("nobody has logged in")?;
        let at = at.ok_or("there is no such address")?;
        if shared.services.drain.begun.is_cancelled() {
            return Err("the server is shutting down".to_owned());
        }
        let permit = policy::decide_listen(&admitted.profile.rules, &admitted.identity, &at)
            .map_err(|denied| denied.to_string())?;
        if !admitted.profile.pool.serves_connections() {
            return Err(rescue::NO_CONTAINER_OF_CONNECTION.to_owned());
        }
        if self.0.len() >= LISTENERS_MAX {
            shared.teller.tell(&Happening::LimitReached { limit: "listeners" });
            return Err("too many on the connection".to_owned());
        }
        if self.0.contains_key(&at) {
            return Err("it is listened on already".to_owned());
        }
        Ok((at, permit, admitted))
    }

    fn stand(&mut self, host: &Host<'_>, asked: Address, listener: Box<dyn Listener>) {
        let Host { shared, admitted, handle } = host;
        let port = listener.port();
        let (known, kind) = match &asked {
            Address::Tcp { host, .. } => {
                (Address::Tcp { host: host.clone(), port }, Kind::Tcp { host: host.clone(), port })
            }
            Address::Unix { path } => (asked.clone(), Kind::Unix { path: path.clone() }),
        };
        let (stop, over) = (shared.over.child_token(), CancellationToken::new());
        let (stopped, watched, identity) = (stop.clone(), Arc::clone(shared), admitted.identity.clone());
        let decide = {
            let identity = identity.clone();
            move |rules: &Rules| policy::decide_listen(rules, &identity, &asked).map(drop)
        };
        let still = decide.clone();
        let until = async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = watched.services.drain.begun.cancelled() => {}
                () = permit_lost(&watched, &identity, still) => {}
            }
        };
        let opener = ChannelOpener::new(shared, admitted, handle.clone(), kind, Box::new(decide));
        let reception = Reception {
            opener: Arc::new(opener),
            manner: Manner::Plain,
            places: Arc::clone(&shared.forwards.callers),
            tasks: shared.services.drain.tasks.clone(),
            sessions: shared.sessions.clone(),
            until: Box::pin(until),
        };
        let gone = over.clone().drop_guard();
        shared.services.drain.tasks.spawn(async move {
            reception.serve(listener).await;
            drop(gone);
        });
        self.0.insert(known, Standing { _stop: stop.drop_guard(), over });
    }
}

async fn listen(shared: &Shared, permit: ListenPermit) -> Result<Box<dyn Listener>, Failure> {
    let mut cut = shared.cut.clone();
    let drain = &shared.services.drain;
    tokio::select! {
        biased;
        () = shared.over.cancelled() => Err(Failure::Over),
        () = drain.begun.cancelled() => Err(Failure::Over),
        Ok(_) = cut.wait_for(Option::is_some) => Err(Failure::Over),
        listening = forward::listen(shared.container.clone(), permit, &drain.tasks) => listening,
    }
}
