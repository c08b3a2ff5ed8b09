//! What programs are given to get at the client: its agent (`auth-agent-req@openssh.com`) and its X11 display (`x11-req`,
//! RFC 4254 §6.3).

use std::sync::{Arc, PoisonError};

use russh::server::Handle;

use super::caller::{ChannelOpener, Decide, Kind};
use super::login::Admitted;
use super::permit::permit_lost;
use super::rescue;
use super::shared::Shared;
use crate::events::Happening;
use crate::forward::x11::{Credentials, Gatekeeper, PROTOCOL};
use crate::forward::{Door, Doors, MakeReception, Manner, Reception};
use crate::policy::{self, Rules};
use crate::session::Provision;

/// The display of a connection.
#[derive(Clone)]
pub(super) struct Display {
    door: Arc<Door>,
    gatekeeper: Arc<Gatekeeper>,
    only_one: bool,
}

/// What a client asks for with `x11-req`.
#[derive(Clone, Copy)]
pub(super) struct DisplayRequest<'a> {
    pub(super) only_one: bool,
    pub(super) protocol: &'a str,
    pub(super) cookie: &'a str,
}

impl Display {
    fn new(credentials: Credentials, only_one: bool) -> Option<Self> {
        let gatekeeper = Arc::new(Gatekeeper::new(credentials)?);
        Some(Self { door: Arc::default(), gatekeeper, only_one })
    }

    fn is_for(&self, credentials: &Credentials, only_one: bool) -> bool {
        self.gatekeeper.credentials().are(credentials) && self.only_one == only_one
    }
}

/// Decides about the agent. The socket is made when a program starts.
pub(super) fn grant_agent(shared: &Shared, admitted: Option<&Admitted>) -> bool {
    let judged = judge(admitted, |rules, admitted| {
        policy::decide_agent(rules, &admitted.identity).map_err(|denied| denied.to_string())
    });
    let granted = judged.map(|permit| shared.forwards.agent.permit(permit));
    note(shared, "auth-agent", granted)
}

/// Decides about X11. The display is made when a program starts.
pub(super) fn grant_display(
    shared: &Shared,
    admitted: Option<&Admitted>,
    request: DisplayRequest<'_>,
) -> bool {
    let granted = judge(admitted, |rules, admitted| {
        let credentials = Credentials::parse(request.protocol, request.cookie)
            .ok_or_else(|| format!("only `{PROTOCOL}` with a cookie is forwarded"))?;
        let mut there = shared.forwards.display.lock().unwrap_or_else(PoisonError::into_inner);
        let display = match there.as_ref().filter(|display| !display.door.is_over()) {
            None => Display::new(credentials, request.only_one).ok_or("the system has no random numbers")?,
            // As OpenSSH's client has it for all sessions of a connection.
            Some(display) if display.is_for(&credentials, request.only_one) => display.clone(),
            Some(_) => return Err("the connection has another display already".to_owned()),
        };
        let permit = policy::decide_display(rules, &admitted.identity, PROTOCOL, display.gatekeeper.cookie())
            .map_err(|denied| denied.to_string())?;
        display.door.permit(permit);
        *there = Some(display);
        Ok(())
    });
    note(shared, "x11", granted)
}

fn judge<T>(
    admitted: Option<&Admitted>,
    decide: impl FnOnce(&Rules, &Admitted) -> Result<T, String>,
) -> Result<T, String> {
    let admitted = admitted.ok_or("nobody has logged in")?;
    if !admitted.profile.pool.serves_connections() {
        return Err(rescue::NO_CONTAINER_OF_CONNECTION.to_owned());
    }
    decide(&admitted.profile.rules, admitted)
}

fn note(shared: &Shared, kind: &'static str, granted: Result<(), String>) -> bool {
    let (is_granted, target) = (granted.is_ok(), String::new());
    shared.teller.tell(&match granted {
        Ok(()) => Happening::Forwarded { kind, target },
        Err(reason) => Happening::ForwardRefused { kind, target, failed: false, reason },
    });
    is_granted
}

/// What a program is to be given; `screen` where X11 was granted to its session.
pub(super) fn of_program(
    shared: &Arc<Shared>,
    admitted: &Admitted,
    screen: Option<u32>,
    handle: &Handle,
) -> Option<Box<dyn Provision>> {
    if !admitted.profile.pool.serves_connections() {
        return None;
    }
    let display = shared.forwards.display.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let display = screen.zip(display).map(|(screen, display)| {
        let Display { door, gatekeeper, only_one } = display;
        let manner = Manner::Display { gatekeeper, only_one };
        ((door, reception(shared, admitted, handle, Kind::Display, manner)), screen)
    });
    let agent = reception(shared, admitted, handle, Kind::Agent, Manner::Agent);
    let agent = (Arc::clone(&shared.forwards.agent), agent);
    Some(Box::new(Doors { connection: shared.id.clone(), agent, display }))
}

fn reception(
    shared: &Arc<Shared>,
    admitted: &Admitted,
    handle: &Handle,
    kind: Kind,
    manner: Manner,
) -> MakeReception {
    let (shared, admitted, handle) = (Arc::clone(shared), admitted.clone(), handle.clone());
    Box::new(move || {
        let places = match kind {
            Kind::Agent => &shared.forwards.agent_callers,
            _ => &shared.forwards.callers,
        };
        let (watched, identity) = (Arc::clone(&shared), admitted.identity.clone());
        let still = decide(&admitted, &manner);
        let until = async move {
            tokio::select! {
                () = watched.over.cancelled() => {}
                () = permit_lost(&watched, &identity, still) => {}
            }
        };
        let decide = decide(&admitted, &manner);
        let opener = ChannelOpener::new(&shared, &admitted, handle.clone(), kind.clone(), decide);
        Reception {
            opener: Arc::new(opener),
            manner: manner.clone(),
            places: Arc::clone(places),
            tasks: shared.services.drain.tasks.clone(),
            sessions: shared.sessions.clone(),
            until: Box::pin(until),
        }
    })
}

fn decide(admitted: &Admitted, manner: &Manner) -> Decide {
    let (identity, manner) = (admitted.identity.clone(), manner.clone());
    Box::new(move |rules| match &manner {
        Manner::Display { gatekeeper, .. } => {
            policy::decide_display(rules, &identity, PROTOCOL, gatekeeper.cookie()).map(drop)
        }
        Manner::Agent | Manner::Plain => policy::decide_agent(rules, &identity).map(drop),
    })
}
