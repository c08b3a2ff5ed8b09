//! Accepts connections, and answers for each of them until it is over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::{interval, sleep};

use super::gate::{Arrival, Gate, REPORT_INTERVAL};
use super::owner;
use super::services::Services;

/// Connections at a time, logged in or not, where the process may open enough files. Past it a new one is closed.
const CONNECTIONS_MAX: u64 = 4096;

/// Descriptors that a connection needs for itself: its socket, a session's stream, calls to the engine.
const DESCRIPTORS_PER_CONNECTION: u64 = 4;

/// Descriptors that the process needs before any connection comes.
const DESCRIPTORS_RESERVED: u64 = 32;

/// Connections that the kernel keeps for us until we accept them, as far as `net.core.somaxconn` allows. Past it a client
/// may believe that it is connected while we never hear of it; the usual 128 are too few for a few hundred at once.
const BACKLOG: u32 = 4096;

/// Pause after a failed accept: out of descriptors, trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for connections of the run before to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { tcp: socket.listen(BACKLOG)? })
    }

    /// Takes over a socket that listens already.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn adopt(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { tcp: TcpListener::from_std(socket)? })
    }

    /// The address that it got.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Accepts until the drain begins. Each connection gets the services of the moment it came.
    pub async fn run(self, mut services: watch::Receiver<Arc<Services>>) {
        let mut current = Arc::clone(&services.borrow_and_update());
        let drain = current.drain.clone();
        let gate = Arc::new(Gate::new(&current, connections_max()));
        let mut report = interval(REPORT_INTERVAL);
        loop {
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
                _ = report.tick() => {
                    gate.report();
                    continue;
                }
                () = drain.begun.cancelled() => return,
            };
            if services.has_changed().unwrap_or_default() {
                current = Arc::clone(&services.borrow_and_update());
                gate.configure(&current);
            }
            match accepted {
                Ok((tcp, peer)) => {
                    if let Some(arrival) = gate.meet(tcp, peer, &current) {
                        drain.tasks.spawn(serve(arrival, Arc::clone(&gate), services.clone()));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Takes all the descriptors that we may have, and as many connections as these are enough for: a server that runs
/// out of them fails the users who are in already, and cannot even remove their containers.
fn connections_max() -> u32 {
    let mut limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, most) {
        Ok(()) => limit = most,
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
    let descriptors = limit.current.unwrap_or(u64::MAX);
    let fit = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / DESCRIPTORS_PER_CONNECTION;
    u32::try_from(fit.clamp(1, CONNECTIONS_MAX)).unwrap_or(1)
}

async fn serve(arrival: Arrival, gate: Arc<Gate>, services: watch::Receiver<Arc<Services>>) {
    let drain = services.borrow().drain.clone();
    if let Err(error) = arrival.tcp.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let identified = tokio::select! {
        identified = gate.identify(arrival) => identified,
        () = drain.begun.cancelled() => None,
    };
    if let Some(arrival) = identified {
        owner::own(arrival, &gate, services).await;
    }
}
