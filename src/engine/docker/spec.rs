//! The body of a create-container request, from the configuration and what one container is to be.

use std::collections::HashMap;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptions;

use super::LaunchConfig;
use super::launcher::Way;
use super::sandbox::Sandbox;
use super::shortcomings::Lacking;
use crate::engine::ContainerSpec;

/// The name of the container for `spec`.
pub(super) fn name<'a>(config: &'a LaunchConfig, spec: &'a ContainerSpec) -> &'a str {
    config.container_name.get().unwrap_or(&spec.name)
}

/// What is sent to create a container for `spec`, on an engine that lacks what is `lacking`.
pub(super) fn create_request(
    config: &LaunchConfig,
    sandbox: Sandbox,
    lacking: Lacking,
    way: &Way,
    spec: &ContainerSpec,
) -> (CreateContainerOptions, ContainerCreateBody) {
    let name = name(config, spec).to_owned();
    let options = CreateContainerOptions { name: Some(name), platform: config.platform.query() };
    let (configured, mut host) = sandbox.harden(config, lacking);
    let mut labels: HashMap<String, String> = configured.labels.unwrap_or_default();
    labels.extend(spec.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut body = ContainerCreateBody {
        hostname: configured.hostname.filter(|name| !name.is_empty()).or_else(|| Some(spec.hostname.clone())),
        labels: Some(labels),
        // The image's own program is not wanted: the container idles while programs come and go.
        entrypoint: Some(config.idle_command.args().to_vec()),
        cmd: Some(Vec::new()),
        tty: Some(false),
        open_stdin: Some(false),
        stdin_once: Some(false),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        networking_config: Some(config.network.clone()),
        ..configured
    };
    way.fit(config, &mut body, &mut host);
    body.host_config = Some(host);
    (options, body)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::docker::launcher::Spare;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            name: "coracle-abc".to_owned(),
            hostname: "abc".to_owned(),
            labels: BTreeMap::from([("coracle.instance".to_owned(), "ours".to_owned())]),
            files: Vec::new(),
        }
    }

    #[test]
    fn our_labels_win_and_configured_names_do() {
        let container_name = "fixed".parse().expect("a name");
        let mut config = LaunchConfig { container_name, ..LaunchConfig::default() };
        config.container.hostname = Some("configured".to_owned());
        config.container.labels = Some(HashMap::from([
            ("coracle.instance".to_owned(), "theirs".to_owned()),
            ("team".to_owned(), "a".to_owned()),
        ]));

        let (options, body) =
            create_request(&config, Sandbox::default(), Lacking::default(), &Way::Exec(Spare::None), &spec());

        assert_eq!(options.name.as_deref(), Some("fixed"));
        assert_eq!(body.hostname.as_deref(), Some("configured"));
        let labels = body.labels.expect("labels");
        assert_eq!((labels["coracle.instance"].as_str(), labels["team"].as_str()), ("ours", "a"));
    }

    #[test]
    fn the_idle_command_replaces_entrypoint_and_command() {
        let idle_command = vec!["/idle".to_owned()].try_into().expect("a program");
        let mut config = LaunchConfig { idle_command, ..LaunchConfig::default() };
        config.container.cmd = Some(vec!["server".to_owned()]);
        config.container.tty = Some(true);

        let (options, body) =
            create_request(&config, Sandbox::default(), Lacking::default(), &Way::Exec(Spare::None), &spec());

        assert_eq!(options.name.as_deref(), Some("coracle-abc"));
        assert_eq!(body.entrypoint, Some(vec!["/idle".to_owned()]));
        assert_eq!(body.cmd, Some(Vec::new()));
        assert_eq!((body.tty, body.open_stdin), (Some(false), Some(false)));
    }

    #[test]
    fn an_init_for_sockets_changes_nothing_but_a_mount_and_a_label() {
        let config = LaunchConfig::default();
        let made = |spare| {
            let way = Way::Exec(spare);
            create_request(&config, Sandbox::default(), Lacking::default(), &way, &spec()).1
        };
        let without = made(Spare::None);

        let mut with = made(Spare::Volume("inits".to_owned()));
        let mut missing = made(Spare::Missing("no room".to_owned()));

        let mounts = with.host_config.as_mut().and_then(|host| host.mounts.take()).expect("a mount");
        let [mount] = mounts.as_slice() else { panic!("one mount: {mounts:?}") };
        assert_eq!((mount.target.as_deref(), mount.source.as_deref()), (Some("/.coracle"), Some("inits")));
        assert_eq!(mount.read_only, Some(true));
        for (body, label) in [(&mut with, "yes"), (&mut missing, "no room")] {
            let labels = body.labels.as_mut().expect("labels");
            assert_eq!(labels.remove("coracle.forward").as_deref(), Some(label));
            assert_eq!(*body, without);
        }
    }
}
