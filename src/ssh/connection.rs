//! russh's callbacks in our words. They run in the one loop that serves the whole connection, so each of them asks
//! `auth` or `policy`, answers at once and leaves the work to a task.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use russh::keys::ssh_key::HashAlg;
use russh::keys::{Algorithm, PublicKeyBase64};
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Session as Russh, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty, Sig};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::channel::{ChannelClient, Opening, Running, Slot, from_russh, sane_term};
use super::curfew::{Activity, Notice};
use super::listener::Services;
use super::login;
use super::owner::container_for;
use crate::auth::{Attempt, PublicKey, Verdict};
use crate::engine::{Terminal, TerminalMode, TerminalSize};
use crate::identity::Identity;
use crate::ids::{ConnectionId, Username};
use crate::policy::{self, Permit, Start, StartRequest};
use crate::pool::{LaunchState, Lease, Moment};
use crate::session::{self, Budget, Cut, Ending, Remains, SIGNALS_PENDING_MAX, Session, SessionError};

/// What the owner of a connection and its callbacks share.
pub(super) struct Shared {
    pub(super) id: ConnectionId,
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) services: Arc<Services>,
    pub(super) budget: Arc<Budget>,
    /// Cancelled when the connection is over.
    pub(super) over: CancellationToken,
    /// Where the connection's container stands; set by the owner once the client is in.
    pub(super) container: watch::Receiver<LaunchState>,
    /// Set when sessions are to end.
    pub(super) cut: watch::Receiver<Option<Cut>>,
    /// Set when users are to be told something.
    pub(super) notice: watch::Receiver<Option<Notice>>,
    /// When something was last sent.
    pub(super) activity: Activity,
    /// The tasks of the sessions that live.
    pub(super) sessions: TaskTracker,
}

/// One connection's callbacks.
pub(super) struct Connection {
    shared: Arc<Shared>,
    identity: Option<Identity>,
    logged_in: Option<oneshot::Sender<Identity>>,
    slots: HashMap<ChannelId, Slot>,
    /// One for each session, held until its task has ended: a client that opens and closes channels faster than
    /// programs can be started and hung up gets no more of them.
    places: Arc<Semaphore>,
    /// Programs that were to run so far.
    sessions_begun: u32,
}

impl Connection {
    /// `logged_in` tells the owner who came in.
    pub(super) fn new(shared: Arc<Shared>, logged_in: oneshot::Sender<Identity>) -> Self {
        let places = Arc::new(Semaphore::new(shared.services.sessions_per_connection));
        let logged_in = Some(logged_in);
        Self { shared, identity: None, logged_in, slots: HashMap::new(), places, sessions_begun: 0 }
    }

    async fn judge(&self, user: &str, key: &russh::keys::PublicKey, algorithm: &Algorithm) -> Verdict {
        let Some(username) = Username::parse(user) else { return Verdict::Deny };
        if !login::is_strong(key, algorithm) {
            return Verdict::Deny;
        }
        let key = PublicKey {
            blob: key.public_key_bytes(),
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        };
        self.shared.services.authenticator.judge(&Attempt::PublicKey { username, key }).await
    }

    /// Decides about a program, answers, and starts a session for it.
    fn start(&mut self, id: ChannelId, start: Start, russh: &mut Russh) -> Result<(), russh::Error> {
        let Some(identity) = self.identity.clone() else { return russh.channel_failure(id) };
        let opening = match self.slots.remove(&id) {
            Some(Slot::Opening(opening)) => opening,
            // A second program on the channel: RFC 4254 §6.5 allows one.
            Some(running) => {
                self.slots.insert(id, running);
                return russh.channel_failure(id);
            }
            None => return russh.channel_failure(id),
        };
        let Opening { place, write, env, terminal } = opening;
        let (client, server) = (self.shared.client, self.shared.server);
        let request = StartRequest { start, env: env.clone(), terminal: terminal.clone(), client, server };
        let permit = match policy::decide(&self.shared.services.rules, &identity, request) {
            Ok(permit) => permit,
            Err(denied) => {
                tracing::info!(connection = %self.shared.id, %denied, "request refused");
                self.slots.insert(id, Slot::Opening(Opening { place, write, env, terminal }));
                return russh.channel_failure(id);
            }
        };
        self.sessions_begun += 1;
        let container = container_for(&self.shared, &identity, Some(self.sessions_begun));
        let lease = self.shared.services.pool.lease(Moment::Session, container);
        self.run(permit, Opening { place, write, env, terminal }, lease, russh.handle());
        russh.channel_success(id)
    }

    /// Starts the session's task. With a lease of its own it uses that one's container.
    fn run(&mut self, permit: Permit, opening: Opening, lease: Option<Lease>, handle: Handle) {
        let Opening { place, write, terminal, .. } = opening;
        let id = write.id();
        let size = terminal.map_or(TerminalSize::from_client(0, 0), |terminal| terminal.size);
        let (sizes, size_receiver) = watch::channel(size);
        let (signals, signal_receiver) = mpsc::channel(SIGNALS_PENDING_MAX);
        let (stdin, stdin_queue) = session::stdin_queue(&self.shared.budget);
        let closed = self.shared.over.child_token();
        let overflowed = CancellationToken::new();
        let over = CancellationToken::new();
        let client = ChannelClient::new(write, handle, closed.clone(), Arc::clone(&self.shared));
        let has_terminal = permit.has_terminal();
        let session = Session {
            permit,
            container: lease.as_ref().map_or_else(|| self.shared.container.clone(), Lease::state),
            client: Arc::clone(&client) as Arc<dyn session::Client>,
            stdin: stdin_queue,
            sizes: size_receiver,
            signals: signal_receiver,
            ending: Ending {
                channel_closed: closed.clone(),
                remains: self.remains(),
                cut: self.shared.cut.clone(),
                overflowed: overflowed.clone(),
            },
        };
        let over_on_drop = over.clone().drop_guard();
        let running = Running { stdin, sizes, signals, closed, overflowed, over, has_terminal };
        self.slots.insert(id, Slot::Running(running));
        let work = self.shared.sessions.track_future(async move {
            // A fault of ours must not leave the client waiting for ever.
            let run = AssertUnwindSafe(session.run()).catch_unwind();
            let result = tokio::select! {
                result = run => result.unwrap_or(Err(SessionError::Fault)),
                // Scripts are told at the end alone, people also before.
                () = client.show_notices(), if has_terminal => Err(SessionError::Closed),
            };
            client.finish(result, has_terminal).await;
            drop((over_on_drop, place));
        });
        self.shared.services.drain.tasks.spawn(async move {
            work.await;
            if let Some(lease) = lease {
                lease.give_back().await;
            }
        });
    }

    fn remains(&self) -> Remains {
        let services = &self.shared.services;
        if services.pool.keeps_containers() {
            Remains::Stay(services.drain.tasks.clone())
        } else {
            Remains::Go(self.shared.over.clone())
        }
    }

    fn opening(&mut self, id: ChannelId) -> Option<&mut Opening> {
        match self.slots.get_mut(&id) {
            Some(Slot::Opening(opening)) => Some(opening),
            _ => None,
        }
    }

    fn running(&self, id: ChannelId) -> Option<&Running> {
        match self.slots.get(&id) {
            Some(Slot::Running(running)) => Some(running),
            _ => None,
        }
    }
}

/// Answers a request that wants a reply; russh keeps silent for those that do not.
fn reply(russh: &mut Russh, id: ChannelId, granted: bool) -> Result<(), russh::Error> {
    if granted { russh.channel_success(id) } else { russh.channel_failure(id) }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Self::Error> {
        Ok(login::reject())
    }

    async fn auth_password(&mut self, _user: &str, _password: &str) -> Result<Auth, Self::Error> {
        Ok(login::reject())
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(match self.judge(user, offer.public_key, offer.algorithm).await {
            Verdict::Accept(_) => Auth::Accept,
            Verdict::Deny => login::reject(),
        })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        // Judged anew: what was offered before may have been another key, or another user's.
        Ok(match self.judge(user, key.public_key, key.algorithm).await {
            Verdict::Accept(identity) => {
                self.identity = Some(*identity);
                Auth::Accept
            }
            Verdict::Deny => login::reject(),
        })
    }

    async fn auth_succeeded(&mut self, _russh: &mut Russh) -> Result<(), Self::Error> {
        if let (Some(identity), Some(logged_in)) = (self.identity.clone(), self.logged_in.take()) {
            drop(logged_in.send(identity));
        }
        Ok(())
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        let banner = &self.shared.services.banner;
        Ok((!banner.is_empty()).then(|| banner.clone()))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        // Where we close first, russh forgets the channel at once and never tells of the client's own close.
        self.slots.retain(|_, slot| !slot.is_over());
        if self.identity.is_none() || self.shared.services.drain.begun.is_cancelled() {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        } else if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            // Without a read half russh never waits for us; input arrives in `data`.
            let (_, write) = channel.split();
            let opening = Opening { place, write, env: Vec::new(), terminal: None };
            self.slots.insert(opening.write.id(), Slot::Opening(opening));
            reply.accept().await;
        } else {
            tracing::info!(connection = %self.shared.id, "session refused: too many on the connection");
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _width_pixels: u32,
        _height_pixels: u32,
        modes: &[(Pty, u32)],
        russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        let granted = self.opening(id).is_some_and(|opening| {
            opening.terminal.is_none() && {
                let modes = modes
                    .iter()
                    .map(|(code, argument)| TerminalMode { opcode: *code as u8, argument: *argument });
                let size = TerminalSize::from_client(columns, rows);
                opening.terminal = Some(Terminal { term: sane_term(term), size, modes: modes.collect() });
                true
            }
        });
        reply(russh, id, granted)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        let services = Arc::clone(&self.shared.services);
        let granted = self.opening(id).is_some_and(|opening| {
            let accepted = services.rules.env.accepts(name, value, &opening.env);
            if accepted {
                opening.env.push((name.to_owned(), value.to_owned()));
            }
            accepted
        });
        reply(russh, id, granted)
    }

    async fn shell_request(&mut self, id: ChannelId, russh: &mut Russh) -> Result<(), Self::Error> {
        self.start(id, Start::Shell, russh)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        self.start(id, Start::Exec(command.to_vec()), russh)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        self.start(id, Start::Subsystem(name.to_owned()), russh)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        russh.channel_failure(id)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        _width_pixels: u32,
        _height_pixels: u32,
        russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        let size = TerminalSize::from_client(columns, rows);
        let granted = match self.slots.get_mut(&id) {
            Some(Slot::Running(running)) if running.has_terminal => {
                running.sizes.send_replace(size);
                true
            }
            Some(Slot::Opening(Opening { terminal: Some(terminal), .. })) => {
                terminal.size = size;
                true
            }
            _ => false,
        };
        reply(russh, id, granted)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, russh: &mut Russh) -> Result<(), Self::Error> {
        let sent = from_russh(&signal)
            .zip(self.running(id))
            .is_some_and(|(signal, running)| running.signals.try_send(signal).is_ok());
        reply(russh, id, sent)
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _russh: &mut Russh) -> Result<(), Self::Error> {
        self.shared.activity.note();
        if let Some(running) = self.running(id)
            && running.stdin.push(data).is_err()
        {
            running.overflowed.cancel();
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _russh: &mut Russh) -> Result<(), Self::Error> {
        if let Some(running) = self.running(id) {
            running.stdin.end();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _russh: &mut Russh) -> Result<(), Self::Error> {
        self.slots.remove(&id);
        Ok(())
    }
}
