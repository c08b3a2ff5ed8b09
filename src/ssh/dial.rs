//! What the client wants dialled inside its container: `direct-tcpip` (RFC 4254 §7.2), `direct-streamlocal@openssh.com`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelOpenFailure, ChannelWriteHalf};
use tokio::sync::OwnedSemaphorePermit;

use super::login::Admitted;
use super::permit::permit_lost;
use super::rescue;
use super::shared::Shared;
use super::slots::{Inlet, Outlet, inlet};
use super::tunnel::tunnel;
use crate::engine::Address;
use crate::events::Happening;
use crate::forward::{self, Failure, Traffic};
use crate::identity::Identity;
use crate::policy::{self, DialPermit, Rules};

/// Longest path of a socket that is looked at, in bytes. The kernel's own bound is lower, but a matter of the container.
const PATH_BYTES_MAX: usize = 4096;

/// A channel that asks for somebody to be dialled.
pub(super) struct Call {
    pub(super) kind: &'static str,
    /// `None` where there can be no such address.
    pub(super) to: Option<Address>,
    pub(super) channel: Channel<Msg>,
    pub(super) reply: ChannelOpenHandle,
}

/// A call that was permitted.
struct Permitted {
    kind: &'static str,
    to: Address,
    permit: DialPermit,
    write: ChannelWriteHalf<Msg>,
    reply: ChannelOpenHandle,
    place: OwnedSemaphorePermit,
}

impl Call {
    /// Decides, and leaves the dialling to a task that answers. Never waits. `None` where it was refused.
    pub(super) async fn begin(self, shared: &Arc<Shared>, admitted: Option<&Admitted>) -> Option<Inlet> {
        let Self { kind, to, channel, reply } = self;
        let refusal = match judge(shared, admitted, to) {
            Ok((to, permit, admitted)) => match Arc::clone(&shared.forwards.dials).try_acquire_owned() {
                Ok(place) => {
                    // Without a read half russh never waits for us; what the client sends arrives in `data`.
                    let (_, write) = channel.split();
                    let (inlet, outlet) = inlet(shared);
                    let permitted = Permitted { kind, to, permit, write, reply, place };
                    let work = Arc::clone(shared).sessions.track_future(permitted.run(
                        Arc::clone(shared),
                        admitted.clone(),
                        outlet,
                    ));
                    shared.services.drain.tasks.spawn(work);
                    return Some(inlet);
                }
                Err(_) => too_many(shared, &to),
            },
            Err(refusal) => refusal,
        };
        let (failure, reason, target) = refusal;
        shared.teller.tell(&Happening::ForwardRefused { kind, target, failed: false, reason });
        reply.reject(failure).await;
        None
    }
}

type Refusal = (ChannelOpenFailure, String, String);

fn too_many(shared: &Shared, to: &Address) -> Refusal {
    shared.teller.tell(&Happening::LimitReached { limit: "forwards" });
    (ChannelOpenFailure::ResourceShortage, "too many on the connection".to_owned(), to.to_string())
}

fn judge<'a>(
    shared: &Shared,
    admitted: Option<&'a Admitted>,
    to: Option<Address>,
) -> Result<(Address, DialPermit, &'a Admitted), Refusal> {
    let prohibited = ChannelOpenFailure::AdministrativelyProhibited;
    let Some(to) = to else {
        return Err((
            ChannelOpenFailure::ConnectFailed,
            "there is no such address".to_owned(),
            String::new(),
        ));
    };
    let Some(admitted) = admitted else {
        return Err((prohibited, "nobody has logged in".to_owned(), to.to_string()));
    };
    if shared.services.drain.begun.is_cancelled() {
        return Err((prohibited, "the server is shutting down".to_owned(), to.to_string()));
    }
    match policy::decide_dial(&admitted.profile.rules, &admitted.identity, &to) {
        Ok(_) if !admitted.profile.pool.serves_connections() => {
            Err((prohibited, rescue::NO_CONTAINER_OF_CONNECTION.to_owned(), to.to_string()))
        }
        Ok(permit) => Ok((to, permit, admitted)),
        Err(denied) => Err((prohibited, denied.to_string(), to.to_string())),
    }
}

impl Permitted {
    async fn run(self, shared: Arc<Shared>, admitted: Admitted, outlet: Outlet) {
        let Self { kind, to, permit, write, reply, place } = self;
        let target = to.to_string();
        let tasks = &shared.services.drain.tasks;
        let mut cut = shared.cut.clone();
        let dialled = tokio::select! {
            biased;
            // The client can close nothing that is not open yet; this is the end of the connection.
            () = outlet.closed.cancelled() => Err(Failure::Over),
            Ok(_) = cut.wait_for(Option::is_some) => Err(Failure::Over),
            dialled = forward::dial(shared.container.clone(), permit, tasks) => dialled,
        };
        let process = match dialled {
            Ok(process) => process,
            Err(failure) => {
                let reason = rescue::readable(&failure.to_string());
                shared.teller.tell(&Happening::ForwardRefused { kind, target, failed: true, reason });
                return reply.reject(rescue::no_socket(&failure)).await;
            }
        };
        shared.teller.tell(&Happening::Forwarded { kind, target: target.clone() });
        reply.accept().await;
        let revoked = revoked(Arc::clone(&shared), admitted.identity.clone(), to);
        let tunnel = tunnel(write, outlet, &shared, &admitted, Box::pin(revoked));
        let client = Arc::clone(&tunnel.client);
        // A fault of ours must not leave the client waiting for ever.
        match AssertUnwindSafe(forward::relay(process, tunnel)).catch_unwind().await {
            Ok(Traffic { sent: received, received: sent, .. }) => {
                shared.teller.tell(&Happening::ForwardEnded { kind, target, received, sent });
            }
            Err(_fault) => client.close().await,
        }
        drop(place);
    }
}

async fn revoked(shared: Arc<Shared>, identity: Identity, to: Address) {
    let decide = |rules: &Rules| policy::decide_dial(rules, &identity, &to).map(drop);
    permit_lost(&shared, &identity, decide).await;
}

/// `None` where it cannot be dialled or listened on. Port 0 can be listened on.
pub(super) fn tcp(host: &str, port: u32) -> Option<Address> {
    let port = u16::try_from(port).ok()?;
    Some(Address::Tcp { host: host.to_owned(), port })
}

/// `None` where there can be no such socket; a path of a client's begins nowhere but at the root.
pub(super) fn unix(path: &str) -> Option<Address> {
    let fits = path.starts_with('/') && path.len() <= PATH_BYTES_MAX && !path.contains('\0');
    fits.then(|| Address::Unix { path: path.to_owned() })
}
