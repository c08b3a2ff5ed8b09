//! `coracle serve`: by a configuration, or by an image and a file of keys.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::init::ssh_line;
use super::keys::{Keys, Trust};
use super::probe::{self, Image};
use super::starter::{self, PullPolicy, Starter};
use super::{Failure, print, runtime};
use crate::app::Listening;
use crate::config::{self, Config, Source};
use crate::engine::docker::Endpoint;
use crate::{app, telemetry};

/// Below `$XDG_STATE_HOME`: the state of a server without a configuration.
const STATE: &str = "coracle";

#[derive(Args, Debug)]
#[command(
    after_help = "SIGHUP reads the configuration again, for connections that come from now on. SIGTERM and SIGINT \
                        let sessions end for a while; a second one cuts them."
)]
pub(super) struct Serve {
    /// Configuration [default: ./config.yaml, else /etc/coracle/config.yaml, else built in]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on instead of the configured ones; port 0 lets the system choose
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Answer /metrics, /livez and /readyz there instead of at the configured address
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
    /// Serve without any configuration: what users' containers are made of
    #[arg(long, requires = "keys", conflicts_with = "config", value_parser = NonEmptyStringValueParser::new())]
    image: Option<String>,
    /// With --image: public keys that may log in, as in `authorized_keys`, under any user name
    #[arg(long, value_name = "FILE", requires = "image")]
    keys: Option<PathBuf>,
    /// With --image: where the container engine answers [default: `unix:///var/run/docker.sock`]
    #[arg(long, value_name = "URL", requires = "image")]
    engine: Option<Endpoint>,
    /// With --image: folder for the host key and what else outlives the process [default: ~/.local/state/coracle]
    #[arg(long, value_name = "DIR", requires = "image")]
    state_dir: Option<PathBuf>,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let handed_over = app::listener_from_environment()?;
        match (self.image.clone(), self.keys.clone()) {
            (Some(image), Some(keys)) => self.without_configuration(&image, &keys, handed_over),
            _ => self.by_configuration(handed_over),
        }
    }

    fn by_configuration(self, handed_over: Option<TcpListener>) -> Result<(), Failure> {
        let file = self.config.or_else(config::usual_file);
        let (mut config, source) = match &file {
            Some(file) => config::load_with_source(file)?,
            None => (Config::default(), Source::default()),
        };
        if let Some(listen) = self.listen {
            config.ssh.listen = listen.into();
        }
        config.metrics.listen = self.metrics_listen.or(config.metrics.listen);
        let _log = telemetry::init(&config.log).context("failed to start logging")?;
        if let Some(file) = &file {
            tracing::info!(file = %file.display(), "configuration read");
        } else {
            tracing::info!("no configuration file: the built-in defaults apply");
        }
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        let runtime = runtime()?;
        let served = runtime.block_on(app::serve(config, source, file, handed_over, |_| ()));
        // A disk that hangs holds the thread that writes to it; what could be waited for has been.
        runtime.shutdown_background();
        Ok(served?)
    }

    /// Whoever starts it so sits in front of it: what would fail at the first login is told at once, and what to type
    /// as soon as it would work.
    fn without_configuration(
        &self,
        image: &str,
        keys: &Path,
        handed_over: Option<TcpListener>,
    ) -> Result<(), Failure> {
        let absolute = |path: &Path| {
            let path = std::path::absolute(path);
            path.with_context(|| format!("failed to find `{}` from here", keys.display()))
        };
        let found = Keys::of_file(keys, Trust::Options)?;
        let mut starter = Starter {
            listen: self.listen.unwrap_or_else(starter::usual_address),
            image: image.to_owned(),
            pull_policy: PullPolicy::IfNotPresent,
            engine: self.engine.clone().unwrap_or_default(),
            keys: starter::literal(&absolute(keys)?),
            host_key: None,
            state_dir: absolute(&self.state_dir.clone().unwrap_or_else(usual_state_dir))?,
        };
        let place = Path::new("--image and --keys");
        let runtime = runtime()?;
        let engine = runtime.block_on(probe::look(&starter.read(place)?.0))?;
        if engine == Image::Present {
            starter.pull_policy = PullPolicy::Never;
        }
        let (mut config, source) = starter.read(place)?;
        config.metrics.listen = self.metrics_listen;
        let _log = telemetry::init(&config.log).context("failed to start logging")?;
        for warning in found.warnings() {
            tracing::warn!("{warning}");
        }
        // A server whose words nobody can read serves all the same.
        let greet = |listening: &Listening| drop(print(&greeting(&starter, engine, listening)));
        Ok(runtime.block_on(app::serve(config, source, None, handed_over, greet))?)
    }
}

/// Where people keep what their programs remember; the system's place for who has no home.
pub(super) fn usual_state_dir() -> PathBuf {
    let named = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let own = || Some(std::env::home_dir().filter(|home| home.is_absolute())?.join(".local/state"));
    named.or_else(own).map_or_else(|| Config::default().state_dir, |folder| folder.join(STATE))
}

fn greeting(starter: &Starter, engine: Image, listening: &Listening) -> String {
    let Starter { image, keys, state_dir, .. } = starter;
    let pulled = if engine == Image::Absent { ", which the first login pulls," } else { "" };
    let keys = keys.replace("%%", "%");
    format!(
        "\nEvery connection gets a container of `{image}`{pulled} by a key in\n`{keys}`, under any name:\n\n  \
         {line}\n\nThe first time, ssh asks about the host key. It is\n\n  {fingerprints}\n\n\
         and lies in `{state}`. Ctrl-C ends the server. For more than this: coracle init\n\n",
        line = ssh_line(listening.address),
        fingerprints = listening.fingerprints.join("\n  "),
        state = state_dir.display(),
    )
}
