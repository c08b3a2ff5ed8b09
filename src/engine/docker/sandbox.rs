//! What a container may do where the configuration does not say: the levels of the key `sandbox`.
//!
//! Every value is a default. A field of `docker.config.host` or `docker.config.container` that is set wins, also when it
//! is set to `0`, `false` or an empty list.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::{IdleCommand, LaunchConfig};
use super::danger::capability;
use super::paths::clean;
use super::shortcomings::Lacking;

/// What root in a container can do besides what everybody can. The fewest with which it can be used as the root of a
/// machine of its own; what Docker gives beyond it (raw sockets, device nodes, chroot, file capabilities …) has no use
/// that is worth its risk.
const CAPABILITIES: &[&str] = &[
    "CHOWN",        // rsync, tar and package managers give files to their owners
    "DAC_OVERRIDE", // root reads and writes what belongs to others, such as apt's downloads
    "FOWNER",       // … and sets their modes and times
    "FSETID",       // set-id bits survive a write and a change of group, which dpkg relies on
    "KILL",         // root ends what it started as somebody else
    "SETGID",       // su, runuser, cron, and package managers that drop root for their downloads
    "SETUID",       // the same
];

/// Processes and threads. A build with `make -j` and an editor fit, a fork bomb ends here.
const PIDS_MAX: i64 = 512;

/// Bytes of memory; what is in a tmpfs counts. No swap comes on top.
const MEMORY_BYTES_MAX: i64 = 1 << 30;

/// One CPU, in billionths.
const NANO_CPUS_MAX: i64 = 1_000_000_000;

/// Half of the memory, so that a full one still leaves a shell.
///
/// Programs may be run from it: builds and installers do, and whoever has an interpreter needs no `exec` flag to run
/// what they brought along.
const TMPFS_OPTIONS: &str = "rw,exec,nosuid,nodev,mode=1777,size=512m";

/// Where daemons expect to write even if the rest is read-only. For root: as runc has it, a folder that is there keeps
/// its mode.
const RUN_OPTIONS: &str = "rw,exec,nosuid,nodev,mode=755,size=64m";

/// The number that stands for nobody on every Linux; no file belongs to it.
const NOBODY: &str = "65534:65534";

/// The home of a container with a read-only root: an empty one, since its user's own could not be written. It must not
/// be in the image, nor the working directory, which the engine makes in advance: then it would not belong to everybody.
const HOME: &str = "/home/user";

const NO_NEW_PRIVILEGES: &str = "no-new-privileges";

/// How far containers are kept apart from their host, where nothing else is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Sandbox {
    /// Root inside with few capabilities, and limits on processes, memory and CPU.
    #[default]
    Standard,
    /// The same without capabilities, network and a writable root, and as nobody.
    Strict,
    /// As the engine has it.
    Off,
}

impl Sandbox {
    /// The configured container and its place on the host, with the gaps filled.
    pub(super) fn harden(self, config: &LaunchConfig, lacking: Lacking) -> (ContainerCreateBody, HostConfig) {
        let (mut body, mut host) = (config.container.clone(), config.host.clone());
        if self == Self::Off {
            return (body, host);
        }
        keep_privileges(&mut host);
        self.keep_capabilities(&mut host);
        limit(&mut host, lacking);
        // One of the operator's own may be an init itself, which has to be the first process.
        if !lacking.init && config.idle_command == IdleCommand::default() {
            host.init.get_or_insert(true);
        }
        if host.cgroupns_mode.is_none_or(|mode| mode == HostConfigCgroupnsModeEnum::EMPTY)
            && !lacking.cgroup_namespace
        {
            host.cgroupns_mode = Some(HostConfigCgroupnsModeEnum::PRIVATE);
        }
        if self == Self::Strict {
            keep_in(config, &mut body, &mut host);
        }
        self.add_tmpfs(config, &mut host);
        (body, host)
    }

    /// A `capDrop` takes away from ours, or with an empty list puts the engine's in its place; a `capAdd` adds.
    fn keep_capabilities(self, host: &mut HostConfig) {
        let ours = if self == Self::Strict { &[] } else { CAPABILITIES };
        let dropped: Vec<String> = match &host.cap_drop {
            Some(dropped) if dropped.is_empty() => return,
            dropped => dropped.iter().flatten().map(|name| capability(name)).collect(),
        };
        let kept =
            ours.iter().filter(|name| !dropped.iter().any(|dropped| dropped == *name || dropped == "ALL"));
        let mut added: Vec<String> = kept.map(|name| (*name).to_owned()).collect();
        for name in host.cap_add.iter().flatten().map(|name| capability(name)) {
            if !added.contains(&name) {
                added.push(name);
            }
        }
        host.cap_drop = Some(vec!["ALL".to_owned()]);
        host.cap_add = Some(added);
    }

    fn add_tmpfs(self, config: &LaunchConfig, host: &mut HostConfig) {
        if host.tmpfs.as_ref().is_some_and(HashMap::is_empty) {
            return;
        }
        let mut places = vec![("/tmp", TMPFS_OPTIONS)];
        if self == Self::Strict && host.readonly_rootfs == Some(true) {
            places.extend([("/var/tmp", TMPFS_OPTIONS), ("/run", RUN_OPTIONS), (HOME, TMPFS_OPTIONS)]);
        }
        let taken = mount_points(config);
        let tmpfs = host.tmpfs.get_or_insert_default();
        for (place, options) in
            places.into_iter().filter(|(place, _)| !taken.iter().any(|path| path == place))
        {
            tmpfs.insert(place.to_owned(), options.to_owned());
        }
    }
}

/// No program gets more rights than it was started with: set-uid bits do nothing.
fn keep_privileges(host: &mut HostConfig) {
    let options = host.security_opt.get_or_insert_default();
    if !options.iter().any(|option| option.starts_with(NO_NEW_PRIVILEGES)) {
        options.push(NO_NEW_PRIVILEGES.to_owned());
    }
}

/// Limits that fit to those that are set: the engine refuses a container whose own contradict each other.
fn limit(host: &mut HostConfig, lacking: Lacking) {
    if !lacking.pids {
        host.pids_limit.get_or_insert(PIDS_MAX);
    }
    if host.cpu_quota.is_none() && host.cpu_period.is_none() && !lacking.cpu {
        host.nano_cpus.get_or_insert(NANO_CPUS_MAX);
    }
    if lacking.memory {
        return;
    }
    let swap = host.memory_swap.filter(|bytes| *bytes > 0).unwrap_or(MEMORY_BYTES_MAX);
    let reserved = host.memory_reservation.unwrap_or_default();
    let memory = *host.memory.get_or_insert(MEMORY_BYTES_MAX.min(swap).max(reserved));
    if memory > 0 {
        host.memory_swap.get_or_insert(memory);
    }
}

/// Nothing to write to, nobody to talk to, nobody to be.
fn keep_in(config: &LaunchConfig, body: &mut ContainerCreateBody, host: &mut HostConfig) {
    host.readonly_rootfs.get_or_insert(true);
    let has_networks = config.network.endpoints_config.as_ref().is_some_and(|networks| !networks.is_empty());
    if host.network_mode.as_deref().is_none_or(str::is_empty) && !has_networks {
        host.network_mode = Some("none".to_owned());
    }
    let needs_home =
        host.readonly_rootfs == Some(true) && !host.tmpfs.as_ref().is_some_and(HashMap::is_empty);
    if needs_home && !body.env.iter().flatten().any(|variable| variable.starts_with("HOME=")) {
        body.env.get_or_insert_default().push(format!("HOME={HOME}"));
    }
    if body.user.as_deref().is_none_or(str::is_empty) {
        body.user = Some(NOBODY.to_owned());
        // The image's own is its user's, and may be closed to others: then nothing would start. From here logins go home.
        if body.working_dir.as_deref().is_none_or(str::is_empty) {
            body.working_dir = Some("/".to_owned());
        }
    }
}

/// Where the configuration mounts something itself.
fn mount_points(config: &LaunchConfig) -> Vec<String> {
    let host = &config.host;
    let binds = host.binds.iter().flatten().filter_map(|bind| {
        let mut parts = bind.split(':');
        let first = parts.next();
        parts.next().or(first)
    });
    let mounts = host.mounts.iter().flatten().filter_map(|mount| mount.target.as_deref());
    let tmpfs = host.tmpfs.iter().flatten().map(|(path, _)| path.as_str());
    let volumes = config.container.volumes.iter().flatten().map(String::as_str);
    binds.chain(mounts).chain(tmpfs).chain(volumes).filter_map(clean).collect()
}

#[cfg(test)]
mod tests;
