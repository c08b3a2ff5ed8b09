//! What a connection passes before anybody speaks SSH with it: penalties, limits, and the header of a proxy.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::admission::{Admission, Refusal, Ticket};
use super::network::{Source, canonical};
use super::penalties::Penalties;
use super::proxy_protocol::{self, Announced};
use super::services::Services;
use crate::events::Events;

/// How often refusals of one kind are logged: a flood of connections must not become one of lines.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Lives as long as the listener, whatever is configured anew.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) admission: Admission,
    pub(super) penalties: Arc<Penalties>,
    refusals: Refusals,
    events: Events,
}

/// A connection that was let in.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) tcp: TcpStream,
    /// The client, also behind a proxy.
    pub(super) client: SocketAddr,
    /// What it connected to.
    pub(super) server: SocketAddr,
    pub(super) ticket: Ticket,
    /// When the login grace time is over.
    pub(super) grace: Instant,
    /// It has to say first whose connection it is.
    from_proxy: bool,
}

impl Gate {
    /// Of a process that can bear `ceiling` connections.
    pub(super) fn new(services: &Services, ceiling: u32) -> Self {
        let transport = &services.transport;
        let penalties = Penalties::new(transport.penalties.clone(), transport.proxies.clone());
        Self {
            admission: Admission::new(services.connection_limits, ceiling),
            penalties: Arc::new(penalties),
            refusals: Refusals::default(),
            events: services.events.clone(),
        }
    }

    /// The configuration was read again.
    pub(super) fn configure(&self, services: &Services) {
        self.admission.configure(services.connection_limits);
        self.penalties.configure(services.transport.penalties.clone(), services.transport.proxies.clone());
    }

    /// Lets a connection that was just accepted in, or turns it away.
    pub(super) fn meet(&self, tcp: TcpStream, peer: SocketAddr, services: &Services) -> Option<Arrival> {
        let grace = Instant::now() + services.transport.login_grace;
        let client = canonical(peer);
        let server = canonical(tcp.local_addr().ok()?);
        let source = Source::of(client.ip());
        let from_proxy = services.transport.proxies.iter().any(|network| network.contains(client.ip()));
        let admitted = if from_proxy {
            self.admission.admit_proxy(source)
        } else if self.penalties.is_banned(client.ip()).is_some() {
            Err(Refusal::Punished)
        } else {
            self.admission.admit(source)
        };
        match admitted {
            Ok(ticket) => Some(Arrival { tcp, client, server, ticket, grace, from_proxy }),
            Err(refusal) => {
                self.turn_away(&tcp, client, refusal, &refusal);
                None
            }
        }
    }

    /// Learns from a proxy whose connection it is; turns it away if that is not said, or the client is not let in.
    pub(super) async fn identify(&self, mut arrival: Arrival) -> Option<Arrival> {
        if !arrival.from_proxy {
            return Some(arrival);
        }
        let announced = tokio::select! {
            announced = timeout_at(arrival.grace, proxy_protocol::read(&mut arrival.tcp)) => announced,
            () = arrival.ticket.evicted() => return None,
        };
        let proxy = arrival.client;
        let outcome = match announced {
            Ok(Ok(Announced::Own)) => arrival.ticket.identify(Source::of(proxy.ip())),
            Ok(Ok(Announced::Client { client, server })) => {
                (arrival.client, arrival.server) = (client, server);
                if self.penalties.is_banned(client.ip()).is_some() {
                    Err(Refusal::Punished)
                } else {
                    arrival.ticket.identify(Source::of(client.ip()))
                }
            }
            Ok(Err(error)) => {
                self.note(proxy, Refusal::Unidentified, &error);
                return None;
            }
            Err(_elapsed) => {
                self.note(proxy, Refusal::Unidentified, &"its PROXY protocol header did not come in time");
                return None;
            }
        };
        match outcome {
            Ok(()) => Some(arrival),
            Err(refusal) => {
                self.turn_away(&arrival.tcp, arrival.client, refusal, &refusal);
                None
            }
        }
    }

    /// To be called once in a [`REPORT_INTERVAL`].
    pub(super) fn report(&self) {
        self.refusals.report();
    }

    fn note(&self, client: SocketAddr, refusal: Refusal, reason: &dyn Display) {
        self.events.tell_refusal(client, refusal.label());
        self.refusals.note(client, refusal, reason);
    }

    /// Tells the client as sshd does: a line in place of the version, for those who look (`ssh -v`).
    fn turn_away(&self, tcp: &TcpStream, client: SocketAddr, refusal: Refusal, reason: &dyn Display) {
        self.note(client, refusal, reason);
        // What is not read yet would turn our close into a reset, which drops the line.
        let mut unread = [0; 256];
        for attempt in [tcp.try_write(refusal.line()), tcp.try_read(&mut unread)] {
            if let Err(error) = attempt {
                tracing::trace!(%client, %error, "no farewell");
            }
        }
    }
}

impl Refusal {
    /// For labels.
    fn label(self) -> &'static str {
        match self {
            Self::Punished => "banned",
            Self::TooMany => "connections",
            Self::TooManyOfSource => "connections-of-source",
            Self::TooManyStartups => "startups",
            Self::Unidentified => "proxy",
        }
    }

    /// sshd's words.
    fn line(self) -> &'static [u8] {
        match self {
            Self::Punished => b"Not allowed at this time\r\n",
            Self::TooMany | Self::TooManyOfSource => b"Too many connections\r\n",
            Self::TooManyStartups => b"Exceeded MaxStartups\r\n",
            Self::Unidentified => b"",
        }
    }
}

/// Refusals since the last report, of each kind that was refused since the one before.
#[derive(Debug, Default)]
struct Refusals {
    counts: Mutex<HashMap<Refusal, u64>>,
}

impl Refusals {
    /// Logs the first of its kind at once and counts the others.
    fn note(&self, client: SocketAddr, refusal: Refusal, reason: &dyn Display) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&refusal) {
            *count += 1;
        } else {
            counts.insert(refusal, 0);
            drop(counts);
            tracing::warn!(%client, "connection refused: {reason}");
        }
    }

    fn report(&self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|refusal, count| {
            if *count > 0 {
                tracing::warn!(count, "more connections refused: {refusal}");
            }
            std::mem::take(count) > 0
        });
    }
}
