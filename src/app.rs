//! The composition root: the only module that knows everyone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::auth::AuthorizedKeys;
use crate::config::{self, Config};
use crate::engine::Engine;
use crate::engine::docker::{self, Docker};
use crate::ids::InstanceId;
use crate::policy::{EnvRules, Rules};
use crate::pool::{self, Pool, Reaper, Tenure};
use crate::session::Budgets;
use crate::shutdown::{Drain, Drained};
use crate::ssh::{self, Listener, Services};
use crate::state::StateDir;

/// From the cut of the last sessions until the last container is gone.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that is ready to accept.
struct App {
    listener: Listener,
    services: watch::Sender<Arc<Services>>,
    docker: Docker,
    config: Config,
    drain: Drain,
    reaper: ReaperTask,
    /// Held for as long as we run: two servers on one state folder would reap each other's containers.
    _state: StateDir,
}

struct ReaperTask {
    stop: CancellationToken,
    task: Drain,
}

/// Serves until told to stop by SIGTERM or SIGINT, and then until all containers are gone. SIGHUP reads `file` again.
///
/// # Errors
/// What kept the server from starting, or from ending cleanly.
pub async fn serve(config: Config, file: Option<PathBuf>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("failed to listen for SIGHUP")?;
    let grace = config.shutdown.grace.get();
    let app = App::build(config).await?;
    let App { listener, services, docker, config, drain, reaper, _state } = app;
    drain.tasks.spawn(listener.run(services.subscribe()));
    let received = loop {
        tokio::select! {
            received = first_of(&mut terminate, &mut interrupt) => break received,
            _ = hang_up.recv() => reload(&config, file.as_deref(), &docker, &services),
        }
    };
    tracing::info!(signal = received, grace = %humantime::format_duration(grace), "shutting down");
    let hurry = async {
        let received = first_of(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = received, "cutting what still lives");
    };
    let drained = drain.finish(grace, hurry, DRAIN_TIMEOUT).await;
    reaper.stop.cancel();
    let reaped = reaper.task.finish(DRAIN_TIMEOUT, std::future::pending(), Duration::ZERO).await;
    let clean = drained == Drained::Clean && reaped == Drained::Clean;
    anyhow::ensure!(clean, "some containers may be left; the next start removes them");
    tracing::info!("ended");
    Ok(())
}

async fn first_of(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Takes from the file what can change while we run, for connections that come from now on. With a file that is not
/// right nothing changes.
fn reload(running: &Config, file: Option<&Path>, docker: &Docker, services: &watch::Sender<Arc<Services>>) {
    let Some(file) = file else {
        return tracing::warn!("SIGHUP: there is no configuration file to read again");
    };
    let old = Arc::clone(&services.borrow());
    match try_reload(running, file, docker, &old) {
        Ok(fresh) => {
            services.send_replace(Arc::new(fresh));
            tracing::info!(file = %file.display(), "configuration read again, for new connections");
        }
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(error, "the configuration is not right; the one before stays");
        }
    }
}

fn try_reload(running: &Config, file: &Path, docker: &Docker, old: &Services) -> anyhow::Result<Services> {
    let config = config::load(file)?;
    let host_keys = ssh::hostkey::load(&config.ssh, &running.state_dir)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let fixed = [
        ("ssh.listen", config.ssh.listen != running.ssh.listen),
        ("docker.host", config.docker.host != running.docker.host),
        ("docker.config.mode", config.docker.config.mode != running.docker.config.mode),
        ("limits.stdin", config.limits.stdin != running.limits.stdin),
        ("shutdown", config.shutdown != running.shutdown),
        ("stateDir", config.state_dir != running.state_dir),
        ("log", config.log != running.log),
    ];
    for (key, _) in fixed.iter().filter(|(_, differs)| *differs) {
        tracing::warn!(key, "this changes with a restart only");
    }
    let engine = Arc::new(docker.reloaded(&config.docker));
    let pool = old.pool.variant(
        engine,
        pool_limits(&config),
        mode(&config),
        config.docker.config.persistent.idle_timeout.unless_zero(),
    );
    let shared = Shared {
        pool,
        budgets: old.budgets.clone(),
        instance: old.instance.clone(),
        drain: old.drain.clone(),
        drain_grace: old.drain_grace,
    };
    Ok(services(&config, shared, host_keys))
}

/// What all services have in common, however often the configuration is read.
struct Shared {
    pool: Pool,
    budgets: Budgets,
    instance: InstanceId,
    drain: Drain,
    drain_grace: Duration,
}

fn services(config: &Config, shared: Shared, host_keys: Vec<ssh::HostKey>) -> Services {
    let Shared { pool, budgets, instance, drain, drain_grace } = shared;
    Services {
        authenticator: Arc::new(AuthorizedKeys::new(config.auth.authorized_keys_file.clone())),
        rules: rules(config),
        pool,
        budgets,
        instance,
        drain,
        banner: ssh::banner(&config.ssh),
        sessions_per_connection: usize::from(config.limits.sessions_per_connection),
        max_lifetime: config.limits.max_lifetime.unless_zero(),
        idle_timeout: config.limits.idle_timeout.unless_zero(),
        drain_grace,
        transport: ssh::Transport::new(&config.ssh, host_keys),
    }
}

impl App {
    async fn build(config: Config) -> anyhow::Result<Self> {
        let state = StateDir::open(&config.state_dir)
            .with_context(|| format!("failed to use the state folder `{}`", config.state_dir.display()))?;
        let host_keys = ssh::hostkey::load(&config.ssh, &config.state_dir)?;
        let fingerprints: Vec<String> = host_keys.iter().map(ssh::hostkey::fingerprint).collect();
        let docker = Docker::new(&config.docker).context("failed to set the engine up")?;
        let engine: Arc<dyn Engine> = Arc::new(docker.reloaded(&config.docker));
        let drain = Drain::default();
        let reaper = start_reaper(&engine, &state).await;
        let (limits, tenure) = (pool_limits(&config), tenure(&config, &state));
        let pool = Pool::new(Arc::clone(&engine), reaper.0, &drain, limits, tenure);
        pool.adopt().await;
        let shared = Shared {
            pool,
            budgets: budgets(&config, &config.state_dir)?,
            instance: state.instance().clone(),
            drain: drain.clone(),
            drain_grace: config.shutdown.grace.get(),
        };
        let services = watch::Sender::new(Arc::new(services(&config, shared, host_keys)));
        let address = config.ssh.listen.address();
        let listener =
            Listener::bind(address).await.with_context(|| format!("failed to listen on `{address}`"))?;
        let address = listener.address().context("failed to learn our own address")?;
        tracing::info!(%address, fingerprints = fingerprints.join(" "), "listening");
        Ok(Self { listener, services, docker, config, drain, reaper: reaper.1, _state: state })
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

fn pool_limits(config: &Config) -> pool::Limits {
    pool::Limits {
        launch_timeout: config.docker.config.timeout.get(),
        containers: config.limits.max_containers,
        containers_per_user: config.limits.max_containers_per_user,
    }
}

fn mode(config: &Config) -> pool::Mode {
    match config.docker.config.mode {
        docker::Mode::Connection => pool::Mode::Connection,
        docker::Mode::Session => pool::Mode::Session,
        docker::Mode::Persistent => pool::Mode::Persistent,
    }
}

fn tenure(config: &Config, state: &StateDir) -> Tenure {
    Tenure {
        mode: mode(config),
        idle_timeout: config.docker.config.persistent.idle_timeout.unless_zero(),
        instance: state.instance().clone(),
    }
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
