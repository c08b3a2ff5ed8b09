//! What is told about a session to whoever records it.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::login::Admitted;
use super::shared::Shared;
use crate::engine::ExitStatus;
use crate::policy::{Start, StartRequest};
use crate::pool::{LaunchState, Lease};
use crate::recording::{Facts, Kind, Left, Outcome, Recording, Tap, TerminalFacts};
use crate::session::{self, SessionError};

/// How long a container may be kept after its connection's end, so that it can be asked what changed in it. Past it that
/// remains unknown.
pub(super) const HELD_MAX: Duration = Duration::from_secs(1);

/// How long it may take for as long as the connection lives.
const CHANGES_TIMEOUT: Duration = Duration::from_secs(5);

/// The recording of a session, up to its end.
pub(super) struct Record {
    recording: Recording,
    container: watch::Receiver<LaunchState>,
    /// Keeps the connection's container for as long as it is to be asked something.
    hold: Option<TaskTrackerToken>,
    patience: Duration,
    outcome: oneshot::Receiver<(Outcome, Duration)>,
}

/// To tell how the session ended.
pub(super) struct Verdict {
    tap: Tap,
    sender: oneshot::Sender<(Outcome, Duration)>,
}

impl Record {
    /// Of a session in the connection's container, or in one of its own, whose lease is given back after
    /// [`Record::follow`]. Does nothing where sessions are not recorded.
    pub(super) fn new(recording: Recording, own: Option<&Lease>, shared: &Shared) -> (Self, Verdict) {
        let (sender, outcome) = oneshot::channel();
        let tap = recording.tap();
        let hold = (recording.is_on() && own.is_none()).then(|| shared.held.token());
        let patience = if own.is_some() { HELD_MAX } else { CHANGES_TIMEOUT };
        let container = own.map_or_else(|| shared.container.clone(), Lease::state);
        (Self { recording, container, hold, patience, outcome }, Verdict { tap, sender })
    }

    /// Runs the session, and ends the recording when it has ended.
    pub(super) async fn follow(self, session: impl Future<Output = ()>) {
        let Self { recording, container, hold, patience, outcome } = self;
        let examine = async {
            let outcome = outcome.await;
            // Nobody waits for it: the client is told of the end meanwhile.
            let left =
                if recording.is_on() { session::left(&container, patience).await } else { Left::default() };
            drop(hold);
            (outcome, left)
        };
        let ((outcome, left), ()) = tokio::join!(examine, session);
        if let Ok((outcome, at)) = outcome {
            recording.finish(outcome, at, left);
        }
    }
}

impl Verdict {
    /// The session has ended so. Its client may still have to be told.
    pub(super) fn tell(self, result: &Result<ExitStatus, SessionError>) {
        let outcome = match result {
            Ok(ExitStatus::Exited(status)) => Outcome::Exited(*status),
            Ok(ExitStatus::Signaled(signal)) => Outcome::Signaled(signal.name()),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        // Nobody listens where nothing is recorded.
        drop(self.sender.send((outcome, self.tap.elapsed())));
    }
}

/// Begins to record a session, if sessions are recorded.
pub(super) fn begin(shared: &Shared, admitted: &Admitted, number: u32, request: &StartRequest) -> Recording {
    let Some(archive) = &shared.services.archive else { return Recording::off() };
    let Admitted { methods, identity, profile } = admitted;
    let (kind, command) = match &request.start {
        Start::Shell => (Kind::Shell, None),
        Start::Exec(command) => (Kind::Exec, Some(String::from_utf8_lossy(command).into_owned())),
        Start::Subsystem(name) => (Kind::Subsystem, Some(name.clone())),
    };
    archive.begin(Facts {
        connection: shared.id.clone(),
        session: number,
        user: identity.username().to_string(),
        groups: identity.groups().to_vec(),
        methods: methods.clone(),
        key_fingerprint: identity.key_fingerprint().map(str::to_owned),
        client: shared.client,
        profile: profile.name.clone(),
        image: profile.image.clone(),
        kind,
        command,
        terminal: request.terminal.as_ref().map(|terminal| TerminalFacts {
            term: terminal.term.clone(),
            columns: terminal.size.columns(),
            rows: terminal.size.rows(),
        }),
    })
}
