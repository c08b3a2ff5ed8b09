//! A program that was permitted: its session's task, from the start to what the client is told of its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::FutureExt;
use russh::server::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::channel::ChannelClient;
use super::doors;
use super::files::FileWatch;
use super::login::Admitted;
use super::permit::permit_lost;
use super::record::{self, Record};
use super::shared::Shared;
use super::slots::{Opening, Outlet, Running, tapped_inlet};
use super::story::Story;
use crate::engine::{ExitStatus, TerminalSize};
use crate::events::Happening;
use crate::policy::{self, Permit, Rules, StartRequest};
use crate::pool::{LaunchState, Lease};
use crate::session::{self, Ending, Remains, SIGNALS_PENDING_MAX, Session, SessionError};

/// What is to run.
pub(super) struct Program {
    /// Which of the connection's sessions.
    pub(super) number: u32,
    pub(super) permit: Permit,
    /// What the permit was given for, to ask again when the rules change.
    pub(super) request: StartRequest,
    pub(super) admitted: Admitted,
    /// Of a container of its own; without one it uses the connection's.
    pub(super) lease: Option<Lease>,
}

impl Program {
    /// Starts the session's task.
    pub(super) fn run(self, opening: Opening, shared: &Arc<Shared>, handle: Handle) -> Running {
        let Self { number, permit, request, admitted, lease } = self;
        let Opening { place, write, terminal, screen, .. } = opening;
        let size = terminal.map_or(TerminalSize::from_client(0, 0), |terminal| terminal.size);
        let (sizes, size_receiver) = watch::channel(size);
        let (signals, signal_receiver) = mpsc::channel(SIGNALS_PENDING_MAX);
        let recording = record::begin(shared, &admitted, number, &request);
        let (mut inlet, outlet) = tapped_inlet(shared, recording.tap());
        let Outlet { input, received, closed, overflowed, over, .. } = outlet;
        let revoked = CancellationToken::new();
        let provision = doors::of_program(shared, &admitted, screen, &handle);
        let has_terminal = permit.has_terminal();
        shared.teller.tell(&Happening::SessionStarted {
            session: number,
            request: request.start.name(),
            detail: request.start.detail(),
            terminal: has_terminal,
        });
        inlet.files = FileWatch::of(shared, number, &request.start, &permit);
        let client = ChannelClient::new(write, handle, &inlet, Arc::clone(shared), number);
        let story = Story::new(shared, &admitted.profile, Some(number));
        let container = lease.as_ref().map_or_else(|| shared.container.clone(), Lease::state);
        let held = lease.as_ref().map(|it| shared.registration.hold_container(Some(number), it.state()));
        let (record, verdict) = Record::new(recording, lease.as_ref(), shared);
        let tale = Tale::new(number, request.start.name(), received, container.clone());
        let session = Session {
            permit,
            container,
            client: Arc::clone(&client) as Arc<dyn session::Client>,
            provision,
            stdin: input,
            sizes: size_receiver,
            signals: signal_receiver,
            ending: Ending {
                channel_closed: closed,
                remains: remains(&admitted, shared),
                cut: shared.cut.clone(),
                overflowed,
                revoked: revoked.clone(),
            },
        };
        let running = Running { inlet, sizes, signals, number, has_terminal };
        let watched = Arc::clone(shared);
        let work = shared.sessions.track_future(async move {
            // A fault of ours must not leave the client waiting for ever.
            let run = AssertUnwindSafe(session.run()).catch_unwind();
            let watch = watch(&watched, &admitted, request, revoked);
            let result = tokio::select! {
                result = run => result.unwrap_or(Err(SessionError::Fault)),
                // Scripts are told at the end alone, people also before.
                () = client.show_notices(), if has_terminal => Err(SessionError::Closed),
                () = watch => Err(SessionError::Closed),
            };
            verdict.tell(&result);
            let ended = tale.end(&result, client.sent());
            let is_overflow = matches!(result, Err(SessionError::Overflow));
            client.finish(result, has_terminal).await;
            tell_end(&watched, &ended, is_overflow);
            drop((over, place));
        });
        shared.services.drain.tasks.spawn(async move {
            let work = record.follow(work);
            let Some(lease) = lease else { return work.await };
            tokio::select! {
                biased;
                () = story.follow(lease.state()) => {}
                () = work => {}
            }
            lease.give_back().await;
            story.end();
            drop(held);
        });
        running
    }
}

fn tell_end(shared: &Shared, ended: &Happening, is_overflow: bool) {
    if is_overflow {
        shared.teller.tell(&Happening::LimitReached { limit: "stdin" });
    }
    shared.teller.tell(ended);
}

/// Ends what is not permitted any more. Never ends itself.
async fn watch(shared: &Shared, admitted: &Admitted, request: StartRequest, revoked: CancellationToken) {
    let identity = &admitted.identity;
    let decide = |rules: &Rules| policy::decide(rules, identity, request.clone()).map(drop);
    permit_lost(shared, identity, decide).await;
    revoked.cancel();
    std::future::pending::<()>().await;
}

/// What is to be told at the end.
struct Tale {
    number: u32,
    request: &'static str,
    begun: Instant,
    received: Arc<AtomicU64>,
    container: watch::Receiver<LaunchState>,
}

impl Tale {
    fn new(
        number: u32,
        request: &'static str,
        received: Arc<AtomicU64>,
        container: watch::Receiver<LaunchState>,
    ) -> Self {
        Self { number, request, begun: Instant::now(), received, container }
    }

    fn end(&self, result: &Result<ExitStatus, SessionError>, sent: u64) -> Happening {
        let (outcome, exit) = match result {
            Ok(ExitStatus::Exited(status)) => ("exited", status.to_string()),
            Ok(ExitStatus::Signaled(signal)) => ("signaled", signal.name().to_owned()),
            Err(error @ SessionError::Closed) => ("closed", error.to_string()),
            Err(error @ SessionError::Cut(_)) => ("cut", error.to_string()),
            Err(error) => ("failed", error.to_string()),
        };
        let container = match &*self.container.borrow() {
            LaunchState::Ready(container) => Some(container.id().as_str().to_owned()),
            LaunchState::InProgress(_) | LaunchState::Failed(_) | LaunchState::Lost(_) => None,
        };
        let (received, duration) = (self.received.load(Ordering::Relaxed), self.begun.elapsed());
        Happening::SessionEnded {
            session: self.number,
            request: self.request,
            outcome,
            exit,
            duration,
            received,
            sent,
            container,
        }
    }
}

fn remains(admitted: &Admitted, shared: &Shared) -> Remains {
    if admitted.profile.pool.keeps_containers() {
        Remains::Stay(shared.services.drain.tasks.clone())
    } else {
        Remains::Go(shared.over.clone())
    }
}
