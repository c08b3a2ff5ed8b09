//! Whether there is an engine, and whether it has the image: asked before anybody waits for either.

use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;

use crate::config::Config;
use crate::engine::EngineError;
use crate::engine::docker::Docker;

/// An engine that works answers in milliseconds; somebody sits there and waits.
const DEADLINE: Duration = Duration::from_secs(10);

/// What an engine said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Image {
    Present,
    Absent,
}

/// Asks the engine of this configuration.
///
/// # Errors
/// It does not answer: what that means, and what to do.
pub(super) async fn look(config: &Config) -> anyhow::Result<Image> {
    let docker = Docker::new(&config.docker).context("failed to set the engine up")?;
    let endpoint = &config.docker.host;
    match timeout(DEADLINE, docker.examine()).await {
        Ok(Ok(found)) => Ok(if found.has_image { Image::Present } else { Image::Absent }),
        Ok(Err(error)) => {
            let remedy = remedy(&error);
            Err(anyhow::Error::new(error).context(format!("no container engine at `{endpoint}`; {remedy}")))
        }
        Err(_) => anyhow::bail!(
            "the container engine at `{endpoint}` did not answer within {}",
            humantime::format_duration(DEADLINE)
        ),
    }
}

fn remedy(error: &EngineError) -> &'static str {
    match error {
        EngineError::Unreachable { reason, .. } if reason.to_lowercase().contains("permission denied") => {
            "you may not use it: join the group of its socket (mostly `docker`) and log in again, or run this as root"
        }
        _ => "start one (such as `systemctl start docker`), or say by --engine where there is one",
    }
}
