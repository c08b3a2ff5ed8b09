//! russh's callbacks in our words. They run in the one loop that serves the whole connection, so each of them asks
//! `auth` or `policy`, answers at once and leaves the work to a task.

use std::sync::Arc;

use russh::keys::Certificate;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session as Russh, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty, Sig};
use tokio::sync::{Semaphore, oneshot};

use super::channel::{from_russh, sane_term};
use super::dial::{self, Call};
use super::doors::{self, DisplayRequest};
use super::listen::{Asker, Listeners};
use super::login::{Admitted, Desk};
use super::owner::container_for;
use super::program::Program;
use super::shared::Shared;
use super::slots::{Opening, Slot, Slots, inlet};
use crate::engine::{Address, TerminalSize};
use crate::events::Happening;
use crate::ids::shown_name;
use crate::policy::{self, Start, StartRequest};
use crate::pool::Moment;

/// One connection's callbacks.
pub(super) struct Connection {
    shared: Arc<Shared>,
    desk: Desk,
    logged_in: Option<oneshot::Sender<Admitted>>,
    slots: Slots,
    listeners: Listeners,
    /// One for each session, held until its task has ended: a client that opens and closes channels faster than
    /// programs can be started and hung up gets no more of them. None before the login.
    places: Arc<Semaphore>,
    /// Programs that were to run so far.
    sessions_begun: u32,
}

impl Connection {
    /// `logged_in` tells the owner who came in.
    pub(super) fn new(shared: Arc<Shared>, logged_in: oneshot::Sender<Admitted>) -> Self {
        let (desk, logged_in) = (Desk::new(Arc::clone(&shared)), Some(logged_in));
        Self {
            shared,
            desk,
            logged_in,
            slots: Slots::default(),
            listeners: Listeners::default(),
            places: Arc::new(Semaphore::new(0)),
            sessions_begun: 0,
        }
    }

    /// Decides about a program, answers, and starts a session for it.
    fn start(&mut self, id: ChannelId, start: Start, russh: &mut Russh) -> Result<(), russh::Error> {
        let Some(admitted) = self.desk.admitted().cloned() else { return russh.channel_failure(id) };
        let Some(opening) = self.slots.take_opening(id) else { return russh.channel_failure(id) };
        let (client, server) = (self.shared.client, self.shared.server);
        let (env, terminal) = (opening.env.clone(), opening.terminal.clone());
        let request = StartRequest { start, env, terminal, client, server };
        let permit = match policy::decide(&admitted.profile.rules, &admitted.identity, request.clone()) {
            Ok(permit) => permit,
            Err(denied) => {
                self.judged(request.start.name(), request.start.detail(), Err(&denied.to_string()));
                self.slots.insert(id, Slot::Opening(opening));
                return russh.channel_failure(id);
            }
        };
        self.sessions_begun += 1;
        let container = container_for(&self.shared, &admitted, Some(self.sessions_begun));
        let lease = admitted.profile.pool.lease(Moment::Session, container);
        let program = Program { number: self.sessions_begun, permit, request, admitted, lease };
        let running = program.run(opening, &self.shared, russh.handle());
        self.slots.insert(id, Slot::Running(running));
        russh.channel_success(id)
    }

    fn judged(&self, request: &'static str, detail: String, outcome: Result<(), &str>) {
        self.shared.teller.tell(&Happening::of_request(request, detail, outcome));
    }

    /// Decides about a channel for whoever is to be dialled.
    async fn dial(&mut self, call: Call) {
        self.slots.sweep();
        let id = call.channel.id();
        if let Some(inlet) = call.begin(&self.shared, self.desk.admitted()).await {
            self.slots.insert(id, Slot::Forward(inlet));
        }
    }

    async fn listen(&mut self, kind: &'static str, at: Option<Address>, russh: &mut Russh) -> Option<u16> {
        let admitted = self.desk.admitted();
        let asker = Asker { shared: &self.shared, admitted, handle: russh.handle() };
        self.listeners.begin(asker, kind, at).await
    }
}

/// Answers a request that wants a reply; russh keeps silent for those that do not.
fn reply(russh: &mut Russh, id: ChannelId, granted: bool) -> Result<(), russh::Error> {
    if granted { russh.channel_success(id) } else { russh.channel_failure(id) }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        Ok(self.desk.nothing(user).await)
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        Ok(self.desk.password(user, password).await)
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.desk.offer(user, offer.public_key, offer.algorithm).await)
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(self.desk.key(user, key.public_key, key.algorithm).await)
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        Ok(self.desk.certificate(user, certificate).await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let answers = response.map(|answers| answers.map(|answer| answer.to_vec()).collect());
        Ok(self.desk.interactive(user, answers).await)
    }

    async fn auth_succeeded(&mut self, _russh: &mut Russh) -> Result<(), Self::Error> {
        if let (Some(admitted), Some(logged_in)) = (self.desk.admitted().cloned(), self.logged_in.take()) {
            self.places = Arc::new(Semaphore::new(admitted.profile.sessions_max));
            drop(logged_in.send(admitted));
            self.shared.introduction().await;
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
        self.slots.sweep();
        if self.desk.admitted().is_none() || self.shared.services.drain.begun.is_cancelled() {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        } else if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            // Without a read half russh never waits for us; input arrives in `data`.
            let (_, write) = channel.split();
            let opening = Opening { place, write, env: Vec::new(), terminal: None, screen: None };
            self.slots.insert(opening.write.id(), Slot::Opening(opening));
            reply.accept().await;
        } else {
            self.judged("session", String::new(), Err("too many on the connection"));
            self.shared.teller.tell(&Happening::LimitReached { limit: "sessions" });
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
        let admitted = self.desk.admitted();
        let permitted = admitted.is_some_and(|who| who.profile.rules.permits_terminal(&who.identity));
        let granted = self.slots.opening(id).filter(|_| permitted).is_some_and(|opening| {
            opening.take_terminal(term, TerminalSize::from_client(columns, rows), modes)
        });
        let reason = if permitted { "it comes too late" } else { "no terminals are permitted" };
        self.judged("pty-req", sane_term(term), granted.then_some(()).ok_or(reason));
        reply(russh, id, granted)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        let Some(admitted) = self.desk.admitted().cloned() else { return reply(russh, id, false) };
        let rules = &admitted.profile.rules;
        let granted = self.slots.opening(id).is_some_and(|opening| opening.take_variable(rules, name, value));
        self.judged("env", shown_name(name), granted.then_some(()).ok_or("it is not accepted"));
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
        only_one: bool,
        protocol: &str,
        cookie: &str,
        screen: u32,
        russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        let request = DisplayRequest { only_one, protocol, cookie };
        let admitted = self.desk.admitted();
        let granted =
            self.slots.opening(id).filter(|opening| opening.screen.is_none()).is_some_and(|opening| {
                let granted = doors::grant_display(&self.shared, admitted, request);
                opening.screen = granted.then_some(screen);
                granted
            });
        reply(russh, id, granted)
    }

    async fn agent_request(&mut self, id: ChannelId, _russh: &mut Russh) -> Result<bool, Self::Error> {
        let is_opening = self.slots.opening(id).is_some();
        Ok(is_opening && doors::grant_agent(&self.shared, self.desk.admitted()))
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        let to = dial::tcp(host, port);
        self.dial(Call { kind: "direct-tcpip", to, channel, reply }).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        let to = dial::unix(path);
        self.dial(Call { kind: "direct-streamlocal", to, channel, reply }).await;
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _packet_bytes_max: u32,
        _window_bytes: u32,
        _russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        self.slots.sweep();
        // A client may confirm what is open already.
        if !self.slots.has(id)
            && let Some(inlet) = self.shared.forwards.openings.confirm(id, || inlet(&self.shared))
        {
            self.slots.insert(id, Slot::Forward(inlet));
        }
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        russh: &mut Russh,
    ) -> Result<bool, Self::Error> {
        let listening = self.listen("tcpip-forward", dial::tcp(address, *port), russh).await;
        *port = listening.map_or(*port, u32::from);
        Ok(listening.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _russh: &mut Russh,
    ) -> Result<bool, Self::Error> {
        Ok(self.listeners.cancel(&self.shared, "cancel-tcpip-forward", dial::tcp(address, port)))
    }

    async fn streamlocal_forward(&mut self, path: &str, russh: &mut Russh) -> Result<bool, Self::Error> {
        Ok(self.listen("streamlocal-forward", dial::unix(path), russh).await.is_some())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _russh: &mut Russh,
    ) -> Result<bool, Self::Error> {
        Ok(self.listeners.cancel(&self.shared, "cancel-streamlocal-forward", dial::unix(path)))
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
        let granted = if let Some(running) = self.slots.running(id).filter(|running| running.has_terminal) {
            running.resize(size);
            true
        } else if let Some(Opening { terminal: Some(terminal), .. }) = self.slots.opening(id) {
            terminal.size = size;
            true
        } else {
            false
        };
        reply(russh, id, granted)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, russh: &mut Russh) -> Result<(), Self::Error> {
        let signal = from_russh(&signal);
        let name = signal.map(|signal| signal.name().to_owned()).unwrap_or_default();
        let sent = signal
            .filter(|signal| {
                self.desk.admitted().is_some_and(|who| who.profile.rules.permits_signal(*signal))
            })
            .zip(self.slots.running(id))
            .filter(|(signal, running)| running.signal(*signal))
            .map(|(signal, running)| Happening::Signaled { session: running.number, signal: signal.name() });
        match &sent {
            Some(passed_on) => self.shared.teller.tell(passed_on),
            None => self.judged("signal", name, Err("it is not permitted, or nothing runs")),
        }
        reply(russh, id, sent.is_some())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _russh: &mut Russh) -> Result<(), Self::Error> {
        self.shared.activity.note();
        if let Some(inlet) = self.slots.inlet(id) {
            inlet.push(data);
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _russh: &mut Russh) -> Result<(), Self::Error> {
        if let Some(inlet) = self.slots.inlet(id) {
            inlet.end();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _russh: &mut Russh) -> Result<(), Self::Error> {
        self.slots.close(id);
        Ok(())
    }
}
