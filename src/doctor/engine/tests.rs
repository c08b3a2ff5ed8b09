use crate::engine::docker::Limits;

use super::*;

/// An engine with nothing wrong.
fn sound() -> Examination {
    Examination {
        version: "28.5.1".to_owned(),
        api_version: "1.51".to_owned(),
        default_runtime: "runc".to_owned(),
        components: vec![
            component("runc", "1.3.3", "v1.3.3-0-gd842d771"),
            component("docker-init", "0.19.0", "de40ad0"),
        ],
        security_options: ["name=seccomp,profile=builtin", "name=apparmor", "name=userns"]
            .map(str::to_owned)
            .to_vec(),
        cgroup_version: "2".to_owned(),
        limits: Limits { memory: true, swap: true, cpu: true, pids: true },
        storage_driver: "btrfs".to_owned(),
        has_image: true,
        ..Examination::default()
    }
}

fn component(name: &str, version: &str, commit: &str) -> Component {
    Component { name: name.to_owned(), version: version.to_owned(), commit: commit.to_owned() }
}

/// The lines about `about`.
fn lines(engine: &Examination, about: &str) -> String {
    lines_with(&Config::default(), engine, about)
}

fn lines_with(config: &Config, engine: &Examination, about: &str) -> String {
    let mut report = Report::default();
    examine(config, engine, &mut report);
    let text = report.to_string();
    let of_it = text.lines().filter(|line| line.get(9..).is_some_and(|rest| rest.starts_with(about)));
    of_it.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_sound_engine_has_no_problem_and_one_thing_to_set() {
    let mut report = Report::default();
    examine(&Config::default(), &sound(), &mut report);

    let text = report.to_string();
    let others: Vec<_> = text.lines().filter(|line| !line.starts_with("ok ")).collect();
    assert_eq!(report.problems(), 0);
    assert_eq!(others.len(), 1, "{text}");
    assert!(others[0].starts_with("warning  disk quota: btrfs has quotas, and none is set"), "{text}");
}

#[test]
fn an_old_runc_is_a_problem_and_a_distributions_a_question() {
    let with = |version: &str, commit: &str| {
        lines(&Examination { components: vec![component("runc", version, commit)], ..sound() }, "runc")
    };

    assert!(
        with("1.1.11", "v1.1.11-0-g4bccb38c")
            .starts_with("problem  runc: 1.1.11 has CVE-2024-21626, CVE-2025")
    );
    let debian = with("1.1.5+ds1", "1.1.5+ds1-1+deb12u1");
    assert!(debian.starts_with("warning  runc: 1.1.5+ds1-1+deb12u1 is a distribution's"), "{debian}");
    assert!(debian.contains("apt changelog runc"), "{debian}");
    assert!(with("1.4.0", "").starts_with("ok "));
    assert!(with("unknown", "").starts_with("warning"));
    let other = Examination { default_runtime: "runsc".to_owned(), components: Vec::new(), ..sound() };
    assert!(lines(&other, "runtime").starts_with("ok "));
}

#[test]
fn containerds_escape_matters_on_the_hosts_network_only() {
    let engine = Examination { components: vec![component("containerd", "1.4.2", "")], ..sound() };
    let config = Config { allow_dangerous: vec![Danger::HostNetwork], ..Config::default() };

    assert_eq!(lines(&engine, "containerd"), "");
    assert!(lines_with(&config, &engine, "containerd").starts_with("problem"));
}

#[test]
fn what_does_not_keep_containers_apart_is_told() {
    let without = |name: &str| {
        let options = sound().security_options.into_iter().filter(|option| !option.contains(name)).collect();
        Examination { security_options: options, ..sound() }
    };

    assert!(lines(&without("seccomp"), "seccomp").starts_with("problem"));
    assert!(lines(&without("apparmor"), "AppArmor").starts_with("warning"));
    assert!(lines(&without("userns"), "user namespaces").starts_with("warning"));
    let unconfined = vec!["name=seccomp,profile=unconfined".to_owned()];
    let engine = Examination { security_options: unconfined, ..sound() };
    assert!(lines(&engine, "seccomp").starts_with("problem"));
}

#[test]
fn limits_that_do_nothing_are_told_by_name() {
    let with = |limits| lines(&Examination { limits, ..sound() }, "control groups");
    let all = sound().limits;

    assert!(with(Limits { swap: false, ..all }).contains("no limits on swap: one"));
    assert!(with(Limits { cpu: false, pids: false, ..all }).starts_with("problem"));
    assert!(with(Limits { cpu: false, pids: false, ..all }).contains("no limits on CPU, processes: one"));
}

#[test]
fn a_missing_image_is_a_problem_only_where_it_cannot_be_pulled() {
    let engine = Examination { has_image: false, ..sound() };
    let mut never = Config::default();
    never.docker.config.image_pull_policy = ImagePullPolicy::Never;

    assert!(lines(&engine, "image").starts_with("warning"));
    assert!(lines_with(&never, &engine, "image").starts_with("problem"));
}

#[test]
fn an_old_engine_and_an_open_one_are_problems() {
    let old = Examination { api_version: "1.40".to_owned(), ..sound() };
    let warning = "WARNING: API is accessible on http://0.0.0.0:2375 without encryption.".to_owned();
    let open = Examination { warnings: vec![warning], ..sound() };

    assert!(lines(&old, "engine").starts_with("problem"));
    assert!(lines(&open, "engine").contains("problem  engine: WARNING: API is accessible"));
}

#[test]
fn quotas_depend_on_the_driver_and_what_is_below() {
    let with = |driver: &str, below: &str| {
        let (storage_driver, backing_filesystem) = (driver.to_owned(), below.to_owned());
        let root_folder = "/nonexistent/docker".to_owned();
        lines(&Examination { storage_driver, backing_filesystem, root_folder, ..sound() }, "disk quota")
    };
    let mut sized = Config::default();
    sized.docker.config.host.storage_opt = Some([("size".to_owned(), "1G".to_owned())].into());
    let overlay = Examination {
        storage_driver: "overlay2".to_owned(),
        backing_filesystem: "extfs".to_owned(),
        ..sound()
    };

    assert!(with("overlay2", "extfs").contains("overlay2 on extfs has none"));
    assert!(with("overlay2", "xfs").contains("if `/nonexistent/docker` is mounted with `pquota`"));
    assert!(lines_with(&sized, &overlay, "disk quota").starts_with("problem"));
    assert!(lines_with(&sized, &sound(), "disk quota").starts_with("ok "));
}

#[test]
fn a_missing_init_is_told() {
    let engine = Examination { components: vec![component("runc", "1.3.3", "")], ..sound() };
    let off = Config { sandbox: Sandbox::Off, ..Config::default() };

    assert!(lines(&engine, "init").starts_with("warning"));
    assert!(lines_with(&off, &engine, "init").starts_with("ok "));
}
