//! Brings the init to an engine that does not see our files: into a volume of its own, filled once.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::time::Duration;

use bollard::body_full;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, VolumeCreateRequest};
use bollard::query_parameters::{CreateContainerOptions, UploadToContainerOptions};
use tokio::sync::Mutex;

use super::{FOLDER, undelivered};
use crate::engine::docker::client::Client;
use crate::engine::docker::remove;
use crate::engine::init::Architecture;
use crate::engine::{EngineError, LABEL_INSTANCE};
use crate::ids::ContainerId;

/// For each of the calls that fill a volume.
const FILL_DEADLINE: Duration = Duration::from_secs(30);

const FILL: &str = "give the engine the containers' first process";

/// Everybody in the container may run it.
const BINARY_MODE: u32 = 0o555;

/// Volumes that this process has filled. One per architecture and version of ours, so they are few.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    filled: Mutex<HashSet<String>>,
}

impl Volumes {
    /// The name of a volume with an init. What is made on the way to it is labelled so that it does not stay.
    pub(super) async fn with_init(
        &self,
        architecture: Architecture,
        image: &str,
        labels: &BTreeMap<String, String>,
        client: &Client,
    ) -> Result<String, EngineError> {
        let name = format!("coracle-init-{}-{}", architecture.name(), env!("CARGO_PKG_VERSION"));
        let mut filled = self.filled.lock().await;
        if !filled.contains(&name) {
            let archive = archive(architecture).map_err(|error| undelivered(error.to_string()))?;
            fill(&name, archive, image, labels, client).await?;
            filled.insert(name.clone());
        }
        Ok(name)
    }

    /// What was filled may not be there any more.
    pub(super) fn forget(&self) {
        if let Ok(mut filled) = self.filled.try_lock() {
            filled.clear();
        }
    }
}

async fn fill(
    name: &str,
    archive: Vec<u8>,
    image: &str,
    labels: &BTreeMap<String, String>,
    client: &Client,
) -> Result<(), EngineError> {
    let volume = VolumeCreateRequest { name: Some(name.to_owned()), ..Default::default() };
    client.call(FILL, FILL_DEADLINE, |docker| async move { docker.create_volume(volume).await }).await?;
    // Files get into a volume through a container only. It never runs; were we to die now, the next look of the reaper
    // finds it by our label.
    let mount = Mount {
        target: Some(FOLDER.to_owned()),
        source: Some(name.to_owned()),
        typ: Some(MountType::VOLUME),
        ..Mount::default()
    };
    let labels = labels.iter().filter(|(label, _)| *label == LABEL_INSTANCE);
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec![format!("{FOLDER}/init")]),
        labels: Some(labels.map(|(label, value)| (label.clone(), value.clone())).collect()),
        host_config: Some(HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let created = client
        .call(FILL, FILL_DEADLINE, |docker| async move {
            docker.create_container(None::<CreateContainerOptions>, body).await
        })
        .await?;
    let id = ContainerId::new(created.id);
    let options = UploadToContainerOptions { path: FOLDER.to_owned(), ..Default::default() };
    let uploaded = client
        .call(FILL, FILL_DEADLINE, |docker| {
            let id = id.as_str();
            async move { docker.upload_to_container(id, Some(options), body_full(archive.into())).await }
        })
        .await;
    let removed = remove(client, &id).await;
    uploaded.and(removed)
}

/// The init in a tar archive, which is how the engine takes files.
fn archive(architecture: Architecture) -> io::Result<Vec<u8>> {
    let unbuilt = || io::Error::new(io::ErrorKind::Unsupported, "there is no init for this architecture");
    let binary = architecture.binary().ok_or_else(unbuilt)?;
    let mut header = tar::Header::new_ustar();
    header.set_size(binary.len() as u64);
    header.set_mode(BINARY_MODE);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "init", binary)?;
    archive.into_inner()
}
