//! Settings that hand the engine's host to whoever is in a container, and the names that allow them nevertheless.
//!
//! What is looked at is the configuration, not the host: the engine may be on another machine, so links are not followed.

use std::fmt;

use bollard::models::{HostConfig, HostConfigCgroupnsModeEnum, Mount};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::{Endpoint, LaunchConfig};
use super::paths::{clean, is_below};

/// Sockets of engines at their usual places, all as good as root on their host.
const ENGINE_SOCKETS: &[&str] = &[
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/var/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/var/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/var/run/crio/crio.sock",
];

/// Folders that rule the host, or lead to everything on it.
const HOST_FOLDERS: &[&str] =
    &["/", "/bin", "/dev", "/etc", "/home", "/lib", "/lib64", "/root", "/sbin", "/usr", "/var", "/var/lib"];

/// The same, also for everything below: the kernel's own, and what containers are made of.
const HOST_TREES: &[&str] =
    &["/boot", "/proc", "/sys", "/var/lib/containerd", "/var/lib/containers", "/var/lib/docker"];

/// Makes the closed list of names, and says of each what it does.
macro_rules! dangers {
    ($($danger:ident $name:literal $meaning:literal)*) => {
        /// A kind of setting that opens the host to the users of containers; `allowDangerous` takes these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
        pub enum Danger {
            $(
                #[doc = $meaning]
                #[serde(rename = $name)]
                $danger,
            )*
        }

        impl Danger {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$danger),*];

            /// As `allowDangerous` names it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$danger => $name),* }
            }

            /// What the setting does; continues the setting's name.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$danger => $meaning),* }
            }
        }
    };
}

dangers! {
    EngineSocket "engineSocket" "gives every user a container engine, and with it root on its host"
    HostRoot "hostRoot" "shows every user a folder that rules the host"
    HostNetwork "hostNetwork" "puts users on the host's own network: its loopback services, its abstract sockets, its traffic"
    HostPid "hostPid" "lets users see and signal the host's processes"
    HostIpc "hostIpc" "shares the host's shared memory and message queues with users"
    HostUts "hostUts" "shares the host's name with users, who may be able to change it"
    HostUserns "hostUserns" "makes root in a container root on the host, where the engine would map it away"
    HostCgroupns "hostCgroupns" "shows users all control groups of the host"
    Privileged "privileged" "switches off nearly all that keeps a container apart from its host"
    AllCapabilities "allCapabilities" "gives users every power of root over the host's kernel"
    Devices "devices" "hands devices of the host to users, and the drivers behind them"
    SeccompUnconfined "seccompUnconfined" "lets users make system calls that have been the way out of containers before"
    ApparmorUnconfined "apparmorUnconfined" "lifts AppArmor's bounds on files of the kernel and on mounts"
    SelinuxUnconfined "selinuxUnconfined" "lifts SELinux' separation of containers from the host"
    SystemPathsUnconfined "systemPathsUnconfined" "uncovers parts of /proc and /sys that rule the kernel"
    AuditControl "AUDIT_CONTROL" "lets users switch the host's audit off"
    AuditRead "AUDIT_READ" "lets users read the host's audit log"
    Bpf "BPF" "lets users load programs into the host's kernel"
    DacReadSearch "DAC_READ_SEARCH" "lets users open any file of the host by its handle"
    MacAdmin "MAC_ADMIN" "lets users change the host's security policy"
    MacOverride "MAC_OVERRIDE" "lets users ignore the host's security policy"
    NetAdmin "NET_ADMIN" "opens the kernel's firewall and routing code to users, where many ways out have been found"
    Perfmon "PERFMON" "lets users watch the host's kernel and processes"
    SysAdmin "SYS_ADMIN" "is as good as root on the host: mounts, namespaces, quotas and much else"
    SysBoot "SYS_BOOT" "lets users start another kernel on the host"
    SysModule "SYS_MODULE" "lets users load modules into the host's kernel"
    SysPtrace "SYS_PTRACE" "lets users take over every process that they can see, whoever's it is"
    SysRawio "SYS_RAWIO" "lets users reach the memory and the devices of the host"
    SysTime "SYS_TIME" "lets users set the host's clock"
    Syslog "SYSLOG" "lets users read the log and the addresses of the host's kernel"
}

/// A dangerous setting, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DangerousSetting {
    /// What is dangerous about it.
    pub danger: Danger,
    /// The keys and indices that lead to it from `docker.config` on, such as `host`, `Binds`, `0`.
    pub path: Vec<String>,
    /// What is set, as people write it.
    setting: String,
}

impl fmt::Display for DangerousSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (setting, meaning, name) = (&self.setting, self.danger.meaning(), self.danger.name());
        write!(f, "`{setting}` {meaning}; if that is meant, say so at the top: `allowDangerous: [{name}]`")
    }
}

/// All dangerous settings of containers on the engine at `engine`.
#[must_use]
pub fn dangers(config: &LaunchConfig, engine: &Endpoint) -> Vec<DangerousSetting> {
    let mut found = Found::default();
    let host = &config.host;
    let own_socket = match engine {
        Endpoint::Unix(path) => clean(&path.to_string_lossy()),
        Endpoint::Tcp(_) | Endpoint::Http(_) | Endpoint::Https(_) => None,
    };
    for (index, bind) in host.binds.iter().flatten().enumerate() {
        let source = bind.split(':').next().unwrap_or_default();
        found.folder(&["Binds", &index.to_string()], source, own_socket.as_deref());
    }
    for (index, mount) in host.mounts.iter().flatten().enumerate() {
        for source in sources(mount) {
            found.folder(&["Mounts", &index.to_string()], source, own_socket.as_deref());
        }
    }
    namespaces(host, &mut found);
    privileges(host, &mut found);
    found.0
}

#[derive(Default)]
struct Found(Vec<DangerousSetting>);

impl Found {
    fn add(&mut self, danger: Danger, path: &[&str], setting: impl Into<String>) {
        let path = std::iter::once("host").chain(path.iter().copied()).map(str::to_owned).collect();
        self.0.push(DangerousSetting { danger, path, setting: setting.into() });
    }

    fn folder(&mut self, path: &[&str], source: &str, own_socket: Option<&str>) {
        // Anything else is the name of a volume.
        let Some(folder) = clean(source) else { return };
        let mut sockets = ENGINE_SOCKETS.iter().copied().chain(own_socket);
        if sockets.any(|socket| is_below(socket, &folder)) {
            self.add(Danger::EngineSocket, path, source);
        }
        if HOST_FOLDERS.contains(&folder.as_str()) || HOST_TREES.iter().any(|tree| is_below(&folder, tree)) {
            self.add(Danger::HostRoot, path, source);
        }
    }
}

/// What of the host a mount shows: a bind's source, or what stands behind a volume that is a bind in disguise.
fn sources(mount: &Mount) -> impl Iterator<Item = &str> {
    let driver = mount.volume_options.as_ref().and_then(|options| options.driver_config.as_ref());
    let device = driver.and_then(|driver| driver.options.as_ref()).and_then(|options| options.get("device"));
    mount.source.iter().chain(device).map(String::as_str)
}

fn namespaces(host: &HostConfig, found: &mut Found) {
    for (danger, key, mode) in [
        (Danger::HostNetwork, "NetworkMode", &host.network_mode),
        (Danger::HostPid, "PidMode", &host.pid_mode),
        (Danger::HostIpc, "IpcMode", &host.ipc_mode),
        (Danger::HostUts, "UTSMode", &host.uts_mode),
        (Danger::HostUserns, "UsernsMode", &host.userns_mode),
    ] {
        if mode.as_deref() == Some("host") {
            found.add(danger, &[key], format!("{key}: host"));
        }
    }
    if host.cgroupns_mode == Some(HostConfigCgroupnsModeEnum::HOST) {
        found.add(Danger::HostCgroupns, &["CgroupnsMode"], "CgroupnsMode: host");
    }
}

fn privileges(host: &HostConfig, found: &mut Found) {
    if host.privileged == Some(true) {
        found.add(Danger::Privileged, &["Privileged"], "Privileged: true");
    }
    for (index, written) in host.cap_add.iter().flatten().enumerate() {
        let name = capability(written);
        let danger = match name.as_str() {
            "ALL" => Some(Danger::AllCapabilities),
            name => Danger::ALL.iter().copied().find(|danger| danger.name() == name),
        };
        if let Some(danger) = danger {
            found.add(danger, &["CapAdd", &index.to_string()], written);
        }
    }
    let devices = [
        ("Devices", host.devices.as_ref().map_or(0, Vec::len)),
        ("DeviceCgroupRules", host.device_cgroup_rules.as_ref().map_or(0, Vec::len)),
        ("DeviceRequests", host.device_requests.as_ref().map_or(0, Vec::len)),
    ];
    for (key, _) in devices.iter().filter(|(_, count)| *count > 0) {
        found.add(Danger::Devices, &[key], *key);
    }
    for (index, option) in host.security_opt.iter().flatten().enumerate() {
        let danger = match option.replacen(':', "=", 1).as_str() {
            "seccomp=unconfined" => Danger::SeccompUnconfined,
            "apparmor=unconfined" => Danger::ApparmorUnconfined,
            "label=disable" | "disable" => Danger::SelinuxUnconfined,
            "systempaths=unconfined" => Danger::SystemPathsUnconfined,
            _ => continue,
        };
        found.add(danger, &["SecurityOpt", &index.to_string()], option);
    }
    // Either list replaces the engine's own, of which these are the worst to lose.
    for (key, paths, needed) in [
        ("MaskedPaths", &host.masked_paths, "/proc/kcore"),
        ("ReadonlyPaths", &host.readonly_paths, "/proc/sys"),
    ] {
        if paths.as_ref().is_some_and(|paths| !paths.iter().any(|path| path == needed)) {
            found.add(Danger::SystemPathsUnconfined, &[key], format!("{key} without {needed}"));
        }
    }
}

/// A capability's name as the engine takes it, in one spelling: `SYS_ADMIN`.
pub(super) fn capability(written: &str) -> String {
    let name = written.trim().to_ascii_uppercase();
    name.strip_prefix("CAP_").map_or(name.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dangers of these fields of `HostConfig`, as names and places.
    fn found(host: &serde_json::Value) -> Vec<(&'static str, String)> {
        let config = LaunchConfig {
            host: serde_json::from_value(host.clone()).expect("fields of the engine's API"),
            ..LaunchConfig::default()
        };
        let engine = "unix:///srv/engine/own.sock".parse().expect("an endpoint");
        let found = dangers(&config, &engine).into_iter();
        found.map(|setting| (setting.danger.name(), setting.path.join("."))).collect()
    }

    /// Y7
    #[test]
    fn every_way_to_an_engines_socket_is_found() {
        for source in [
            "/var/run/docker.sock",
            "/run/docker.sock",
            "/run//./docker.sock",
            "/run/",
            "/var/run",
            "/x/../run",
            "/run/containerd",
            "/run/podman/podman.sock",
            "/srv/engine/own.sock",
            "/srv",
        ] {
            let bind = serde_json::json!({"Binds": ["data:/data", format!("{source}:/there:ro")]});
            assert_eq!(found(&bind), [("engineSocket", "host.Binds.1".to_owned())], "{source}");
            let mount =
                serde_json::json!({"Mounts": [{"Type": "bind", "Source": source, "Target": "/there"}]});
            assert_eq!(found(&mount), [("engineSocket", "host.Mounts.0".to_owned())], "{source}");
        }
        let disguised = serde_json::json!({"Mounts": [{"Type": "volume", "Source": "v", "Target": "/t",
            "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"o": "bind", "device": "/run"}}}}]});
        assert_eq!(found(&disguised).len(), 1);
    }

    /// Y7
    #[test]
    fn the_hosts_own_folders_are_found_and_others_are_not() {
        for source in ["/etc", "/proc/sys", "/sys", "/boot/efi", "/var/lib/docker/volumes", "/root/"] {
            let bind = serde_json::json!({"Binds": [format!("{source}:/there")]});
            assert_eq!(found(&bind), [("hostRoot", "host.Binds.0".to_owned())], "{source}");
        }
        let root = found(&serde_json::json!({"Binds": ["/:/host"]}));
        assert_eq!(root.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["engineSocket", "hostRoot"]);
        for source in
            ["/srv/data", "/home/alice", "/etc/localtime", "/var/lib/things", "run", "/runs", "/opt"]
        {
            let bind = serde_json::json!({"Binds": [format!("{source}:/there")]});
            assert_eq!(found(&bind), [], "{source}");
        }
    }

    /// Y7
    #[test]
    fn shared_namespaces_and_powers_are_found() {
        for (host, name) in [
            (serde_json::json!({"NetworkMode": "host"}), "hostNetwork"),
            (serde_json::json!({"PidMode": "host"}), "hostPid"),
            (serde_json::json!({"IpcMode": "host"}), "hostIpc"),
            (serde_json::json!({"UTSMode": "host"}), "hostUts"),
            (serde_json::json!({"UsernsMode": "host"}), "hostUserns"),
            (serde_json::json!({"CgroupnsMode": "host"}), "hostCgroupns"),
            (serde_json::json!({"Privileged": true}), "privileged"),
            (serde_json::json!({"CapAdd": ["all"]}), "allCapabilities"),
            (serde_json::json!({"CapAdd": ["cap_sys_admin"]}), "SYS_ADMIN"),
            (serde_json::json!({"CapAdd": ["NET_RAW", "SYS_PTRACE"]}), "SYS_PTRACE"),
            (serde_json::json!({"Devices": [{"PathOnHost": "/dev/sda"}]}), "devices"),
            (serde_json::json!({"DeviceCgroupRules": ["c *:* rwm"]}), "devices"),
            (serde_json::json!({"SecurityOpt": ["seccomp=unconfined"]}), "seccompUnconfined"),
            (serde_json::json!({"SecurityOpt": ["apparmor:unconfined"]}), "apparmorUnconfined"),
            (serde_json::json!({"SecurityOpt": ["label=disable"]}), "selinuxUnconfined"),
            (serde_json::json!({"SecurityOpt": ["systempaths=unconfined"]}), "systemPathsUnconfined"),
            (serde_json::json!({"MaskedPaths": []}), "systemPathsUnconfined"),
        ] {
            let found = found(&host);
            assert_eq!(found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [name], "{host}");
        }
        let harmless = serde_json::json!({"NetworkMode": "none", "PidMode": "", "Privileged": false,
            "CapAdd": ["NET_RAW"], "SecurityOpt": ["no-new-privileges", "seccomp={}"], "Devices": []});
        assert_eq!(found(&harmless), []);
    }

    #[test]
    fn a_danger_is_written_as_it_is_named() {
        for danger in Danger::ALL {
            assert_eq!(serde_json::to_value(danger).expect("a name"), danger.name());
        }
    }
}
