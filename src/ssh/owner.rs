//! The task that answers for one connection: it cuts it when it must, and gives its container back at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Fuse, FusedFuture};
use russh::Disconnect;
use russh::server::{Handle, RunningSession, run_stream};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Ticket;
use super::connection::Connection;
use super::curfew::{Activity, Call, Clock, Curfew, Notice};
use super::forwards::Forwards;
use super::gate::{Arrival, Gate};
use super::login::Admitted;
use super::penalties::Suspect;
use super::record;
use super::services::Services;
use super::shared::Shared;
use super::story::Story;
use super::stream::Stream;
use crate::auth::Caller;
use crate::engine::{self, ContainerSpec, LABEL_PROFILE, LABEL_SESSION, LaunchStage};
use crate::events::Happening;
use crate::ids::ConnectionId;
use crate::pool::{LaunchState, Lease, Moment};
use crate::session::Cut;

/// How long sessions have to tell their users that the server is going down.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a client has to leave by itself once its sessions have ended. OpenSSH's drops what it has not yet shown
/// when it is disconnected: output of a program that has ended, and the line that says why.
const LEAVING_TIME: Duration = Duration::from_secs(2);

/// The same where the server is to go down at once: enough for the line.
const LEAVING_TIME_CUT: Duration = Duration::from_millis(500);

/// How long a peer has to close its side after a disconnect, before the connection is cut.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// russh's task for a connection. Fused: we wait for it in several places, and it must not be asked again.
type Running = Fuse<RunningSession<Connection>>;

/// The owner's ends of what it shares with the callbacks and the sessions.
struct Reins {
    container: watch::Sender<LaunchState>,
    cut: watch::Sender<Option<Cut>>,
    notice: watch::Sender<Option<Notice>>,
}

/// Serves one connection to its end; when it returns, its container is gone or with the reaper.
pub(super) async fn own(arrival: Arrival, gate: &Gate, current: watch::Receiver<Arc<Services>>) {
    let services = Arc::clone(&current.borrow());
    let Arrival { tcp, client, server, ticket, grace, .. } = arrival;
    let kill = CancellationToken::new();
    // Whatever way this task ends, the stream must not outlive it.
    let _kill_on_drop = kill.clone().drop_guard();
    let suspect = Suspect::new(&gate.penalties, client.ip());
    let (shared, reins) = share(client, server, suspect, current);
    let _over_on_drop = shared.over.clone().drop_guard();
    let (budget, version) = (Arc::clone(&shared.budget), Arc::clone(&shared.caller.client_version));
    let stream = Stream::new(tcp, kill.clone(), budget, services.transport.dead_after, version);
    let (login_sender, mut login) = oneshot::channel();
    let handler = Connection::new(Arc::clone(&shared), login_sender);
    let _held = shared.registration.hold();
    shared.teller.tell(&Happening::Connected { server });
    let transport = services.transport.of_connection(&shared.id);
    let mut ending = Farewell { shared: Arc::clone(&shared), stage: "no-ssh", error: None };

    let running = tokio::select! {
        running = timeout_at(grace, run_stream(transport, stream, handler)) => running,
        () = ticket.evicted() => return evicted(&shared),
        () = services.drain.begun.cancelled() => return,
        _ = shared.registration.cut() => return,
    };
    let running = match running {
        Ok(Ok(running)) => running,
        outcome => {
            return if outcome.is_err() { shared.suspect.exceeds_grace() } else { shared.suspect.leaves() };
        }
    };
    ending.stage = "unknown";
    shared.teller.tell(&Happening::Greeted { version: version_of(&shared), after: shared.teller.age() });
    let handle = running.handle();
    let mut running = running.fuse();
    let entrance = Entrance { shared: &shared, ticket: &ticket, grace };
    let admitted = entrance.admit(&mut running, &handle, &mut login).await.filter(|_| ticket.logged_in());
    match admitted.map(|admitted| (gate.admission.logged_in(admitted.identity.username()), admitted)) {
        Some((Ok(_place), admitted)) => {
            ending.stage = "logged-in";
            ending.error = serve_user(&shared, &admitted, &mut running, &handle, &reins).await;
        }
        Some((Err(too_many), _)) => {
            let detail = too_many.to_string();
            shared.teller.tell(&Happening::LoginRefused { reason: "connections-of-user", detail });
            shared.teller.tell(&Happening::LimitReached { limit: "connections-of-user" });
            shared.introduced.cancel();
            let reason = format!("{too_many} (connection {})", shared.id);
            disconnect(&handle, &mut running, Disconnect::TooManyConnections, reason).await;
        }
        None => {}
    }
    shared.over.cancel();
    kill.cancel();
    if !running.is_terminated() {
        // russh's task ends with its stream; waiting for it means that nothing of the connection is left.
        drop(timeout(DISCONNECT_TIMEOUT, running).await);
    }
}

/// Where a client is until it has logged in.
struct Entrance<'a> {
    shared: &'a Shared,
    ticket: &'a Ticket,
    grace: Instant,
}

impl Entrance<'_> {
    /// Whoever comes in. `None` where nobody does, in time.
    async fn admit(
        &self,
        running: &mut Running,
        handle: &Handle,
        login: &mut oneshot::Receiver<Admitted>,
    ) -> Option<Admitted> {
        let Self { shared, ticket, grace } = self;
        tokio::select! {
            admitted = timeout_at(*grace, wait_for_login(shared, running, login)) => {
                admitted.unwrap_or_else(|_elapsed| {
                    shared.suspect.exceeds_grace();
                    None
                })
            }
            () = shared.exhausted.cancelled() => {
                // As sshd puts it.
                let reason = "Too many authentication failures".to_owned();
                shared.teller.tell(&Happening::LimitReached { limit: "guesses" });
                disconnect(handle, running, Disconnect::ProtocolError, reason).await;
                None
            }
            cut = shared.registration.cut() => {
                disconnect(handle, running, Disconnect::ByApplication, cut.to_string()).await;
                None
            }
            () = ticket.evicted() => {
                evicted(shared);
                None
            }
            () = shared.services.drain.begun.cancelled() => None,
        }
    }
}

fn evicted(shared: &Shared) {
    shared.teller.tell(&Happening::LimitReached { limit: "evicted-startups" });
}

/// Tells of the end of a connection when it is dropped, however that came.
struct Farewell {
    shared: Arc<Shared>,
    stage: &'static str,
    error: Option<String>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let (stage, error, duration) = (self.stage, self.error.take(), self.shared.teller.age());
        self.shared.teller.tell(&Happening::Disconnected { stage, error, duration });
    }
}

/// What the client calls itself.
fn version_of(shared: &Shared) -> String {
    shared.caller.client_version.get().cloned().unwrap_or_default()
}

/// `None` when the client leaves first.
async fn wait_for_login(
    shared: &Shared,
    running: &mut Running,
    login: &mut oneshot::Receiver<Admitted>,
) -> Option<Admitted> {
    let admitted = tokio::select! {
        _ = running => None,
        admitted = login => admitted.ok(),
    };
    if admitted.is_none() {
        shared.suspect.leaves();
    }
    admitted
}

/// Ends the connection properly, with a reason.
async fn disconnect(handle: &Handle, running: &mut Running, reason: Disconnect, text: String) {
    let goodbye = async {
        drop(handle.disconnect(reason, text, String::new()).await);
        drop(running.await);
    };
    drop(timeout(DISCONNECT_TIMEOUT, goodbye).await);
}

fn share(
    client: SocketAddr,
    server: SocketAddr,
    suspect: Suspect,
    mut current: watch::Receiver<Arc<Services>>,
) -> (Arc<Shared>, Reins) {
    let services = Arc::clone(&current.borrow_and_update());
    let id = ConnectionId::random();
    let (container_sender, container) = watch::channel(LaunchState::InProgress(LaunchStage::Preparing));
    let (cut_sender, cut) = watch::channel(None);
    let (notice_sender, notice) = watch::channel(None);
    let shared = Arc::new(Shared {
        teller: services.events.of_connection(id.clone(), client),
        registration: services.registry.register(id.clone()),
        caller: Caller { source: client, connection: id.clone(), client_version: Arc::default() },
        id,
        client,
        server,
        suspect,
        budget: services.budgets.of_connection(),
        services,
        current,
        introduced: CancellationToken::new(),
        exhausted: CancellationToken::new(),
        over: CancellationToken::new(),
        container,
        cut,
        notice,
        activity: Activity::begin(),
        sessions: TaskTracker::new(),
        held: TaskTracker::new(),
        forwards: Forwards::new(),
    });
    (shared, Reins { container: container_sender, cut: cut_sender, notice: notice_sender })
}

async fn serve_user(
    shared: &Arc<Shared>,
    admitted: &Admitted,
    running: &mut Running,
    handle: &Handle,
    reins: &Reins,
) -> Option<String> {
    let Admitted { methods, identity, profile } = admitted;
    shared.teller.tell(&Happening::LoggedIn {
        methods: methods.clone(),
        key: identity.key_fingerprint().map(str::to_owned),
        profile: profile.name.clone(),
        version: version_of(shared),
        after: shared.teller.age(),
    });
    shared.introduced.cancel();
    let lease = profile.pool.lease(Moment::Login, container_for(shared, admitted, None));
    let _held = lease.as_ref().map(|lease| shared.registration.hold_container(None, lease.state()));
    // Without one there is nothing to follow: its sender is gone.
    let nothing = || watch::channel(LaunchState::InProgress(LaunchStage::Preparing)).1;
    let launch = lease.as_ref().map_or_else(nothing, Lease::state);
    let curfew = Curfew { lifetime: profile.max_lifetime, idle: profile.idle_timeout };
    let story = Story::new(shared, profile, None);
    let end = tokio::select! {
        biased;
        // Never ends.
        () = story.follow(launch.clone()) => End::Left(None),
        end = wait_for_end(shared, running, launch, reins, curfew) => end,
    };
    let error = match end {
        End::Left(error) => error,
        End::Cut(cut) => {
            shared.teller.tell(&Happening::Ending { reason: cut.to_string() });
            reins.cut.send_replace(Some(cut.clone()));
            say_goodbye(shared, running, handle, &cut).await;
            None
        }
    };
    shared.over.cancel();
    shared.held.close();
    if let Some(lease) = lease {
        drop(timeout(record::HELD_MAX, shared.held.wait()).await);
        lease.give_back().await;
        tracing::debug!(connection = %shared.id, "container given back");
        story.end();
    }
    error
}

/// How a connection ends.
enum End {
    /// The client left, or something broke.
    Left(Option<String>),
    /// We end it.
    Cut(Cut),
}

/// Waits until the connection is over, or is to be ended.
async fn wait_for_end(
    shared: &Shared,
    running: &mut Running,
    mut launch: watch::Receiver<LaunchState>,
    reins: &Reins,
    curfew: Curfew,
) -> End {
    let services = &shared.services;
    let mut clock = Clock::start(curfew);
    loop {
        let now = launch.borrow_and_update().clone();
        // Sessions hear of a loss first, also those whose program is just being started.
        reins.container.send_replace(now.clone());
        if let LaunchState::Lost(reason) = now {
            return End::Cut(Cut::ContainerLost(reason));
        }
        tokio::select! {
            ended = &mut *running => return End::Left(ended.err().map(|error| error.to_string())),
            // Whoever waits for a container is not idle.
            Ok(()) = launch.changed() => shared.activity.note(),
            call = clock.next(&shared.activity) => match call {
                Call::Warn(notice) => drop(reins.notice.send_replace(Some(notice))),
                Call::End(cut) => return End::Cut(cut),
            },
            () = services.drain.begun.cancelled(), if !shared.sessions.is_closed() => {
                reins.notice.send_replace(Some(Notice::Draining(services.drain_grace)));
                // No session begins any more; with the last one the connection ends.
                shared.sessions.close();
            }
            () = shared.sessions.wait() => return End::Cut(Cut::Draining),
            () = services.drain.cut.cancelled() => return End::Cut(Cut::Draining),
            cut = shared.registration.cut() => return End::Cut(cut),
        }
    }
}

/// Sessions tell their users themselves; then the connection is closed properly.
async fn say_goodbye(shared: &Shared, running: &mut Running, handle: &Handle, cut: &Cut) {
    shared.sessions.close();
    tokio::select! {
        _ = &mut *running => return,
        () = shared.sessions.wait() => {}
        () = sleep(FAREWELL_TIMEOUT) => {}
    }
    let cut_short = async {
        shared.services.drain.cut.cancelled().await;
        sleep(LEAVING_TIME_CUT).await;
    };
    tokio::select! {
        _ = &mut *running => return,
        () = sleep(LEAVING_TIME) => {}
        () = cut_short => {}
    }
    disconnect(handle, running, Disconnect::ByApplication, cut.to_string()).await;
}

/// What the container of the connection, or of one of its sessions, is to be.
pub(super) fn container_for(shared: &Shared, admitted: &Admitted, session: Option<u32>) -> ContainerSpec {
    let mut name = format!("coracle-{}", shared.id);
    let hostname = format!("coracle-{}", shared.id.short());
    let Admitted { identity, profile, .. } = admitted;
    let username = identity.username().as_str();
    let mut labels = engine::labels(&shared.services.instance, &shared.id, username, shared.client);
    if !profile.name.is_empty() {
        labels.insert(LABEL_PROFILE.to_owned(), profile.name.clone());
    }
    if let Some(session) = session {
        name = format!("{name}-{session}");
        labels.insert(LABEL_SESSION.to_owned(), session.to_string());
    }
    ContainerSpec { name, hostname, labels, files: identity.files().to_vec() }
}
