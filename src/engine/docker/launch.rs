//! From a specification to a running container, or to nothing: whatever was created on the way is removed again.

use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::StartContainerOptions;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::image_is_missing;
use super::pull::PullError;
use super::reference::Reference;
use super::{Docker, ImagePullPolicy, remove, spec};
use crate::engine::{ContainerSpec, EngineError, LaunchFailure, LaunchStage, LaunchWatch};
use crate::ids::ContainerId;

/// How long past the configured time-out we wait for a create to be answered, so that we can undo it.
const LATE_CREATE_MAX: Duration = Duration::from_mins(3);

const CREATE: &str = "create the container";
const START: &str = "start the container";
const PULL: &str = "pull the image";

/// Brings one container up. See [`crate::engine::Engine::launch`].
pub(super) async fn launch(
    docker: &Docker,
    spec: &ContainerSpec,
    watch: &LaunchWatch,
) -> Result<ContainerId, LaunchFailure> {
    let deadline = Instant::now() + docker.config.timeout.get();
    let launch = Launch { docker, spec, watch, deadline };
    launch.check()?;
    let id = launch.create_with_image().await?;
    match launch.start(&id).await {
        Ok(()) => Ok(id),
        Err(error) => Err(launch.undo(&id, error).await),
    }
}

struct Launch<'a> {
    docker: &'a Docker,
    spec: &'a ContainerSpec,
    watch: &'a LaunchWatch,
    deadline: Instant,
}

impl Launch<'_> {
    /// Creates the container, with a pull before or after the attempt as the policy has it.
    async fn create_with_image(&self) -> Result<ContainerId, LaunchFailure> {
        let image = self.docker.config.image();
        let floats = Reference::parse(image).floats();
        let pulled = match self.docker.config.image_pull_policy {
            ImagePullPolicy::Always => {
                self.until_called_off(self.docker.pulls.own(image, &self.watch.stage))
                    .await?
                    .map_err(|error| error.of(image))?;
                Some(Ok(()))
            }
            ImagePullPolicy::IfNotPresent if floats && !self.docker.pulls.failed_lately(image) => {
                Some(self.pull_for_all(image).await?)
            }
            ImagePullPolicy::IfNotPresent | ImagePullPolicy::Never => None,
        };
        let created = self.create().await;
        let missing = matches!(&created, Err(failure) if image_is_missing(&failure.error));
        match (missing, pulled) {
            (true, Some(Err(error))) => Err(error.of(image).into()),
            (true, None) if self.docker.config.image_pull_policy == ImagePullPolicy::Never => {
                Err(EngineError::NoSuchImage { image: image.to_owned() }.into())
            }
            (true, None) => {
                self.pull_for_all(image).await?.map_err(|error| error.of(image))?;
                self.create().await
            }
            (false, Some(Err(PullError::Failed(reason)))) if created.is_ok() => {
                tracing::warn!(image, reason, "the pull failed, the image that is there is used");
                created
            }
            _ => created,
        }
    }

    async fn pull_for_all(&self, image: &str) -> Result<Result<(), PullError>, EngineError> {
        self.until_called_off(self.docker.pulls.shared(image, &self.watch.stage)).await
    }

    /// One create. It is never abandoned before it is answered: a container may come of it.
    async fn create(&self) -> Result<ContainerId, LaunchFailure> {
        self.check()?;
        self.watch.stage.send_replace(LaunchStage::Starting);
        let (options, body) = spec::create_request(&self.docker.config, self.spec);
        let docker = timeout_at(self.deadline, self.docker.client.bollard())
            .await
            .map_err(|_| self.timed_out(CREATE))??;
        let request = docker.create_container(Some(options), body);
        tokio::pin!(request);
        let (answer, in_time) = match timeout_at(self.deadline, &mut request).await {
            Ok(answer) => (answer, true),
            Err(_) => match timeout(LATE_CREATE_MAX, &mut request).await {
                Ok(answer) => (answer, false),
                Err(_) => return Err(LaunchFailure { error: self.timed_out(CREATE), maybe_left: true }),
            },
        };
        let created = match answer {
            Ok(created) => ContainerId::new(created.id),
            Err(error) => return Err(self.create_failure(&error, in_time)),
        };
        let fine = if in_time { self.check() } else { Err(self.timed_out(CREATE)) };
        match fine {
            Ok(()) => Ok(created),
            Err(error) => Err(self.undo(&created, error).await),
        }
    }

    fn create_failure(&self, error: &Error, in_time: bool) -> LaunchFailure {
        let meaning = self.docker.client.understand(CREATE, error);
        // Only a status says that nothing was created; a broken connection leaves that open.
        let is_answer = matches!(error, Error::DockerResponseServerError { .. });
        let was_sent = !matches!(meaning, EngineError::Unreachable { .. });
        LaunchFailure {
            error: if in_time { meaning } else { self.timed_out(CREATE) },
            maybe_left: was_sent && !is_answer,
        }
    }

    async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.check()?;
        let docker = self.docker.client.bollard().await?;
        let request = docker.start_container(id.as_str(), None::<StartContainerOptions>);
        match timeout_at(self.deadline, request).await {
            Ok(answer) => {
                answer.map_err(|error| self.docker.client.understand(START, &error))?;
                self.check()
            }
            Err(_) => Err(self.timed_out(START)),
        }
    }

    /// Removes what was created, after `error`.
    async fn undo(&self, id: &ContainerId, error: EngineError) -> LaunchFailure {
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
