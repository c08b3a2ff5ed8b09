//! Fetching images: when the policy wants it, once for everybody who waits, with progress.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures::future::{BoxFuture, FutureExt as _, Shared, WeakShared};
use futures::stream::StreamExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::LaunchConfig;
use super::client::Client;
use super::credentials::Credentials;
use super::docker_folder::DockerFolder;
use super::reference::Reference;
use crate::engine::{EngineError, LaunchStage, LaunchWatch, PullProgress};

/// How long a floating image is not asked for again after a pull failed: a registry out of reach would otherwise
/// cost every login its time-out.
const FAILURE_REMEMBERED: Duration = Duration::from_mins(1);

/// The share of a launch's time-out that a registry may stay silent for: what is left has to do for the container.
const SILENCE_SHARE: u32 = 4;

/// Images whose failure is remembered; the configuration names one, templates may name more.
const FAILURES_MAX: usize = 64;

/// Layers that progress is kept for. Images have at most 127.
const LAYERS_MAX: usize = 256;

/// Why a pull failed, for all who waited for it.
#[derive(Clone, Debug)]
pub(super) enum PullError {
    /// The engine itself was not there.
    Unreachable { endpoint: String, reason: String },
    /// The registry's or the engine's words.
    Failed(String),
}

impl PullError {
    pub(super) fn of(self, image: &str) -> EngineError {
        match self {
            Self::Unreachable { endpoint, reason } => EngineError::Unreachable { endpoint, reason },
            Self::Failed(reason) => EngineError::PullFailed { image: image.to_owned(), reason },
        }
    }

    fn from_engine(error: EngineError) -> Self {
        match error {
            EngineError::Unreachable { endpoint, reason } => Self::Unreachable { endpoint, reason },
            EngineError::Refused { reason, .. } | EngineError::Failed { reason, .. } => Self::Failed(reason),
            other => Self::Failed(other.to_string()),
        }
    }
}

type Outcome = Result<(), PullError>;
type Running = (WeakShared<BoxFuture<'static, Outcome>>, watch::Receiver<PullProgress>);

/// The pulls of this process.
#[derive(Debug)]
pub(super) struct Pulls {
    client: Arc<Client>,
    credentials: Arc<Credentials>,
    platform: String,
    /// How long a registry may say nothing before the pull counts as failed.
    silence_max: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: HashMap<String, Running>,
    failed: HashMap<String, Instant>,
}

impl Pulls {
    pub(super) fn new(client: Arc<Client>, config: &LaunchConfig, credentials: Credentials) -> Self {
        Self {
            client,
            credentials: Arc::new(credentials),
            platform: config.platform.query(),
            silence_max: config.timeout.get() / SILENCE_SHARE,
            state: Mutex::default(),
        }
    }

    pub(super) fn with_docker_folder(self, folder: DockerFolder) -> Self {
        Self { credentials: Arc::new(self.credentials.with_docker_folder(folder)), ..self }
    }

    /// Pulls `image`, or waits for who already does. Dropping the last one who waits calls the pull off.
    pub(super) async fn shared(&self, image: &str, watch: &LaunchWatch) -> Outcome {
        let (pull, progress) = self.join(image);
        let outcome = follow(pull, progress, watch).await;
        self.remember(image, &outcome);
        outcome
    }

    /// Keeps in mind how a pull ended.
    pub(super) fn remember(&self, image: &str, outcome: &Outcome) {
        let failed = &mut self.state().failed;
        match outcome {
            Ok(()) => drop(failed.remove(image)),
            // An engine that is down says nothing about the image.
            Err(PullError::Unreachable { .. }) => {}
            Err(PullError::Failed(_)) => {
                failed.retain(|_, at| at.elapsed() < FAILURE_REMEMBERED);
                if failed.len() < FAILURES_MAX {
                    failed.insert(image.to_owned(), Instant::now());
                }
            }
        }
    }

    /// Pulls `image`, whoever else does at the same time.
    pub(super) async fn own(&self, image: &str, watch: &LaunchWatch) -> Outcome {
        let (pull, progress) = self.begin(image);
        follow(pull, progress, watch).await
    }

    /// Whether a pull of `image` failed a short time ago.
    pub(super) fn failed_lately(&self, image: &str) -> bool {
        self.state().failed.get(image).is_some_and(|at| at.elapsed() < FAILURE_REMEMBERED)
    }

    fn join(&self, image: &str) -> (Shared<BoxFuture<'static, Outcome>>, watch::Receiver<PullProgress>) {
        let mut state = self.state();
        if let Some((pull, progress)) = state.running.get(image)
            && let Some(pull) = pull.upgrade()
            // One that is complete is no longer running, even if somebody has yet to look at it.
            && pull.peek().is_none()
        {
            return (pull, progress.clone());
        }
        let (pull, progress) = self.begin(image);
        state.running.retain(|_, (pull, _)| pull.upgrade().is_some());
        if let Some(weak) = pull.downgrade() {
            state.running.insert(image.to_owned(), (weak, progress.clone()));
        }
        (pull, progress)
    }

    fn begin(&self, image: &str) -> (Shared<BoxFuture<'static, Outcome>>, watch::Receiver<PullProgress>) {
        let (sender, progress) =
            watch::channel(PullProgress { image: image.to_owned(), ..Default::default() });
        let pull = Pull {
            client: Arc::clone(&self.client),
            credentials: Arc::clone(&self.credentials),
            image: image.to_owned(),
            platform: self.platform.clone(),
            silence_max: self.silence_max,
        };
        (async move { pull.run(&sender).await }.boxed().shared(), progress)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow(
    mut pull: Shared<BoxFuture<'static, Outcome>>,
    mut progress: watch::Receiver<PullProgress>,
    watch: &LaunchWatch,
) -> Outcome {
    progress.mark_changed();
    let pulled = async {
        loop {
            tokio::select! {
                biased;
                outcome = &mut pull => return outcome,
                Ok(()) = progress.changed() => {
                    let now = progress.borrow_and_update().clone();
                    watch.stage.send_replace(LaunchStage::Pulling(now));
                }
            }
        }
    };
    watch.phases.time("pull", pulled).await
}

/// One pull.
struct Pull {
    client: Arc<Client>,
    credentials: Arc<Credentials>,
    image: String,
    platform: String,
    silence_max: Duration,
}

impl Pull {
    async fn run(self, progress: &watch::Sender<PullProgress>) -> Outcome {
        let registry = Reference::parse(&self.image).registry();
        // Most images need none: the registry decides whether that is enough.
        let (credentials, trouble) = match self.credentials.of(&registry).await {
            Ok(credentials) => (credentials, None),
            Err(error) => (None, Some(error)),
        };
        let outcome = self.ask(credentials, progress).await;
        match (outcome, trouble) {
            (Err(PullError::Failed(reason)), Some(error)) => {
                // Names of our own files and programs are not the user's business.
                tracing::warn!(%registry, %error, "no credentials for the registry");
                Err(PullError::Failed(format!(
                    "{reason} (this server could not read its credentials for `{registry}`)"
                )))
            }
            (outcome, _) => outcome,
        }
    }

    async fn ask(
        self,
        credentials: Option<DockerCredentials>,
        progress: &watch::Sender<PullProgress>,
    ) -> Outcome {
        let reference = Reference::parse(&self.image);
        let (name, which) = reference.to_pull();
        let options = CreateImageOptions {
            from_image: Some(name.to_owned()),
            tag: Some(which.to_owned()),
            platform: self.platform,
            ..Default::default()
        };
        let docker = self.client.bollard().await.map_err(PullError::from_engine)?;
        let mut messages = docker.create_image(Some(options), None, credentials);
        let silent = || {
            let after = humantime::format_duration(self.silence_max);
            PullError::Failed(format!("the registry said nothing for {after}"))
        };
        let mut next = timeout(self.silence_max, messages.next()).await.map_err(|_| silent())?;
        let mut layers = Layers::default();
        // What goes wrong past the first byte is in the messages, under HTTP status 200.
        while let Some(message) = next {
            let message = message
                .map_err(|error| PullError::from_engine(self.client.understand("pull the image", &error)))?;
            if layers.take(&message) {
                progress.send_modify(|progress| layers.sum_up(progress));
            }
            next = messages.next().await;
        }
        Ok(())
    }
}

/// The state of each layer.
#[derive(Debug, Default)]
struct Layers(HashMap<String, Layer>);

#[derive(Debug, Default)]
struct Layer {
    done: bool,
    bytes_done: u64,
    bytes_total: u64,
}

impl Layers {
    /// Whether the message changed anything.
    fn take(&mut self, message: &CreateImageInfo) -> bool {
        let (Some(id), Some(status)) = (&message.id, message.status.as_deref()) else { return false };
        let is_known = self.0.contains_key(id);
        if !is_known && (!starts_a_layer(status) || self.0.len() >= LAYERS_MAX) {
            return false;
        }
        let layer = self.0.entry(id.clone()).or_default();
        match status {
            "Downloading" => {
                let detail = message.progress_detail.as_ref();
                let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
                layer.bytes_done =
                    detail.and_then(|detail| bytes(detail.current)).unwrap_or(layer.bytes_done);
                layer.bytes_total =
                    detail.and_then(|detail| bytes(detail.total)).unwrap_or(layer.bytes_total);
            }
            "Download complete" => layer.bytes_done = layer.bytes_done.max(layer.bytes_total),
            "Pull complete" | "Already exists" => layer.done = true,
            _ => return !is_known,
        }
        true
    }

    fn sum_up(&self, progress: &mut PullProgress) {
        progress.layers_total = self.0.len();
        progress.layers_done = self.0.values().filter(|layer| layer.done).count();
        progress.bytes_done = self.0.values().fold(0, |sum, layer| sum.saturating_add(layer.bytes_done));
        progress.bytes_total = self.0.values().fold(0, |sum, layer| sum.saturating_add(layer.bytes_total));
    }
}

/// Other messages with an id speak of the tag.
fn starts_a_layer(status: &str) -> bool {
    ["Pulling fs layer", "Waiting", "Downloading", "Download complete", "Already exists"].contains(&status)
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn message(id: &str, status: &str, bytes: Option<(i64, i64)>) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: bytes
                .map(|(current, total)| ProgressDetail { current: Some(current), total: Some(total) }),
            ..Default::default()
        }
    }

    /// I2
    #[test]
    fn progress_is_the_sum_over_all_layers() {
        let mut layers = Layers::default();
        for message in [
            message("v1", "Pulling from library/foo", None),
            message("a", "Pulling fs layer", None),
            message("b", "Already exists", None),
            message("a", "Downloading", Some((30, 100))),
            message("c", "Downloading", Some((-1, 50))),
            message("a", "Download complete", None),
            message("a", "Extracting", Some((1, 300))),
        ] {
            layers.take(&message);
        }
        let mut progress = PullProgress::default();

        layers.sum_up(&mut progress);

        assert_eq!((progress.layers_done, progress.layers_total), (1, 3));
        assert_eq!((progress.bytes_done, progress.bytes_total), (100, 150));
    }
}
