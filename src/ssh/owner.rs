//! The task that answers for one connection: it cuts it when it must, and gives its container back at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Fuse, FusedFuture};
use russh::Disconnect;
use russh::server::{Handle, RunningSession, run_stream};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Shared};
use super::listener::Services;
use super::stream::Stream;
use crate::engine::{self, ContainerSpec, LaunchStage};
use crate::identity::Identity;
use crate::ids::ConnectionId;
use crate::pool::{LaunchState, Lease};

/// How long sessions have to tell their users that the server is going down.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a peer has to close its side after a disconnect, before the connection is cut.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// russh's task for a connection. Fused: we wait for it in several places, and it must not be asked again.
type Running = Fuse<RunningSession<Connection>>;

/// Serves one connection to its end; when it returns, its container is gone or with the reaper.
pub(super) async fn own(tcp: TcpStream, client: SocketAddr, server: SocketAddr, services: Arc<Services>) {
    let id = ConnectionId::random();
    let kill = CancellationToken::new();
    // Whatever way this task ends, the stream must not outlive it.
    let _kill_on_drop = kill.clone().drop_guard();
    let budget = services.budgets.of_connection();
    let stream = Stream::new(tcp, kill.clone(), Arc::clone(&budget), services.transport.dead_after);
    let (state_sender, container) = watch::channel(LaunchState::InProgress(LaunchStage::Preparing));
    let over = CancellationToken::new();
    let shared =
        Arc::new(Shared { id, client, server, services: Arc::clone(&services), budget, over, container });
    let _over_on_drop = shared.over.clone().drop_guard();
    let (login_sender, mut login) = oneshot::channel();
    let handler = Connection::new(Arc::clone(&shared), login_sender);
    let grace = Instant::now() + services.transport.login_grace;
    tracing::debug!(connection = %shared.id, %client, "connected");

    let running = tokio::select! {
        running = timeout_at(grace, run_stream(Arc::clone(&services.transport.russh), stream, handler)) => running,
        () = services.drain.token.cancelled() => return,
    };
    let Ok(Ok(running)) = running else {
        tracing::debug!(connection = %shared.id, %client, "no SSH client");
        return;
    };
    let handle = running.handle();
    let mut running = running.fuse();
    let identity = tokio::select! {
        _ = &mut running => None,
        identity = timeout_at(grace, &mut login) => identity.ok().and_then(Result::ok),
        () = services.drain.token.cancelled() => None,
    };
    if let Some(identity) = identity {
        serve_user(&shared, &identity, &mut running, &handle, state_sender).await;
    } else {
        tracing::info!(connection = %shared.id, %client, "left without a login");
    }
    shared.over.cancel();
    kill.cancel();
    if !running.is_terminated() {
        // russh's task ends with its stream; waiting for it means that nothing of the connection is left.
        drop(timeout(DISCONNECT_TIMEOUT, running).await);
    }
}

async fn serve_user(
    shared: &Arc<Shared>,
    identity: &Identity,
    running: &mut Running,
    handle: &Handle,
    state: watch::Sender<LaunchState>,
) {
    let (id, client) = (&shared.id, shared.client);
    let key = identity.key_fingerprint();
    tracing::info!(connection = %id, %client, user = %identity.username(), key, "logged in");
    let services = &shared.services;
    let lease = services.pool.lease(container_for(shared, identity));
    let mut launch = lease.state();
    loop {
        let now = launch.borrow_and_update().clone();
        state.send_replace(now);
        tokio::select! {
            ended = &mut *running => {
                tracing::info!(connection = %id, error = ended.err().map(tracing::field::display), "disconnected");
                break;
            }
            Ok(()) = launch.changed() => {}
            () = services.drain.token.cancelled() => {
                say_goodbye(running, handle).await;
                break;
            }
        }
    }
    shared.over.cancel();
    give_back(lease, id).await;
}

async fn give_back(lease: Lease, id: &ConnectionId) {
    lease.give_back().await;
    tracing::debug!(connection = %id, "container given back");
}

/// Sessions tell their users themselves; then the connection is closed properly.
async fn say_goodbye(running: &mut Running, handle: &Handle) {
    tokio::select! {
        _ = &mut *running => return,
        () = sleep(FAREWELL_TIMEOUT) => {}
    }
    let goodbye = async {
        let reason = "the server is shutting down".to_owned();
        drop(handle.disconnect(Disconnect::ByApplication, reason, String::new()).await);
        drop(running.await);
    };
    drop(timeout(DISCONNECT_TIMEOUT, goodbye).await);
}

fn container_for(shared: &Shared, identity: &Identity) -> ContainerSpec {
    let name = format!("coracle-{}", shared.id);
    let hostname = format!("coracle-{}", shared.id.short());
    let username = identity.username().as_str();
    let labels = engine::labels(&shared.services.instance, &shared.id, username, shared.client);
    ContainerSpec { name, hostname, labels }
}
