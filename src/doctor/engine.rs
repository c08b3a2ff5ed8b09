//! What the engine says of itself and its host.

use std::fs;

use super::Report;
use super::escapes::{self, Version};
use crate::config::Config;
use crate::engine::docker::{Component, Danger, Endpoint, Examination, ImagePullPolicy, Sandbox};

/// The oldest API that everything of ours was tried with.
const API_MIN: (u32, u32) = (1, 41);

/// What the engine calls runc as a runtime.
const RUNC_NAMES: [&str; 3] = ["", "runc", "io.containerd.runc.v2"];

/// In the commits and versions of packages, which may have fixes of later releases.
const DISTRIBUTION_MARKS: [&str; 7] = ["deb", "ubuntu", "+ds", ".el", ".fc", "amzn", "suse"];

pub(super) fn examine(config: &Config, engine: &Examination, report: &mut Report) {
    let (version, api, host) = (&engine.version, &engine.api_version, &config.docker.host);
    if number(api) < API_MIN {
        report.problem(
            "engine",
            format!("{version} at `{host}` speaks API {api}; 1.41 (Docker 20.10) is needed"),
        );
    } else {
        report.ok("engine", format!("{version} at `{host}`, API {api}"));
    }
    for warning in engine.warnings.iter().filter(|warning| !is_about_limits(warning)) {
        let is_open = warning.to_lowercase().contains("api is accessible");
        if is_open { report.problem("engine", warning) } else { report.warning("engine", warning) }
    }
    runtime(config, engine, report);
    isolation(config, engine, report);
    limits(config, engine, report);
    storage(config, engine, report);
    init(config, engine, report);
    image(config, engine, report);
}

fn runtime(config: &Config, engine: &Examination, report: &mut Report) {
    let configured = config.docker.config.host.runtime.as_deref().filter(|name| !name.is_empty());
    let runtime = configured.unwrap_or(&engine.default_runtime);
    if !RUNC_NAMES.contains(&runtime) {
        return report
            .ok("runtime", format!("containers are run by `{runtime}`; only runc's escapes are known here"));
    }
    match engine.component("runc") {
        Some(runc) => judge("runc", runc, escapes::of_runc, "1.2.8, 1.3.3 or later", report),
        None => report
            .warning("runc", "the engine does not tell its version; see that it is 1.2.8, 1.3.3 or later"),
    }
    if config.allow_dangerous.contains(&Danger::HostNetwork)
        && let Some(containerd) = engine.component("containerd")
    {
        judge("containerd", containerd, escapes::of_containerd, "1.3.9, 1.4.3 or later", report);
    }
}

fn judge(
    about: &'static str,
    component: &Component,
    escapes: fn(Version) -> Vec<&'static str>,
    good: &str,
    report: &mut Report,
) {
    let Component { version: text, commit, .. } = component;
    let Some((version, rest)) = Version::parse(text) else {
        return report
            .warning(about, format!("its version `{text}` is not understood; see that it is {good}"));
    };
    let open = escapes(version).join(", ");
    let is_packaged = !rest.is_empty() || DISTRIBUTION_MARKS.iter().any(|mark| commit.contains(mark));
    if open.is_empty() {
        report.ok(about, format!("{text} has no known way out of a container"));
    } else if is_packaged {
        let name = if commit.is_empty() { text } else { commit };
        report.warning(
            about,
            format!(
                "{name} is a distribution's; the release that it is made of has {open}, ways out of a container. Its \
                 package may have been mended: look for them in its changelog (`apt changelog {about}`, \
                 https://security-tracker.debian.org/tracker/source-package/{about}), else install {good}"
            ),
        );
    } else {
        report.problem(
            about,
            format!("{text} has {open}: a user can get out of a container to its host; install {good} (if it is a distribution's package, its changelog may say that it was mended)"),
        );
    }
}

fn isolation(config: &Config, engine: &Examination, report: &mut Report) {
    let is_rootless = engine.has_security_option("rootless");
    if is_rootless {
        report.ok("rootless", "the engine runs without root: so would who gets out of a container");
    } else {
        report.ok("rootless", "no: the engine is root on its host");
    }
    if is_rootless || engine.has_security_option("userns") {
        report.ok("user namespaces", "on: root in a container is nobody on the host");
    } else {
        report.warning(
            "user namespaces",
            "off: root in a container is root to the kernel; set `userns-remap` in the engine's daemon.json, run it \
             rootless, or name an unprivileged `docker.config.container.user`",
        );
    }
    let own = config.docker.config.host.security_opt.iter().flatten();
    let is_unconfined = own.into_iter().any(|option| option.replacen(':', "=", 1) == "seccomp=unconfined");
    if !engine.has_security_option("seccomp") {
        report.problem(
            "seccomp",
            "off: containers may make every system call; use an engine and a kernel with seccomp, and the engine's \
             default profile",
        );
    } else if is_unconfined {
        report.warning(
            "seccomp",
            "on, but not for our containers: `docker.config.host.securityOpt` switches it off",
        );
    } else {
        report.ok("seccomp", "on");
    }
    match ["apparmor", "selinux"].into_iter().find(|name| engine.has_security_option(name)) {
        Some(name) => report.ok("AppArmor, SELinux", format!("{name} is on")),
        None => report.warning(
            "AppArmor, SELinux",
            "both are off: a second line of defence is missing; switch one of them on in the host's kernel",
        ),
    }
}

fn limits(config: &Config, engine: &Examination, report: &mut Report) {
    let about = "control groups";
    let version =
        if engine.cgroup_version.is_empty() { "of unknown version" } else { &engine.cgroup_version };
    let limits = [
        ("memory", engine.limits.memory),
        ("swap", engine.limits.swap),
        ("CPU", engine.limits.cpu),
        ("processes", engine.limits.pids),
    ];
    let listed = |works: bool| {
        let names = limits.iter().filter(|(_, other)| *other == works).map(|(name, _)| *name);
        names.collect::<Vec<_>>().join(", ")
    };
    let missing = listed(false);
    if missing.is_empty() {
        return report.ok(about, format!("version {version}; limits on {} work", listed(true)));
    }
    let remedy = if engine.has_security_option("rootless") {
        "delegate the controllers to the engine's user"
    } else if missing == "swap" {
        "boot the host with `swapaccount=1`, or without swap"
    } else {
        "enable these controllers on the host"
    };
    let text = format!("version {version}; no limits on {missing}: one user can take it all; {remedy}");
    if config.sandbox == Sandbox::Off || missing == "swap" {
        report.warning(about, text);
    } else {
        report.problem(about, text);
    }
}

/// Whether what a container writes can be bounded.
fn storage(config: &Config, engine: &Examination, report: &mut Report) {
    let about = "disk quota";
    let (driver, below) = (engine.storage_driver.as_str(), engine.backing_filesystem.as_str());
    let is_configured =
        config.docker.config.host.storage_opt.as_ref().is_some_and(|options| options.contains_key("size"));
    let works = match driver {
        "btrfs" | "zfs" | "devicemapper" | "windowsfilter" => Some(true),
        "overlay2" if below == "xfs" => project_quotas(config, &engine.root_folder),
        _ => Some(false),
    };
    let on = if below.is_empty() { driver.to_owned() } else { format!("{driver} on {below}") };
    let how = "`docker.config.host.storageOpt: {size: 10G}`";
    let move_it = "put the engine's folder on xfs mounted with `pquota`, or use `sandbox: strict`";
    match (works, is_configured) {
        (Some(true), true) => report.ok(about, format!("{on} keeps containers to their size")),
        (Some(true), false) => report.warning(about, format!("{on} has quotas, and none is set: {how}")),
        (Some(false), true) => {
            report
                .problem(about, format!("{on} has none, and the engine will refuse `storageOpt`; {move_it}"));
        }
        (Some(false), false) => {
            report
                .warning(about, format!("{on} has none: a container can fill the engine's disk; {move_it}"));
        }
        (None, _) => report.warning(
            about,
            format!("{on} has them if `{}` is mounted with `pquota`; then set {how}", engine.root_folder),
        ),
    }
}

/// Whether the engine's folder, if it is on this machine, is mounted with project quotas.
fn project_quotas(config: &Config, folder: &str) -> Option<bool> {
    if !matches!(config.docker.host, Endpoint::Unix(_)) || !fs::exists(folder).ok()? {
        return None;
    }
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let of_folder = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, options) = (words.next()?, words.nth(1)?);
        let is_above = folder
            .strip_prefix(place.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        is_above.then_some((place.len(), options))
    });
    let (_, options) = of_folder.max_by_key(|(length, _)| *length)?;
    Some(options.split(',').any(|option| option == "prjquota" || option == "pquota"))
}

fn init(config: &Config, engine: &Examination, report: &mut Report) {
    let host = &config.docker.config.host;
    if host.init == Some(false) || (config.sandbox == Sandbox::Off && host.init.is_none()) {
        return report.ok("init", "not asked for");
    }
    match engine.component("docker-init") {
        Some(component) => report.ok("init", format!("docker-init {} reaps what programs leave", component.version)),
        None => report.warning(
            "init",
            "the engine does not name its init; if it has none, containers run without, and what their programs leave \
             behind is not reaped; install docker-init (tini)",
        ),
    }
}

fn image(config: &Config, engine: &Examination, report: &mut Report) {
    let image = config.docker.config.image();
    match (engine.has_image, config.docker.config.image_pull_policy) {
        (true, _) => report.ok("image", format!("`{image}` is on the engine")),
        (false, ImagePullPolicy::Never) => report.problem(
            "image",
            format!("`{image}` is not on the engine, and `imagePullPolicy: Never` forbids pulling it; load it or build it there"),
        ),
        (false, _) => report.warning(
            "image",
            format!("`{image}` is not on the engine; the first login pulls it, if its registry gives it to us; `docker pull {image}` tries"),
        ),
    }
}

/// We tell these ourselves.
fn is_about_limits(warning: &str) -> bool {
    ["limit support", "cfs", "cpuset", "cpu shares", "bridge-nf"]
        .iter()
        .any(|words| warning.to_lowercase().contains(words))
}

/// `1.41` as numbers; of what is no version nothing.
fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or_default());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests;
