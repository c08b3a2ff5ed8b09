//! From a specification to a running container, or to nothing: whatever was created on the way is removed again.

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{InspectContainerOptions, StartContainerOptions};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::image_is_missing;
use super::launcher::{DELIVER, Guide, Means, Way, is_undelivered};
use super::pull::PullError;
use super::reference::Reference;
use super::retry::Retries;
use super::shortcomings::{Guess, Lacking};
use super::{Docker, ImagePullPolicy, Sandbox, remove, spec};
use crate::engine::{
    ContainerSpec, EngineError, LABEL_CONNECTION, LABEL_WARM, LaunchFailure, LaunchStage, LaunchWatch, Turn,
};
use crate::ids::ContainerId;

/// How long past the configured time-out we wait for a create to be answered, so that we can undo it.
const LATE_CREATE_MAX: Duration = Duration::from_mins(3);

/// Which part of the time-out a look for a newer image may take where one is there.
const REFRESH_SHARE: u32 = 2;

/// Answers of whatever stands before an engine: the engine itself may have done what it was asked.
const GATEWAY_STATUSES: RangeInclusive<u16> = 502..=504;

const CREATE: &str = "create the container";
const START: &str = "start the container";
const PULL: &str = "pull the image";

/// Brings one container up, and tells how programs are started in it. See [`crate::engine::Engine::launch`].
pub(super) async fn launch(
    docker: &Docker,
    spec: &ContainerSpec,
    watch: &LaunchWatch,
) -> Result<(ContainerId, Guide), LaunchFailure> {
    let deadline = Instant::now() + docker.config.timeout.get();
    let mut candidates = docker.launchers.candidates(&docker.config, &docker.client).into_iter().peekable();
    while let Some(means) = candidates.next() {
        let guess = Mutex::new(docker.shortcomings.guess());
        let launch = Launch {
            docker,
            spec,
            watch,
            deadline,
            guess,
            means,
            way: OnceCell::new(),
            turn: Mutex::default(),
        };
        match launch.run().await {
            Ok(launched) => {
                docker.launchers.succeeded(docker.config.launcher, means);
                return Ok(launched);
            }
            Err(failure) => {
                let is_worth_another = means != Means::Exec && is_undelivered(&failure.error);
                if !is_worth_another || failure.maybe_left || candidates.peek().is_none() {
                    return Err(failure);
                }
                docker.launchers.failed(means, docker.config.image(), &failure.error);
            }
        }
    }
    // A persistent container needs one that it can be met in again.
    let reason = "with `mode: persistent` it needs an engine on this machine".to_owned();
    Err(EngineError::Unsupported { action: DELIVER, reason }.into())
}

/// Whom a container's name belongs to.
#[derive(Debug, PartialEq, Eq)]
enum NameOwner {
    /// The connection that is being served.
    Us(ContainerId),
    Others,
    /// Nobody, or the engine does not say.
    Unknown,
}

struct Launch<'a> {
    docker: &'a Docker,
    spec: &'a ContainerSpec,
    watch: &'a LaunchWatch,
    deadline: Instant,
    guess: Mutex<Guess>,
    means: Means,
    /// Made when it is known which image there is.
    way: OnceCell<Way>,
    /// Ours to create and start; given up whenever we wait for something else.
    turn: Mutex<Option<Turn>>,
}

impl Launch<'_> {
    async fn run(mut self) -> Result<(ContainerId, Guide), LaunchFailure> {
        self.check()?;
        let mut id = self.create_with_image().await?;
        loop {
            let before = self.lacking();
            let Err(error) = self.start(&id).await else { break };
            let failure = self.undo(&id, error).await;
            // Each round leaves out one thing more, so there are few.
            if self.lacking() == before || failure.maybe_left {
                return Err(failure);
            }
            id = self.create().await?;
        }
        self.docker.shortcomings.confirm(&self.guess());
        match self.meet(&id).await {
            Ok(guide) => Ok((id, guide)),
            Err(error) => Err(self.undo(&id, error).await),
        }
    }

    /// Meets the container's init, if it has one.
    async fn meet(&mut self, id: &ContainerId) -> Result<Guide, EngineError> {
        self.end_turn();
        let docker = self.docker;
        let Some(way) = self.way.take() else { return Ok(Guide::Exec) };
        let fate = docker.fates.follow(&docker.client, id.as_str());
        let meeting = way.meet(&docker.config, &docker.client, fate);
        self.until_called_off(self.watch.phases.time("meet", meeting)).await?
    }

    /// Creates the container, with a pull before or after the attempt as the policy has it.
    async fn create_with_image(&self) -> Result<ContainerId, LaunchFailure> {
        let image = self.docker.config.image();
        let floats = Reference::parse(image).floats();
        let pulled = match self.docker.config.image_pull_policy {
            ImagePullPolicy::Always => {
                self.pull(image).await?;
                Some(Ok(()))
            }
            ImagePullPolicy::IfNotPresent if floats && !self.docker.pulls.failed_lately(image) => {
                let pull = self.until_called_off(self.docker.pulls.shared(image, self.watch));
                tokio::pin!(pull);
                match timeout(self.docker.config.timeout.get() / REFRESH_SHARE, &mut pull).await {
                    Ok(pulled) => Some(pulled?),
                    // A slow registry must not keep people from an image that is there.
                    Err(_) => match self.create().await {
                        Err(failure) if image_is_missing(&failure.error) => Some(pull.await?),
                        created => return Ok(self.without_refresh(created?)),
                    },
                }
            }
            ImagePullPolicy::IfNotPresent | ImagePullPolicy::Never => None,
        };
        let created = self.create().await;
        let missing = matches!(&created, Err(failure) if image_is_missing(&failure.error));
        match (missing, pulled) {
            (true, Some(Err(error @ PullError::Failed(_)))) => Err(error.of(image).into()),
            (true, None) if self.docker.config.image_pull_policy == ImagePullPolicy::Never => {
                Err(EngineError::NoSuchImage { image: image.to_owned() }.into())
            }
            (true, None | Some(Err(PullError::Unreachable { .. }))) => {
                self.pull(image).await?;
                self.create().await
            }
            (false, Some(Err(PullError::Failed(reason)))) if created.is_ok() => {
                tracing::warn!(image, reason, "the pull failed, the image that is there is used");
                created
            }
            _ => created,
        }
    }

    /// A container came of the image that is there; for a while nobody waits for a newer one.
    fn without_refresh(&self, id: ContainerId) -> ContainerId {
        let image = self.docker.config.image();
        let reason = "it takes too long".to_owned();
        tracing::warn!(image, reason, "the image that is there is used");
        self.docker.pulls.remember(image, &Err(PullError::Failed(reason)));
        id
    }

    /// Pulls what there is no container without; again, while the engine is away.
    async fn pull(&self, image: &str) -> Result<(), EngineError> {
        let (pulls, watch, mut retries) = (&self.docker.pulls, self.watch, Retries::before(self.deadline));
        loop {
            let pulled = if self.docker.config.image_pull_policy == ImagePullPolicy::Always {
                self.until_called_off(pulls.own(image, watch)).await?
            } else {
                self.until_called_off(pulls.shared(image, watch)).await?
            };
            let Err(error) = pulled.map_err(|error| error.of(image)) else { return Ok(()) };
            if !self.until_called_off(retries.again(&error)).await? {
                return Err(error);
            }
        }
    }

    /// Creates the container; again, after a failure that may pass.
    async fn create(&self) -> Result<ContainerId, LaunchFailure> {
        let mut retries = Retries::before(self.deadline);
        let mut maybe_left = false;
        loop {
            // What a broken connection left open is asked before it is done twice.
            let owner = if maybe_left { self.name_owner().await } else { NameOwner::Unknown };
            if let NameOwner::Us(id) = owner {
                return self.unless_called_off(id).await;
            }
            let LaunchFailure { error, maybe_left: newly_left } = match self.create_once().await {
                Ok(id) => return Ok(id),
                Err(failure) => failure,
            };
            self.end_turn();
            maybe_left |= newly_left;
            if self.learn(&error) {
                continue;
            }
            let is_conflict = matches!(error, EngineError::Refused { status: 409, .. });
            let again = async {
                // An earlier try of ours may have taken the name, and its container be still in the making.
                if is_conflict && maybe_left && owner != NameOwner::Others {
                    retries.wait(&error).await
                } else {
                    retries.again(&error).await
                }
            };
            match self.until_called_off(again).await {
                Ok(true) => {}
                Ok(false) => return Err(LaunchFailure { error, maybe_left }),
                Err(error) => return Err(LaunchFailure { error, maybe_left }),
            }
        }
    }

    async fn name_owner(&self) -> NameOwner {
        let name = spec::name(&self.docker.config, self.spec);
        let inspect = async {
            let docker = self.docker.client.bollard().await.ok()?;
            docker.inspect_container(name, None::<InspectContainerOptions>).await.ok()
        };
        let Ok(Some(container)) = timeout_at(self.deadline, inspect).await else { return NameOwner::Unknown };
        let labels = container.config.and_then(|config| config.labels).unwrap_or_default();
        let is_ours = [LABEL_CONNECTION, LABEL_WARM].iter().any(|name| {
            let ours = self.spec.labels.get(*name);
            ours.is_some() && ours == labels.get(*name)
        });
        match container.id {
            Some(id) if is_ours => NameOwner::Us(ContainerId::new(id)),
            _ => NameOwner::Others,
        }
    }

    /// One create. It is never abandoned before it is answered: a container may come of it.
    async fn create_once(&self) -> Result<ContainerId, LaunchFailure> {
        self.check()?;
        self.watch.stage.send_replace(LaunchStage::Starting);
        let (config, sandbox) = (&self.docker.config, self.docker.sandbox);
        let prepared = self
            .way
            .get_or_try_init(|| self.docker.launchers.prepare(self.means, self.docker, &self.spec.labels));
        let way = timeout_at(self.deadline, prepared).await.map_err(|_| self.timed_out(CREATE))??;
        self.begin_turn().await?;
        let (options, body) = spec::create_request(config, sandbox, self.lacking(), way, self.spec);
        let docker = timeout_at(self.deadline, self.docker.client.bollard())
            .await
            .map_err(|_| self.timed_out(CREATE))??;
        let request = self.watch.phases.time("create", docker.create_container(Some(options), body));
        tokio::pin!(request);
        let (answer, in_time) = if let Ok(answer) = timeout_at(self.deadline, &mut request).await {
            (answer, true)
        } else {
            self.end_turn();
            match timeout(LATE_CREATE_MAX, &mut request).await {
                Ok(answer) => (answer, false),
                Err(_) => return Err(LaunchFailure { error: self.timed_out(CREATE), maybe_left: true }),
            }
        };
        let created = match answer {
            Ok(created) => {
                self.docker.shortcomings.note(&created.warnings);
                ContainerId::new(created.id)
            }
            Err(error) => return Err(self.create_failure(&error, in_time)),
        };
        if in_time {
            self.unless_called_off(created).await
        } else {
            Err(self.undo(&created, self.timed_out(CREATE)).await)
        }
    }

    async fn unless_called_off(&self, created: ContainerId) -> Result<ContainerId, LaunchFailure> {
        match self.check() {
            Ok(()) => Ok(created),
            Err(error) => Err(self.undo(&created, error).await),
        }
    }

    fn create_failure(&self, error: &Error, in_time: bool) -> LaunchFailure {
        let meaning = self.docker.client.understand(CREATE, error);
        // Only the engine's status says that nothing was created; a broken connection leaves that open.
        let is_answer = matches!(
            error,
            Error::DockerResponseServerError { status_code, .. } if !GATEWAY_STATUSES.contains(status_code)
        );
        let was_sent = !matches!(meaning, EngineError::Unreachable { .. });
        LaunchFailure {
            error: if in_time { meaning } else { self.timed_out(CREATE) },
            maybe_left: was_sent && !is_answer,
        }
    }

    /// Starts the container; again, after a failure that may pass. To start one that runs does nothing.
    async fn start(&mut self, id: &ContainerId) -> Result<(), EngineError> {
        if let Some(way) = self.way.get_mut() {
            way.attach(&self.docker.client, id).await?;
        }
        let mut retries = Retries::before(self.deadline);
        loop {
            let Err(error) = self.start_once(id).await else { return Ok(()) };
            self.end_turn();
            if self.learn(&error) || !self.until_called_off(retries.again(&error)).await? {
                return Err(error);
            }
        }
    }

    async fn start_once(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.check()?;
        self.begin_turn().await?;
        let docker = self.docker.client.bollard().await?;
        let request = docker.start_container(id.as_str(), None::<StartContainerOptions>);
        match timeout_at(self.deadline, self.watch.phases.time("start", request)).await {
            Ok(answer) => {
                answer.map_err(|error| self.docker.client.understand(START, &error))?;
                self.check()
            }
            Err(_) => Err(self.timed_out(START)),
        }
    }

    /// Waits until it is our turn to burden the engine, unless it is already.
    async fn begin_turn(&self) -> Result<(), EngineError> {
        if self.turn().is_none() {
            let turn = tokio::select! {
                biased;
                () = self.watch.abandoned.cancelled() => return Err(EngineError::Abandoned),
                turn = timeout_at(self.deadline, self.watch.phases.time("wait", self.watch.starts.turn())) => turn,
            };
            *self.turn() = Some(turn.map_err(|_| self.timed_out(CREATE))?);
        }
        Ok(())
    }

    fn end_turn(&self) {
        drop(self.turn().take());
    }

    fn turn(&self) -> MutexGuard<'_, Option<Turn>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be worth a try without something in the sandbox.
    fn learn(&self, error: &EngineError) -> bool {
        self.docker.sandbox != Sandbox::Off && self.guess().learn(&self.docker.config.host, error)
    }

    fn lacking(&self) -> Lacking {
        self.guess().lacking()
    }

    fn guess(&self) -> MutexGuard<'_, Guess> {
        self.guess.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what was created, after `error`.
    async fn undo(&self, id: &ContainerId, error: EngineError) -> LaunchFailure {
        self.end_turn();
        let removed = remove(&self.docker.client, id).await;
        if let Err(reason) = &removed {
            tracing::warn!(container = %id, %reason, "a container whose launch failed could not be removed");
        }
        LaunchFailure { error, maybe_left: removed.is_err() }
    }

    /// Runs what may be dropped at any time.
    async fn until_called_off<T>(&self, work: impl Future<Output = T>) -> Result<T, EngineError> {
        tokio::select! {
            biased;
            () = self.watch.abandoned.cancelled() => Err(EngineError::Abandoned),
            done = timeout_at(self.deadline, work) => done.map_err(|_| self.timed_out(PULL)),
        }
    }

    fn check(&self) -> Result<(), EngineError> {
        if self.watch.abandoned.is_cancelled() { Err(EngineError::Abandoned) } else { Ok(()) }
    }

    fn timed_out(&self, action: &'static str) -> EngineError {
        EngineError::TimedOut { action, after: self.docker.config.timeout.get() }
    }
}
