//! What the configuration file says, as the engine's settings.

use super::config::{self, Config};
use super::{ImagePullPolicy, Platform, Settings, SignalPath};
use crate::secret::Secret;
use crate::value::Pem;

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let launch = &config.config;
        Self {
            host: config.host.to_string(),
            cacert: text_or_path(&config.cacert),
            cert: text_or_path(&config.cert),
            key: Secret::new(text_or_path(&config.key)),
            container: launch.container.clone(),
            host_config: launch.host.clone(),
            network: launch.network.clone(),
            platform: Platform {
                os: launch.platform.os.clone(),
                architecture: launch.platform.architecture.clone(),
                variant: launch.platform.variant.clone(),
            },
            container_name: launch.container_name.to_string(),
            idle_command: launch.idle_command.args().to_vec(),
            image_pull_policy: match launch.image_pull_policy {
                config::ImagePullPolicy::Always => ImagePullPolicy::Always,
                config::ImagePullPolicy::IfNotPresent => ImagePullPolicy::IfNotPresent,
                config::ImagePullPolicy::Never => ImagePullPolicy::Never,
            },
            timeout: launch.timeout.get(),
            signal_path: SignalPath::default(),
        }
    }
}

fn text_or_path(pem: &Pem) -> String {
    match pem {
        Pem::Unset => String::new(),
        Pem::File(path) => path.display().to_string(),
        Pem::Text(text) => text.expose().clone(),
    }
}
