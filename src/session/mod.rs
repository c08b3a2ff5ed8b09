//! One session channel (RFC 4254 §6) once its program is to run. Knows neither russh nor Docker.

mod backlog;
mod budget;
pub mod config;
mod left;
mod provision;
mod pump;
pub mod registry;
mod stdin;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{
    Container, EngineError, ExitStatus, LaunchStage, ProcessControl, PullProgress, Signal, TerminalSize,
};
use crate::policy::Permit;
use crate::pool::{LaunchError, LaunchState};

pub use budget::{Budget, Budgets};
pub use config::Limits;
pub use left::left;
pub use provision::{Provided, Provision};
pub use registry::Registry;
pub use stdin::{Overflow, Stdin, StdinQueue, StdinSender, stdin_queue};

/// How long a program has after SIGHUP before it is killed, when its channel closes on a live connection.
const HANG_UP_GRACE: Duration = Duration::from_secs(5);

/// Signals of one channel that wait for the engine. Past it they are dropped: a client that sends faster than
/// signals can be delivered asks for nothing that a program could tell apart.
pub const SIGNALS_PENDING_MAX: usize = 16;

/// The client's end of the channel. Implemented by `ssh/`; a double in tests.
#[async_trait]
pub trait Client: Send + Sync {
    /// Sends program output; waits for the channel's window.
    async fn stdout(&self, chunk: Bytes) -> io::Result<()>;
    /// Sends error output; waits for the channel's window.
    async fn stderr(&self, chunk: Bytes) -> io::Result<()>;
}

/// All that one session needs.
pub struct Session {
    /// Leave to start the program.
    pub permit: Permit,
    /// The container of the connection, or its own.
    pub container: watch::Receiver<LaunchState>,
    /// The client.
    pub client: Arc<dyn Client>,
    /// What is to be there besides the program.
    pub provision: Option<Box<dyn Provision>>,
    /// What the client sends to the program.
    pub stdin: StdinQueue,
    /// The terminal's size as the client changes it.
    pub sizes: watch::Receiver<TerminalSize>,
    /// Signals that the client sends.
    pub signals: mpsc::Receiver<Signal>,
    /// When it has to end early.
    pub ending: Ending,
}

/// The reasons for which a session ends before its program does.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The client closed the channel, or the connection is over.
    pub channel_closed: CancellationToken,
    /// What becomes of the container.
    pub remains: Remains,
    /// Whoever answers for the connection ends it, for this reason.
    pub cut: watch::Receiver<Option<Cut>>,
    /// More input came than can be kept.
    pub overflowed: CancellationToken,
    /// What was permitted is not any more.
    pub revoked: CancellationToken,
}

/// What becomes of a session's container, and so of a program that is still there when its session has ended.
#[derive(Clone, Debug)]
pub enum Remains {
    /// It goes when this is cancelled, with all that runs in it.
    Go(CancellationToken),
    /// It stays; what is to be ended after its session is ended by a task on this tracker.
    Stay(TaskTracker),
}

impl Ending {
    /// Waits for the first of them. Cancel safe.
    async fn came(&self) -> SessionError {
        tokio::select! {
            () = self.channel_closed.cancelled() => SessionError::Closed,
            () = self.overflowed.cancelled() => SessionError::Overflow,
            () = self.revoked.cancelled() => SessionError::Cut(Cut::Revoked),
            cut = self.cut() => SessionError::Cut(cut),
        }
    }

    async fn cut(&self) -> Cut {
        let mut cut = self.cut.clone();
        let reason = cut.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            // The connection's owner has gone; its own end is told by the other tokens.
            None => std::future::pending().await,
        }
    }
}

/// Why a session is ended from our side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The server is going down.
    #[error("the server is shutting down")]
    Draining,
    /// The connection has lived for as long as it may.
    #[error("a connection may last {} here, and this one has", humantime::format_duration(*.0))]
    Lifetime(Duration),
    /// Nothing was sent in either direction for as long as that may be.
    #[error("nothing happened for {}", humantime::format_duration(*.0))]
    Idle(Duration),
    /// What was permitted is not any more.
    #[error("you may not run this here any more")]
    Revoked,
    /// Whoever runs the server wants it, and may have said why.
    #[error("an operator ended this connection{}", because(.0))]
    Operator(String),
    /// The container ended behind our back.
    #[error("the container is gone: {0}")]
    ContainerLost(String),
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("permit", &self.permit).finish_non_exhaustive()
    }
}

/// Why a session ended without its program's own status.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no container.
    #[error("{0}")]
    Launch(#[from] LaunchError),
    /// The program could not be started, or its end could not be learned.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The engine's stream broke.
    #[error("the connection to the program broke: {0}")]
    Stream(io::Error),
    /// The client sent more than can be kept for a program that does not read.
    #[error("the program does not read its input, and no more of it can be kept")]
    Overflow,
    /// Something is wrong with us.
    #[error("the server has a fault; its log tells more")]
    Fault,
    /// The client closed the channel.
    #[error("the client closed the channel")]
    Closed,
    /// It was ended from our side.
    #[error("{0}")]
    Cut(Cut),
}

impl Session {
    /// Runs the program to its end.
    ///
    /// # Errors
    /// [`SessionError`] when there is no program's status to tell.
    pub async fn run(self) -> Result<ExitStatus, SessionError> {
        let Self { permit, container, client, provision, stdin, sizes, signals, ending } = self;
        let (hand_over, stdin_ready) = oneshot::channel();
        let lost = lost(container.clone());
        let program = async {
            let container =
                await_container(container, client.as_ref(), permit.has_terminal(), &ending).await?;
            let provided = match &provision {
                None => Provided::default(),
                Some(provision) => tokio::select! {
                    provided = provision.provide(&container) => provided,
                    early = ending.came() => return Err(early),
                },
            };
            if permit.has_terminal() {
                provided.show(client.as_ref()).await;
            }
            let process = start(container.as_ref(), permit, provided, &ending).await?;
            // Fails only after an overflow, which the relay then sees first.
            drop(hand_over.send(process.stdin));
            let controls = pump::Controls { sizes, signals };
            pump::relay(process.output, process.control, client.as_ref(), controls, &ending).await
        };
        let input = async {
            stdin.feed(stdin_ready).await;
            ending.overflowed.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = program => result,
            () = input => Err(SessionError::Overflow),
            reason = lost => Err(SessionError::Cut(Cut::ContainerLost(reason))),
        }
    }
}

/// Waits for the loss of the container. Cancel safe.
async fn lost(mut state: watch::Receiver<LaunchState>) -> String {
    loop {
        if let LaunchState::Lost(reason) = &*state.borrow_and_update() {
            return reason.clone();
        }
        if state.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Waits for the container and shows a person at a terminal what it waits for.
async fn await_container(
    mut state: watch::Receiver<LaunchState>,
    client: &dyn Client,
    has_terminal: bool,
    ending: &Ending,
) -> Result<Arc<dyn Container>, SessionError> {
    loop {
        let now = state.borrow_and_update().clone();
        match now {
            LaunchState::Ready(container) => return Ok(container),
            LaunchState::Failed(error) => return Err(error.into()),
            LaunchState::Lost(reason) => return Err(SessionError::Cut(Cut::ContainerLost(reason))),
            LaunchState::InProgress(LaunchStage::Pulling(progress)) if has_terminal => {
                client.stderr(show(&progress)).await.map_err(|_| SessionError::Closed)?;
            }
            LaunchState::InProgress(_) => {}
        }
        tokio::select! {
            changed = state.changed() => changed.map_err(|_| SessionError::Closed)?,
            early = ending.came() => return Err(early),
        }
    }
}

/// One line that overwrites itself.
fn show(progress: &PullProgress) -> Bytes {
    let image: String = progress.image.chars().filter(|letter| !letter.is_control()).collect();
    let PullProgress { layers_done, layers_total, bytes_done, bytes_total, .. } = progress;
    let megabytes = |bytes: &u64| bytes / 1_000_000;
    let line = format!(
        "\rpulling {image}: {layers_done} of {layers_total} layers, {} of {} MB\x1b[K",
        megabytes(bytes_done),
        megabytes(bytes_total),
    );
    let end = if layers_done == layers_total && *layers_total > 0 { "\r\n" } else { "" };
    Bytes::from(line + end)
}

/// Starts the program. An exec under way is never cut: the engine might start it with nobody to watch it.
async fn start(
    container: &dyn Container,
    permit: Permit,
    provided: Provided,
    ending: &Ending,
) -> Result<crate::engine::Process, SessionError> {
    let mut spec = permit.redeem();
    provided.add_to(&mut spec.env);
    let process = container.exec(&spec).await?;
    if ending.channel_closed.is_cancelled() {
        hang_up(process.control.as_ref(), ending).await;
        return Err(SessionError::Closed);
    }
    Ok(process)
}

/// Ends a program whose client has gone: SIGHUP, then SIGKILL. Where its container goes, this is left to its removal.
async fn hang_up(control: &dyn ProcessControl, ending: &Ending) {
    match &ending.remains {
        Remains::Stay(_) => signal_to_end(control).await,
        Remains::Go(gone) => tokio::select! {
            () = signal_to_end(control) => {}
            () = gone.cancelled() => {}
        },
    }
}

async fn signal_to_end(control: &dyn ProcessControl) {
    for signal in [Signal::Hup, Signal::Kill] {
        if let Err(error) = control.signal(signal).await {
            tracing::debug!(%error, signal = signal.name(), "cannot hang up");
        }
        if tokio::time::timeout(HANG_UP_GRACE, control.ended()).await.is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
