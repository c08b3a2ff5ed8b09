//! Brings the init to an engine that does not see our files: into a volume of its own, filled once.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bollard::body_full;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, VolumeCreateRequest};
use bollard::query_parameters::{
    ContainerArchiveInfoOptions, CreateContainerOptions, UploadToContainerOptions,
};
use data_encoding::HEXLOWER;
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

/// Bytes of the init's SHA-256 that are in the name of its volume.
const DIGEST_BYTES: usize = 8;

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
        let unbuilt = || undelivered("there is none for this architecture".to_owned());
        let binary = architecture.binary().ok_or_else(unbuilt)?;
        // By what is in it: several servers, also of other versions, may use one engine.
        let digest = digest(&SHA256, binary);
        let digest = HEXLOWER.encode(digest.as_ref().get(..DIGEST_BYTES).unwrap_or_default());
        let name = format!("coracle-init-{}-{digest}", architecture.name());
        let mut filled = self.filled.lock().await;
        if !filled.contains(&name) {
            fill(&name, binary, image, labels, client).await?;
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
    binary: &[u8],
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
    let outcome = fill_through(&id, binary, client).await;
    let removed = remove(client, &id).await;
    outcome.and(removed)
}

/// Puts the init into a container's volume, unless it is there: others may be about to run it.
async fn fill_through(id: &ContainerId, binary: &[u8], client: &Client) -> Result<(), EngineError> {
    let options = ContainerArchiveInfoOptions { path: format!("{FOLDER}/init") };
    let present = client
        .call(FILL, FILL_DEADLINE, |docker| async move {
            docker.get_container_archive_info(id.as_str(), Some(options)).await
        })
        .await;
    // It is written from its beginning to its end.
    if present.is_ok_and(|file| usize::try_from(file.size) == Ok(binary.len())) {
        return Ok(());
    }
    let archive = archive(binary).map_err(|error| undelivered(error.to_string()))?;
    let options = UploadToContainerOptions { path: FOLDER.to_owned(), ..Default::default() };
    client
        .call(FILL, FILL_DEADLINE, |docker| async move {
            docker.upload_to_container(id.as_str(), Some(options), body_full(archive.into())).await
        })
        .await
}

/// The init in a tar archive, which is how the engine takes files.
fn archive(binary: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(binary.len() as u64);
    header.set_mode(BINARY_MODE);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "init", binary)?;
    archive.into_inner()
}
