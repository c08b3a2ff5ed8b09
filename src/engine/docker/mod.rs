//! Docker Engine (API 1.41 and up; Podman's socket too) through bollard. The only module that knows bollard.
//!
//! Requests go over connections of our own ([`connector`]); an exec's streams are such a connection, taken over
//! ([`hijack`]). How a program gets started inside a container is in `login.sh`.

mod changes;
mod client;
mod config;
mod connector;
mod credentials;
mod danger;
mod demux;
mod docker_folder;
mod error;
mod events;
mod examine;
mod exec;
mod helper;
mod hijack;
mod launch;
mod launcher;
mod operation;
mod paths;
mod process;
mod pull;
mod reference;
mod retry;
mod sandbox;
mod shortcomings;
mod signal;
mod spec;
mod survival;
mod terminal_modes;
mod tls;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions, RenameContainerOptions};

pub use self::client::SetupError;
pub use self::config::{
    Config, ContainerName, Endpoint, EngineAddress, IdleCommand, ImagePullPolicy, Init, LaunchConfig,
    Launcher, Mode, Persistent, Platform, Program, Proof, Registries, Registry, RegistryLogin, launch_config,
};
pub use self::danger::{Danger, DangerousSetting, dangers};
pub use self::examine::{Component, Examination, Limits};
pub use self::sandbox::Sandbox;
pub use self::tls::CertificateError;

use self::client::Client;
use self::credentials::Credentials;
pub use self::docker_folder::DockerFolder;
use self::events::Fates;
use self::helper::Helper;
use self::launcher::{Guide, Launchers};
use self::pull::Pulls;
use self::shortcomings::Shortcomings;
use super::{
    Container, ContainerSpec, Engine, EngineError, LABEL_INSTANCE, LaunchFailure, LaunchWatch, OwnedContainer,
};
use crate::ids::{ContainerId, InstanceId};
use crate::metrics::EngineCalls;

/// Removing kills, unmounts and deletes; on a busy engine that takes seconds.
const REMOVE_DEADLINE: Duration = Duration::from_mins(1);

/// Listing thousands of containers takes seconds.
const LIST_DEADLINE: Duration = Duration::from_secs(30);

/// Names and images are in the engine's books; it takes milliseconds unless it is stuck.
const BOOKS_DEADLINE: Duration = Duration::from_secs(5);

/// How signals get to a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignalPath {
    /// Straight to the process group when the engine's processes are ours to see and to signal, else as `Exec`.
    #[default]
    Auto,
    /// By a second program inside the container, which needs a `/bin/sh` there.
    Exec,
}

/// A Docker Engine.
#[derive(Debug)]
pub struct Docker {
    config: LaunchConfig,
    sandbox: Sandbox,
    signal_path: SignalPath,
    client: Arc<Client>,
    pulls: Pulls,
    fates: Fates,
    shortcomings: Shortcomings,
    launchers: Launchers,
    forwards: bool,
}

impl Docker {
    /// Prepares to talk to the engine; nothing is sent before it is needed, so the engine may come up later.
    ///
    /// # Errors
    /// When a certificate or key cannot be used.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        let client = Arc::new(Client::new(config)?);
        let registries = config.registries.clone();
        let config = config.config.clone();
        let credentials = Credentials::new(registries, DockerFolder::of_this_process());
        let pulls = Pulls::new(Arc::clone(&client), &config, credentials);
        Ok(Self {
            config,
            sandbox: Sandbox::default(),
            signal_path: SignalPath::default(),
            client,
            pulls,
            fates: Fates::default(),
            shortcomings: Shortcomings::default(),
            launchers: Launchers::default(),
            forwards: false,
        })
    }

    /// The same engine for other containers. Where the engine is and how it is spoken to stays.
    #[must_use]
    pub fn launching(&self, config: &LaunchConfig, registries: &Registries) -> Self {
        let credentials = Credentials::new(registries.clone(), DockerFolder::of_this_process());
        let pulls = Pulls::new(Arc::clone(&self.client), config, credentials);
        Self {
            config: config.clone(),
            sandbox: self.sandbox,
            signal_path: self.signal_path,
            client: Arc::clone(&self.client),
            pulls,
            fates: self.fates.clone(),
            shortcomings: self.shortcomings.clone(),
            launchers: self.launchers.clone(),
            forwards: self.forwards,
        }
    }

    /// The same engine, with this in the gaps of the containers' configuration. [`Sandbox::Standard`] unless said.
    #[must_use]
    pub fn with_sandbox(self, sandbox: Sandbox) -> Self {
        Self { sandbox, ..self }
    }

    /// The same engine, for containers in which sockets may be dialled and listened on: what does that is brought along, also
    /// where programs are started by the engine.
    #[must_use]
    pub fn with_forwarding(self, forwards: bool) -> Self {
        Self { forwards, ..self }
    }

    /// The same engine, with a folder of ours where inits meet us, where it is on this machine. An absolute path.
    #[must_use]
    pub fn with_init_folder(self, folder: PathBuf) -> Self {
        Self { launchers: Launchers::in_folder(folder), ..self }
    }

    /// The same engine, with its requests counted; also those of the engines made of it.
    #[must_use]
    pub fn counted_by(self, calls: EngineCalls) -> Self {
        self.client.connector().count(calls);
        self
    }

    /// What containers are made of.
    #[must_use]
    pub fn image(&self) -> &str {
        self.config.image()
    }

    /// The same engine, with signals sent that way.
    #[must_use]
    pub fn with_signal_path(self, signal_path: SignalPath) -> Self {
        Self { signal_path, ..self }
    }

    /// The same engine, with the registries' credentials that people's `docker` keeps in that folder.
    #[must_use]
    pub fn with_docker_folder(self, folder: DockerFolder) -> Self {
        Self { pulls: self.pulls.with_docker_folder(folder), ..self }
    }
}

#[async_trait]
impl Engine for Docker {
    async fn launch(
        &self,
        spec: &ContainerSpec,
        watch: &LaunchWatch,
    ) -> Result<Arc<dyn Container>, LaunchFailure> {
        let (id, guide) = launch::launch(self, spec, watch).await?;
        Ok(self.container(&id, guide))
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
            let labels = container.labels.unwrap_or_default().into_iter().collect();
            let running = matches!(
                container.state,
                Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::PAUSED)
            );
            container.id.map(|id| OwnedContainer { id: ContainerId::new(id), labels, running })
        });
        let owned: Vec<OwnedContainer> = owned.collect();
        self.launchers.retain(&owned);
        Ok(owned)
    }

    fn adopt(&self, id: &ContainerId) -> Arc<dyn Container> {
        self.container(id, Guide::follow(&self.launchers, &self.client, id))
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), EngineError> {
        remove(&self.client, id).await
    }

    async fn image_id(&self) -> Result<Option<String>, EngineError> {
        let image = self.config.image();
        let inspected = self.client.call("inspect the image", BOOKS_DEADLINE, |docker| async move {
            docker.inspect_image(image).await
        });
        match inspected.await {
            Ok(image) => Ok(image.id),
            Err(EngineError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Gives a container another name.
async fn rename(client: &Client, id: &ContainerId, name: &str) -> Result<(), EngineError> {
    let options = RenameContainerOptions { name: name.to_owned() };
    let renamed = client
        .call("rename the container", BOOKS_DEADLINE, |docker| async move {
            docker.rename_container(id.as_str(), options).await
        })
        .await;
    match renamed {
        Err(EngineError::Refused { status: 404, reason, .. }) => Err(EngineError::Gone { reason }),
        other => other,
    }
}

impl Docker {
    fn container(&self, id: &ContainerId, guide: Guide) -> Arc<dyn Container> {
        let fate = self.fates.follow(&self.client, id.as_str());
        let (client, fates, id) = (Arc::clone(&self.client), self.fates.clone(), id.clone());
        let timeout = self.config.timeout.get();
        let signal_path = self.signal_path;
        let helper = Helper::new(self.launchers.clone());
        let looks = changes::Looks::default();
        Arc::new(exec::DockerContainer {
            client,
            id,
            signal_path,
            timeout,
            fate,
            fates,
            guide,
            helper,
            looks,
        })
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
