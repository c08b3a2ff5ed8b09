//! The body of a create-container request, from the configuration and what one container is to be.

use std::collections::HashMap;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptions;

use super::{Platform, Settings};
use crate::engine::ContainerSpec;

/// What is sent to create a container for `spec`.
pub(super) fn create_request(
    settings: &Settings,
    spec: &ContainerSpec,
) -> (CreateContainerOptions, ContainerCreateBody) {
    let name =
        if settings.container_name.is_empty() { spec.name.clone() } else { settings.container_name.clone() };
    let options = CreateContainerOptions { name: Some(name), platform: settings.platform.query() };
    let configured = settings.container.clone();
    let mut labels: HashMap<String, String> = configured.labels.unwrap_or_default();
    labels.extend(spec.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    let body = ContainerCreateBody {
        hostname: configured.hostname.filter(|name| !name.is_empty()).or_else(|| Some(spec.hostname.clone())),
        labels: Some(labels),
        // The image's own program is not wanted: the container idles while programs come and go.
        entrypoint: Some(settings.idle_command.clone()),
        cmd: Some(Vec::new()),
        tty: Some(false),
        open_stdin: Some(false),
        stdin_once: Some(false),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        host_config: Some(settings.host_config.clone()),
        networking_config: Some(settings.network.clone()),
        ..configured
    };
    (options, body)
}

impl Platform {
    /// `os[/architecture[/variant]]`, empty for the engine's own.
    pub(super) fn query(&self) -> String {
        let parts = [&self.os, &self.architecture, &self.variant];
        parts.into_iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("/")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            name: "coracle-abc".to_owned(),
            hostname: "abc".to_owned(),
            labels: BTreeMap::from([("coracle.instance".to_owned(), "ours".to_owned())]),
        }
    }

    #[test]
    fn our_labels_win_and_configured_names_do() {
        let mut settings = Settings { container_name: "fixed".to_owned(), ..Settings::default() };
        settings.container.hostname = Some("configured".to_owned());
        settings.container.labels = Some(HashMap::from([
            ("coracle.instance".to_owned(), "theirs".to_owned()),
            ("team".to_owned(), "a".to_owned()),
        ]));

        let (options, body) = create_request(&settings, &spec());

        assert_eq!(options.name.as_deref(), Some("fixed"));
        assert_eq!(body.hostname.as_deref(), Some("configured"));
        let labels = body.labels.expect("labels");
        assert_eq!((labels["coracle.instance"].as_str(), labels["team"].as_str()), ("ours", "a"));
    }

    #[test]
    fn the_idle_command_replaces_entrypoint_and_command() {
        let mut settings = Settings { idle_command: vec!["/idle".to_owned()], ..Settings::default() };
        settings.container.cmd = Some(vec!["server".to_owned()]);
        settings.container.tty = Some(true);

        let (options, body) = create_request(&settings, &spec());

        assert_eq!(options.name.as_deref(), Some("coracle-abc"));
        assert_eq!(body.entrypoint, Some(vec!["/idle".to_owned()]));
        assert_eq!(body.cmd, Some(Vec::new()));
        assert_eq!((body.tty, body.open_stdin), (Some(false), Some(false)));
    }

    #[test]
    fn a_platform_is_as_long_as_it_is_known() {
        let platform = |os: &str, architecture: &str, variant: &str| {
            Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
                .query()
        };

        assert_eq!(platform("", "", ""), "");
        assert_eq!(platform("linux", "arm64", ""), "linux/arm64");
        assert_eq!(platform("linux", "arm", "v7"), "linux/arm/v7");
        assert_eq!(platform("", "amd64", ""), "amd64");
    }
}
