//! What an engine says of itself, for who wants to know how well containers are kept there (`coracle doctor`).

use std::time::Duration;

use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum, SystemVersion};

use super::Docker;
use super::error::quote;
use crate::engine::EngineError;

/// An engine runs its runtime and its init to learn their versions.
const DEADLINE: Duration = Duration::from_secs(20);

const ACTION: &str = "describe itself";

/// An engine's description of itself and its host. What it does not say is empty or false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examination {
    /// Of the engine: `20.10.24+dfsg1`.
    pub version: String,
    /// The newest API that it speaks: `1.41`.
    pub api_version: String,
    /// What runs containers unless the configuration names another runtime: `runc`.
    pub default_runtime: String,
    /// The engine's parts, such as runc, containerd and docker-init.
    pub components: Vec<Component>,
    /// As the engine lists them: `name=seccomp,profile=default`, `name=rootless` …
    pub security_options: Vec<String>,
    /// Version of the control groups: `1` or `2`.
    pub cgroup_version: String,
    /// Which limits have an effect.
    pub limits: Limits,
    /// The storage driver: `overlay2`.
    pub storage_driver: String,
    /// The file system below the storage driver, if it says: `extfs`, `xfs`.
    pub backing_filesystem: String,
    /// The engine's folder on its host.
    pub root_folder: String,
    /// What the engine itself warns of.
    pub warnings: Vec<String>,
    /// Whether the configured image is there.
    pub has_image: bool,
}

/// A part of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// `runc`
    pub name: String,
    /// `1.1.12`
    pub version: String,
    /// The commit it was built from; distributions have their package's version here.
    pub commit: String,
}

/// Which limits the engine's kernel can set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the engine's own flags, one per limit")]
pub struct Limits {
    /// `memory`
    pub memory: bool,
    /// `memorySwap`
    pub swap: bool,
    /// `nanoCpus`
    pub cpu: bool,
    /// `pidsLimit`
    pub pids: bool,
}

impl Examination {
    /// The part of that name.
    #[must_use]
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|component| component.name == name)
    }

    /// Whether a security option of that name is on.
    #[must_use]
    pub fn has_security_option(&self, name: &str) -> bool {
        self.security_options.iter().any(|option| {
            option.split(',').any(|part| part.strip_prefix("name=").unwrap_or(part) == name)
                && !option.contains("profile=unconfined")
        })
    }
}

impl Docker {
    /// Asks the engine for its description, and whether it has the image. Changes nothing and pulls nothing.
    ///
    /// # Errors
    /// The engine cannot be reached or does not answer.
    pub async fn examine(&self) -> Result<Examination, EngineError> {
        let version =
            self.client.call(ACTION, DEADLINE, |docker| async move { docker.version().await }).await?;
        let info = self.client.call(ACTION, DEADLINE, |docker| async move { docker.info().await }).await?;
        let image = self.config.image();
        let found = self
            .client
            .call("look for the image", DEADLINE, |docker| async move { docker.inspect_image(image).await })
            .await;
        let has_image = match found {
            Ok(_) => true,
            Err(EngineError::Refused { status: 404, .. }) => false,
            Err(error) => return Err(error),
        };
        Ok(Examination { has_image, ..describe(version, info) })
    }
}

fn describe(version: SystemVersion, info: SystemInfo) -> Examination {
    let components = version.components.unwrap_or_default().into_iter().map(|component| Component {
        commit: component.details.and_then(|details| details.get("GitCommit").cloned()).unwrap_or_default(),
        name: component.name,
        version: component.version,
    });
    let mut status = info.driver_status.into_iter().flatten();
    let backing = status.find(|pair| pair.first().is_some_and(|name| name == "Backing Filesystem"));
    Examination {
        version: version.version.unwrap_or_default(),
        api_version: version.api_version.unwrap_or_default(),
        default_runtime: info.default_runtime.unwrap_or_default(),
        components: components.collect(),
        security_options: info.security_options.unwrap_or_default(),
        cgroup_version: match info.cgroup_version {
            Some(SystemInfoCgroupVersionEnum::_1) => "1".to_owned(),
            Some(SystemInfoCgroupVersionEnum::_2) => "2".to_owned(),
            Some(SystemInfoCgroupVersionEnum::EMPTY) | None => String::new(),
        },
        limits: Limits {
            memory: info.memory_limit == Some(true),
            swap: info.swap_limit == Some(true),
            cpu: info.cpu_cfs_quota == Some(true) && info.cpu_cfs_period == Some(true),
            pids: info.pids_limit == Some(true),
        },
        storage_driver: info.driver.unwrap_or_default(),
        backing_filesystem: backing.and_then(|pair| pair.into_iter().nth(1)).unwrap_or_default(),
        root_folder: info.docker_root_dir.unwrap_or_default(),
        warnings: info.warnings.unwrap_or_default().iter().map(|warning| quote(warning)).collect(),
        has_image: false,
    }
}
