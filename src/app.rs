//! The composition root: the only module that knows everyone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::auth::AuthorizedKeys;
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::docker::Docker;
use crate::policy::{EnvRules, Rules};
use crate::pool::{Pool, Reaper};
use crate::session::Budgets;
use crate::shutdown::Drain;
use crate::ssh::{self, Listener, Services};
use crate::state::StateDir;

/// From the order to end until the last container is gone.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that is ready to accept.
struct App {
    listener: Listener,
    services: Arc<Services>,
    drain: Drain,
    reaper: ReaperTask,
    /// Held for as long as we run: two servers on one state folder would reap each other's containers.
    _state: StateDir,
}

struct ReaperTask {
    stop: CancellationToken,
    task: Drain,
}

/// Serves until told to stop by SIGTERM or SIGINT, and then until all containers are gone.
///
/// # Errors
/// What kept the server from starting, or from ending cleanly.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let app = App::build(&config).await?;
    let accepting = app.drain.tasks.spawn(app.listener.run(Arc::clone(&app.services)));
    let received = first_of(&mut terminate, &mut interrupt).await;
    tracing::info!(signal = received, "shutting down");
    let ended = app.drain.finish(DRAIN_TIMEOUT).await;
    drop(accepting);
    app.reaper.stop.cancel();
    let reaped = app.reaper.task.finish(DRAIN_TIMEOUT).await;
    anyhow::ensure!(ended && reaped, "some containers may be left; the next start removes them");
    tracing::info!("ended");
    Ok(())
}

async fn first_of(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

impl App {
    async fn build(config: &Config) -> anyhow::Result<Self> {
        let state = StateDir::open(&config.state_dir)
            .with_context(|| format!("failed to use the state folder `{}`", config.state_dir.display()))?;
        let host_keys = ssh::hostkey::load(&config.ssh, &config.state_dir)?;
        let fingerprints: Vec<String> = host_keys.iter().map(ssh::hostkey::fingerprint).collect();
        let engine: Arc<dyn Engine> =
            Arc::new(Docker::new(&config.docker).context("failed to set the engine up")?);
        let drain = Drain::default();
        let reaper = start_reaper(&engine, &state).await;
        let pool =
            Pool::new(Arc::clone(&engine), reaper.0, drain.tasks.clone(), config.docker.config.timeout.get());
        let services = Arc::new(Services {
            authenticator: Arc::new(AuthorizedKeys::new(config.auth.authorized_keys_file.clone())),
            rules: rules(config),
            pool,
            budgets: budgets(config, &config.state_dir)?,
            instance: state.instance().clone(),
            drain: drain.clone(),
            banner: ssh::banner(&config.ssh),
            sessions_per_connection: usize::from(config.limits.sessions_per_connection),
            transport: ssh::Transport::new(&config.ssh, host_keys),
        });
        let address = config.ssh.listen.address();
        let listener =
            Listener::bind(address).await.with_context(|| format!("failed to listen on `{address}`"))?;
        let address = listener.address().context("failed to learn our own address")?;
        tracing::info!(%address, fingerprints = fingerprints.join(" "), "listening");
        Ok(Self { listener, services, drain, reaper: reaper.1, _state: state })
    }
}

/// Removes what an earlier run left, and starts the task that removes what this one cannot.
async fn start_reaper(engine: &Arc<dyn Engine>, state: &StateDir) -> (Reaper, ReaperTask) {
    let reaper = Reaper::default();
    reaper.start(engine.as_ref(), state.instance()).await;
    let stop = CancellationToken::new();
    let task = Drain::default();
    task.tasks.spawn(reaper.clone().run(Arc::clone(engine), state.instance().clone(), stop.clone()));
    (reaper, ReaperTask { stop, task })
}

fn rules(config: &Config) -> Rules {
    let docker = &config.docker.config;
    let subsystems = docker.subsystems.iter();
    Rules {
        disable_shell: docker.disable_shell,
        disable_command: docker.disable_command,
        disable_subsystem: docker.disable_subsystem,
        shell_command: docker.shell_command.clone(),
        subsystems: subsystems.map(|(name, program)| (name.clone(), program.args().to_vec())).collect(),
        env: EnvRules::new(&config.env),
    }
}

fn budgets(config: &Config, state_dir: &Path) -> anyhow::Result<Budgets> {
    let limits = config.limits.stdin.clone();
    let directory = limits.directory.clone().unwrap_or_else(|| state_dir.join("spill"));
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("failed to make the folder `{}`", directory.display()))?;
    Ok(Budgets::new(limits, directory))
}
