//! Channels that we open to the client: for whoever calls a listener inside its container, the agent's socket, the
//! display.

use std::sync::Arc;

use async_trait::async_trait;
use russh::Channel;
use russh::server::{Handle, Msg};

use super::login::Admitted;
use super::permit::permit_lost;
use super::shared::Shared;
use super::tunnel::tunnel;
use crate::events::Happening;
use crate::forward::{Opener, Refused, Traffic, Tunnel};
use crate::policy::{Denied, Rules};

/// What callers come to.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// What the client asked to be listened on, and the port that it was told.
    Tcp {
        host: String,
        port: u16,
    },
    /// The socket that the client asked for.
    Unix {
        path: String,
    },
    Agent,
    Display,
}

/// Decides anew whether callers may be taken in.
pub(super) type Decide = Box<dyn Fn(&Rules) -> Result<(), Denied> + Send + Sync>;

/// Opens channels for the callers of one listener.
pub(super) struct ChannelOpener {
    shared: Arc<Shared>,
    admitted: Admitted,
    handle: Handle,
    kind: Kind,
    decide: Arc<Decide>,
}

impl ChannelOpener {
    pub(super) fn new(
        shared: &Arc<Shared>,
        admitted: &Admitted,
        handle: Handle,
        kind: Kind,
        decide: Decide,
    ) -> Self {
        let (shared, admitted) = (Arc::clone(shared), admitted.clone());
        Self { shared, admitted, handle, kind, decide: Arc::new(decide) }
    }

    async fn ask(&self, host: &str, port: u16) -> Result<Channel<Msg>, russh::Error> {
        let (handle, from) = (&self.handle, u32::from(port));
        match &self.kind {
            Kind::Tcp { host: asked, port } => {
                handle.channel_open_forwarded_tcpip(asked, u32::from(*port), host, from).await
            }
            Kind::Unix { path } => handle.channel_open_forwarded_streamlocal(path).await,
            Kind::Agent => handle.channel_open_agent().await,
            Kind::Display => handle.channel_open_x11(host, from).await,
        }
    }

    fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Tcp { .. } => "forwarded-tcpip",
            Kind::Unix { .. } => "forwarded-streamlocal",
            Kind::Agent => "auth-agent",
            Kind::Display => "x11",
        }
    }
}

#[async_trait]
impl Opener for ChannelOpener {
    async fn open(&self, host: &str, port: u16) -> Result<Tunnel, Refused> {
        let shared = &self.shared;
        let expectation = shared.forwards.openings.expect();
        // Never given up before the connection is: russh ends one whose client answers what nobody waits for (read in
        // its source).
        let asked = tokio::select! {
            biased;
            () = shared.over.cancelled() => return Err(Refused::Over),
            asked = self.ask(host, port) => asked,
        };
        let write = match asked {
            // Without a read half russh never waits for us; what the client sends arrives in `data`.
            Ok(channel) => channel.split().1,
            Err(russh::Error::ChannelOpenFailure(_)) => return Err(Refused::ByClient),
            Err(_) => return Err(Refused::Over),
        };
        let outlet = tokio::select! {
            biased;
            () = shared.over.cancelled() => None,
            outlet = expectation.claim(write.id()) => outlet,
        };
        let (watched, identity) = (Arc::clone(shared), self.admitted.identity.clone());
        let decide = Arc::clone(&self.decide);
        let revoked = async move { permit_lost(&watched, &identity, |rules| decide(rules)).await };
        let outlet = outlet.ok_or(Refused::Over)?;
        let (kind, target) = (self.name(), format!("{host}:{port}"));
        shared.teller.tell(&Happening::CallerTaken { kind, target });
        Ok(tunnel(write, outlet, shared, &self.admitted, Box::pin(revoked)))
    }

    fn note(&self, host: &str, port: u16, outcome: Result<Traffic, Refused>) {
        let (kind, target) = (self.name(), format!("{host}:{port}"));
        self.shared.teller.tell(&match outcome {
            Ok(Traffic { sent: received, received: sent, .. }) => {
                Happening::ForwardEnded { kind, target, received, sent }
            }
            Err(reason) => {
                let reason = reason.to_string();
                Happening::ForwardRefused { kind, target, failed: true, reason }
            }
        });
    }
}
