//! Docker Engine (API 1.41 and up; Podman's socket too) through bollard. The only module that knows bollard.
//!
//! Requests go over connections of our own ([`endpoint`]); an exec's streams are such a connection, taken over
//! ([`hijack`]). How a program gets started inside a container is in `login.sh`.

mod client;
pub mod config;
mod demux;
mod endpoint;
mod error;
mod exec;
mod from_config;
mod hijack;
mod launch;
mod process;
mod pull;
mod reference;
mod signal;
mod spec;
mod terminal_modes;
mod tls;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{ContainerCreateBody, HostConfig, NetworkingConfig};
use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions};

pub use self::config::Config;

use self::client::Client;

use self::pull::Pulls;
use super::{
    Container, ContainerSpec, Engine, EngineError, LABEL_CONNECTION, LABEL_INSTANCE, LaunchFailure,
    LaunchWatch, OwnedContainer,
};
use crate::ids::{ContainerId, InstanceId};
use crate::secret::Secret;

/// Removing kills, unmounts and deletes; on a busy engine that takes seconds.
const REMOVE_DEADLINE: Duration = Duration::from_mins(1);

/// Listing thousands of containers takes seconds.
const LIST_DEADLINE: Duration = Duration::from_secs(30);

/// How to reach an engine and what to run there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `unix:///PATH`, `tcp://HOST:PORT`, `http://HOST:PORT` or `https://HOST:PORT`.
    pub host: String,
    /// Who signs the engine's certificate: PEM text or a file; empty for the system's authorities.
    pub cacert: String,
    /// Our certificate: PEM text or a file.
    pub cert: String,
    /// Its key: PEM text or a file.
    pub key: Secret<String>,
    /// The container's configuration, with the image.
    pub container: ContainerCreateBody,
    /// Its host configuration.
    pub host_config: HostConfig,
    /// Its networks.
    pub network: NetworkingConfig,
    /// Which of an image's platforms to take.
    pub platform: Platform,
    /// A fixed name for containers; empty for one per connection.
    pub container_name: String,
    /// What keeps a container running.
    pub idle_command: Vec<String>,
    /// When to pull the image.
    pub image_pull_policy: ImagePullPolicy,
    /// For everything until a container runs.
    pub timeout: Duration,
    /// How signals get to a program.
    pub signal_path: SignalPath,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: "unix:///var/run/docker.sock".to_owned(),
            cacert: String::new(),
            cert: String::new(),
            key: Secret::default(),
            container: ContainerCreateBody { image: Some("coracle/guest".to_owned()), ..Default::default() },
            host_config: HostConfig::default(),
            network: NetworkingConfig::default(),
            platform: Platform::default(),
            container_name: String::new(),
            idle_command: ["/bin/sh", "-c", "sleep infinity & PID=$!; trap \"kill $PID\" INT TERM; wait"]
                .map(str::to_owned)
                .to_vec(),
            image_pull_policy: ImagePullPolicy::default(),
            timeout: Duration::from_mins(1),
            signal_path: SignalPath::default(),
        }
    }
}

impl Settings {
    fn has_certificates(&self) -> bool {
        !(self.cacert.is_empty() && self.cert.is_empty() && self.key.expose().is_empty())
    }

    fn image(&self) -> &str {
        self.container.image.as_deref().unwrap_or_default()
    }
}

/// A platform of an image (OCI image specification); what is empty is left to the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: String,
}

/// When to pull the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// At every launch.
    Always,
    /// When it is not there; also when it has no tag or `latest`, where a failed pull falls back to what is there.
    #[default]
    IfNotPresent,
    /// Never.
    Never,
}

/// How signals get to a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignalPath {
    /// Straight to the process group when the engine's processes are ours to see and to signal, else as `Exec`.
    #[default]
    Auto,
    /// By a second program inside the container, which needs a `/bin/sh` there.
    Exec,
}

/// Settings that make no sense.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// `host` is no endpoint.
    #[error("`{host}` is no endpoint of a container engine: {reason}")]
    Host {
        /// As configured.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate or key cannot be used.
    #[error("`{key}` cannot be used: {reason}")]
    Tls {
        /// `cacert`, `cert` or `key`.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// A Docker Engine.
#[derive(Debug)]
pub struct Docker {
    settings: Settings,
    client: Arc<Client>,
    pulls: Pulls,
}

impl Docker {
    /// Prepares to talk to the engine; nothing is sent before it is needed, so the engine may come up later.
    ///
    /// # Errors
    /// When `host` is no endpoint or a certificate cannot be used.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let client = Arc::new(Client::new(&settings)?);
        let pulls = Pulls::new(Arc::clone(&client), &settings);
        Ok(Self { settings, client, pulls })
    }
}

#[async_trait]
impl Engine for Docker {
    async fn launch(
        &self,
        spec: &ContainerSpec,
        watch: &LaunchWatch,
    ) -> Result<Arc<dyn Container>, LaunchFailure> {
        let id = launch::launch(self, spec, watch).await?;
        Ok(Arc::new(exec::DockerContainer::new(Arc::clone(&self.client), id, self.settings.signal_path)))
    }

    async fn list_owned(&self, instance: &InstanceId) -> Result<Vec<OwnedContainer>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{LABEL_INSTANCE}={instance}")])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let containers = self
            .client
            .call("list containers", LIST_DEADLINE, |docker| async move {
                docker.list_containers(Some(options)).await
            })
            .await?;
        let owned = containers.into_iter().filter_map(|container| {
            let connection = container.labels.unwrap_or_default().remove(LABEL_CONNECTION);
            container.id.map(|id| OwnedContainer { id: ContainerId::new(id), connection })
        });
        Ok(owned.collect())
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), EngineError> {
        remove(&self.client, id).await
    }
}

/// Removes a container with its anonymous volumes, whatever state it is in.
async fn remove(client: &Client, id: &ContainerId) -> Result<(), EngineError> {
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    let removed = client
        .call("remove the container", REMOVE_DEADLINE, |docker| async move {
            docker.remove_container(id.as_str(), Some(options)).await
        })
        .await;
    match removed {
        Err(EngineError::Refused { status: 404, .. }) => Ok(()),
        Err(EngineError::Refused { status: 409, reason, .. }) if reason.contains("already in progress") => {
            Ok(())
        }
        other => other,
    }
}
