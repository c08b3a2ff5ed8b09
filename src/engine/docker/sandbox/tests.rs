use bollard::models::Mount;

use super::*;

fn configured(host: HostConfig) -> LaunchConfig {
    LaunchConfig { host, ..LaunchConfig::default() }
}

fn standard(host: HostConfig) -> HostConfig {
    Sandbox::Standard.harden(&configured(host), Lacking::default()).1
}

#[expect(clippy::unnecessary_wraps, reason = "the engine's fields are optional")]
fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Y7
#[test]
fn gaps_are_filled() {
    let host = standard(HostConfig::default());

    assert_eq!(host.security_opt, names(&["no-new-privileges"]));
    assert_eq!((host.cap_drop, host.cap_add), (names(&["ALL"]), names(CAPABILITIES)));
    assert_eq!((host.pids_limit, host.nano_cpus), (Some(512), Some(1_000_000_000)));
    assert_eq!((host.memory, host.memory_swap), (Some(1 << 30), Some(1 << 30)));
    assert_eq!((host.init, host.privileged, host.readonly_rootfs), (Some(true), None, None));
    assert_eq!(host.cgroupns_mode, Some(HostConfigCgroupnsModeEnum::PRIVATE));
    assert!(host.tmpfs.expect("tmpfs").keys().eq(["/tmp"]));
}

/// Y7
#[test]
fn what_is_set_wins_even_if_it_is_nothing() {
    let set = HostConfig {
        security_opt: names(&["no-new-privileges:false", "label=type:x"]),
        cap_drop: names(&[]),
        pids_limit: Some(0),
        nano_cpus: Some(0),
        memory: Some(0),
        init: Some(false),
        tmpfs: Some(HashMap::new()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::HOST),
        ..HostConfig::default()
    };

    assert_eq!(standard(set.clone()), set);
    assert_eq!(Sandbox::Off.harden(&LaunchConfig::default(), Lacking::default()).1, HostConfig::default());
}

#[test]
fn options_of_ones_own_keep_their_place_beside_ours() {
    let host =
        standard(HostConfig { security_opt: names(&["apparmor=strict-one"]), ..HostConfig::default() });

    assert_eq!(host.security_opt, names(&["apparmor=strict-one", "no-new-privileges"]));
}

#[test]
fn capabilities_are_added_to_and_taken_from_ours() {
    let capabilities = |add: &[&str], drop: Option<&[&str]>| {
        let cap_drop = drop.and_then(names);
        let host = standard(HostConfig { cap_add: names(add), cap_drop, ..HostConfig::default() });
        (host.cap_drop, host.cap_add.unwrap_or_default().join(" "))
    };
    let all = names(&["ALL"]);
    let ours = CAPABILITIES.join(" ");

    assert_eq!(capabilities(&["cap_net_raw", "kill"], None), (all.clone(), format!("{ours} NET_RAW")));
    assert_eq!(capabilities(&[], Some(&["CAP_CHOWN"])), (all.clone(), ours.replace("CHOWN ", "")));
    assert_eq!(capabilities(&["NET_RAW"], Some(&["all"])), (all, "NET_RAW".to_owned()));
    assert_eq!(capabilities(&["NET_RAW"], Some(&[])), (names(&[]), "NET_RAW".to_owned()));
}

#[test]
fn limits_fit_to_those_that_are_set() {
    let memory = |memory, memory_swap, memory_reservation| {
        let set = HostConfig { memory, memory_swap, memory_reservation, ..HostConfig::default() };
        let host = standard(set);
        (host.memory, host.memory_swap)
    };

    assert_eq!(memory(Some(64 << 20), None, None), (Some(64 << 20), Some(64 << 20)));
    assert_eq!(memory(Some(64 << 20), Some(-1), None), (Some(64 << 20), Some(-1)));
    assert_eq!(memory(None, Some(1 << 29), None), (Some(1 << 29), Some(1 << 29)));
    assert_eq!(memory(None, None, Some(2 << 30)), (Some(2 << 30), Some(2 << 30)));
    assert_eq!(standard(HostConfig { cpu_quota: Some(1), ..HostConfig::default() }).nano_cpus, None);
}

#[test]
fn no_tmpfs_covers_what_is_mounted_at_its_place() {
    let binds = HostConfig { binds: names(&["/srv/scratch:/tmp/:rw"]), ..HostConfig::default() };
    let mount = Mount { target: Some("/tmp".to_owned()), ..Mount::default() };
    let mounts = HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() };
    let own = HashMap::from([("/tmp".to_owned(), "size=1m".to_owned())]);
    let tmpfs = HostConfig { tmpfs: Some(own.clone()), ..HostConfig::default() };
    let mut volumes = LaunchConfig::default();
    volumes.container.volumes = names(&["/tmp"]);

    assert_eq!(standard(binds).tmpfs, Some(HashMap::new()));
    assert_eq!(standard(mounts).tmpfs, Some(HashMap::new()));
    assert_eq!(standard(tmpfs).tmpfs, Some(own));
    assert_eq!(Sandbox::Standard.harden(&volumes, Lacking::default()).1.tmpfs, Some(HashMap::new()));
    let elsewhere = HashMap::from([("/data".to_owned(), String::new())]);
    let host = standard(HostConfig { tmpfs: Some(elsewhere), ..HostConfig::default() });
    assert_eq!(host.tmpfs.map(|tmpfs| tmpfs.len()), Some(2));
}

#[test]
fn an_idle_command_of_ones_own_is_the_first_process() {
    let idle_command = vec!["/sbin/init".to_owned()].try_into().expect("a program");
    let config = LaunchConfig { idle_command, ..LaunchConfig::default() };

    assert_eq!(Sandbox::Standard.harden(&config, Lacking::default()).1.init, None);
}

#[test]
fn what_the_engine_lacks_is_not_asked_for() {
    let lacking = Lacking { init: true, cgroup_namespace: true, cpu: true, memory: true, pids: true };

    let (_, host) = Sandbox::Standard.harden(&LaunchConfig::default(), lacking);

    assert_eq!((host.init, host.cgroupns_mode, host.nano_cpus), (None, None, None));
    assert_eq!((host.memory, host.memory_swap, host.pids_limit), (None, None, None));
    assert_eq!(host.security_opt, names(&["no-new-privileges"]));
}

/// Y7
#[test]
fn strict_is_nobody_without_powers_network_and_places_to_write_but_a_few() {
    let (body, host) = Sandbox::Strict.harden(&LaunchConfig::default(), Lacking::default());

    assert_eq!((host.cap_drop, host.cap_add), (names(&["ALL"]), names(&[])));
    assert_eq!((host.readonly_rootfs, host.network_mode.as_deref()), (Some(true), Some("none")));
    assert_eq!((body.user.as_deref(), body.working_dir.as_deref()), (Some("65534:65534"), Some("/")));
    assert_eq!(body.env, names(&["HOME=/home/user"]));
    let tmpfs = host.tmpfs.expect("tmpfs");
    assert!(["/tmp", "/var/tmp", "/run", HOME].iter().all(|place| tmpfs.contains_key(*place)), "{tmpfs:?}");
}

#[test]
fn what_is_set_wins_over_strict_too() {
    let mut config = configured(HostConfig {
        readonly_rootfs: Some(false),
        network_mode: Some("guests".to_owned()),
        cap_add: names(&["CHOWN"]),
        ..HostConfig::default()
    });
    config.container.user = Some("alice".to_owned());

    let (body, host) = Sandbox::Strict.harden(&config, Lacking::default());

    assert_eq!((body.user.as_deref(), body.working_dir, body.env), (Some("alice"), None, None));
    assert_eq!((host.readonly_rootfs, host.network_mode.as_deref()), (Some(false), Some("guests")));
    assert_eq!(host.cap_add, names(&["CHOWN"]));
    assert!(host.tmpfs.expect("tmpfs").keys().eq(["/tmp"]));
}
