//! The composition root: the only module that knows everyone.

mod activation;
mod editions;
mod notify;
mod observed;
mod profiles;
mod reload;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use activation::listener_from_environment;
use editions::Editions;
use notify::Supervisor;
use observed::{Condition, Observed, count_others};
use profiles::{ProfileBook, kept, mode};
use reload::reload;

use crate::audit::{self, Audit};
use crate::auth::{Door, PasswordChecker, TotpBook};
use crate::config::{Config, Source};
use crate::control::{Bound, Control, Register};
use crate::engine::docker::Docker;
use crate::engine::{Engine, Starts};
use crate::events::{Events, Witness};
use crate::ids::InstanceId;
use crate::metrics::Metrics;
use crate::pool::{self, Pool, Reaper, Stock, Tenure};
use crate::recording::{Archive, Recorder};
use crate::session::{Budgets, Registry};
use crate::shutdown::{Drain, Drained};
use crate::ssh::{self, Listener, Services};
use crate::state::StateDir;
use crate::telemetry;
use crate::traces::Traces;

/// From the cut of the last sessions until the last container is gone.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// From the end of the last session until its recording is on disk. Past it the next start completes what is there.
const RECORDER_TIMEOUT: Duration = Duration::from_secs(10);

/// In the state folder: where containers' first processes meet us.
const INIT_FOLDER: &str = "init";

/// Where a server can be reached, and by what clients know it.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The address it got.
    pub address: SocketAddr,
    /// `SHA256:…`, one per host key.
    pub fingerprints: Vec<String>,
}

impl Listening {
    /// Says so in the log, too.
    fn of(listener: &Listener, fingerprints: Vec<String>) -> anyhow::Result<Self> {
        let address = listener.address().context("failed to learn our own address")?;
        tracing::info!(%address, fingerprints = fingerprints.join(" "), "listening");
        Ok(Self { address, fingerprints })
    }
}

/// A server that is ready to accept.
struct App {
    listener: Listener,
    listening: Listening,
    services: watch::Sender<Arc<Services>>,
    shared: Shared,
    config: Config,
    drain: Drain,
    reaper: ReaperTask,
    observed: Observed,
    audit: Audit,
    control: Control,
    /// Held for as long as we run: two servers on one state folder would reap each other's containers.
    _state: StateDir,
}

struct ReaperTask {
    stop: CancellationToken,
    task: Drain,
}

/// Serves until told to stop by SIGTERM or SIGINT, and then until all containers are gone. SIGHUP reads `file` again.
/// `handed_over` is listened on instead of `ssh.listen`; `greet` is called once clients can connect.
///
/// # Errors
/// What kept the server from starting, or from ending cleanly.
pub async fn serve(
    config: Config,
    source: Source,
    file: Option<PathBuf>,
    handed_over: Option<TcpListener>,
    greet: impl FnOnce(&Listening),
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("failed to listen for SIGHUP")?;
    let grace = config.shutdown.grace.get();
    let app = App::build(config, source, handed_over).await?;
    let App {
        listener,
        listening,
        services,
        shared,
        config,
        drain,
        reaper,
        observed,
        audit,
        control,
        _state,
    } = app;
    let mut supervisor = Supervisor::of_this_process();
    let accepting = drain.tasks.spawn(listener.run(services.subscribe()));
    shared.condition.accepts_by(accepting.abort_handle());
    Supervisor::ready(listening.address);
    greet(&listening);
    let received = loop {
        tokio::select! {
            received = first_of(&mut terminate, &mut interrupt) => break received,
            () = control.drain_wanted() => break "coracle drain",
            _ = hang_up.recv() => {
                Supervisor::reloading();
                audit.reopen();
                telemetry::reopen();
                let reloaded = reload(&config, file.as_deref(), &shared, &services);
                supervisor.beat_during(reloaded).await;
                Supervisor::ready(listening.address);
            }
            () = supervisor.beat(), if !accepting.is_finished() => {}
        }
    };
    tracing::info!(signal = received, grace = %humantime::format_duration(grace), "shutting down");
    Supervisor::stopping();
    let hurry = async {
        let received = first_of(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = received, "cutting what still lives");
    };
    shared.metrics.server.drains();
    let ending = async {
        let drained = drain.finish(grace, hurry, DRAIN_TIMEOUT).await;
        if !shared.recorder.finish(RECORDER_TIMEOUT).await {
            tracing::warn!("some recordings are not complete; the next start completes them");
        }
        reaper.stop.cancel();
        let reaped = reaper.task.finish(DRAIN_TIMEOUT, std::future::pending(), Duration::ZERO).await;
        audit.finish().await;
        observed.end().await;
        if let Some(traces) = &shared.traces {
            traces.end().await;
        }
        drained == Drained::Clean && reaped == Drained::Clean
    };
    let clean = supervisor.end_during(ending).await;
    control.close(clean).await;
    if !clean {
        // No failure of the process: an end that was asked for must not make a service manager start it again.
        tracing::error!("some containers may be left; the next start removes them");
    }
    tracing::info!("ended");
    Ok(())
}

/// From the beginning of a drain until the process ends.
fn drain_at_most(grace: Duration) -> Duration {
    grace + 2 * DRAIN_TIMEOUT + RECORDER_TIMEOUT + audit::FINISH_TIMEOUT + observed::CLOSING_TIMEOUT
}

async fn first_of(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// What all services have in common, however often the configuration is read.
struct Shared {
    docker: Arc<Docker>,
    pool: Pool,
    editions: Arc<Editions>,
    passwords: PasswordChecker,
    totp: TotpBook,
    budgets: Budgets,
    instance: InstanceId,
    events: Events,
    metrics: Arc<Metrics>,
    traces: Option<Arc<Traces>>,
    condition: Arc<Condition>,
    recorder: Arc<Recorder>,
    registry: Registry,
    drain: Drain,
    drain_grace: Duration,
    listen: SocketAddr,
}

impl Shared {
    /// From now on these containers wait for people, and no others.
    fn stock(&self, stocks: Vec<Stock>) {
        let editions: Vec<_> = stocks.iter().filter_map(|stock| stock.pool.edition()).collect();
        self.editions.keep(&editions);
        self.pool.stock(stocks);
    }
}

/// The services, and the containers that are to wait for those who use them.
fn services(
    config: &Config,
    source: Source,
    shared: &Shared,
    host_keys: Vec<ssh::HostKey>,
    archive: Option<Archive>,
) -> anyhow::Result<(Services, Vec<Stock>)> {
    let door =
        Door::new(&config.auth, &shared.passwords, shared.totp.clone()).context("failed to set `auth` up")?;
    let profiles = ProfileBook::new(config, source, &shared.docker, &shared.pool, &shared.editions);
    let profiles = profiles.context("failed to set `configserver` up")?;
    let stocks = profiles.stocks();
    let services = Services {
        door: Arc::new(door),
        profiles: Arc::new(profiles),
        budgets: shared.budgets.clone(),
        instance: shared.instance.clone(),
        events: shared.events.clone(),
        registry: shared.registry.clone(),
        drain: shared.drain.clone(),
        archive,
        banner: ssh::banner(&config.ssh),
        drain_grace: shared.drain_grace,
        connection_limits: ssh::ConnectionLimits::new(&config.ssh, &config.limits),
        transport: ssh::Transport::new(&config.ssh, host_keys),
    };
    Ok((services, stocks))
}

impl App {
    async fn build(config: Config, source: Source, handed_over: Option<TcpListener>) -> anyhow::Result<Self> {
        let listen = match &handed_over {
            Some(socket) => socket.local_addr().context("failed to learn our own address")?,
            None => config.ssh.listen.address(),
        };
        let state = StateDir::open(&config.state_dir)
            .with_context(|| format!("failed to use the state folder `{}`", config.state_dir.display()))?;
        let socket = Bound::of(&config.control, &config.state_dir).await?;
        let host_keys = host_keys(&config, listen, &config.state_dir)?;
        let fingerprints: Vec<String> = host_keys.iter().map(ssh::hostkey::fingerprint).collect();
        let audit = Audit::start(&config.audit, state.instance(), &config.state_dir)
            .context("failed to set `audit` up")?;
        let metrics = Arc::new(Metrics::default());
        let docker = docker(&config, &metrics)?;
        let engine = Arc::clone(&docker) as Arc<dyn Engine>;
        let drain = Drain::default();
        let reaper = start_reaper(&engine, &state, &metrics).await;
        let (limits, tenure) = (pool_limits(&config), tenure(&config, &state));
        let pool =
            Pool::new(Arc::clone(&engine), reaper.0, &drain, limits, tenure).with_starts(starts(&config));
        let traces = Traces::start(&config.traces, state.instance());
        let traces = traces.map_err(anyhow::Error::msg).context("failed to set `traces` up")?;
        let register = Arc::<Register>::default();
        let events = events(&audit, &metrics, &register, traces.as_ref());
        let pool = pool.counted_by(&metrics.containers).telling(events.clone());
        pool.adopt().await;
        let shared = Shared {
            docker,
            pool,
            editions: Arc::default(),
            passwords: PasswordChecker::new([]),
            totp: TotpBook::new(&config.state_dir),
            budgets: budgets(&config, &config.state_dir)?,
            instance: state.instance().clone(),
            events,
            traces,
            condition: Condition::new(&drain),
            metrics,
            recorder: Recorder::new(state.instance().clone()),
            registry: Registry::default(),
            drain: drain.clone(),
            drain_grace: config.shutdown.grace.get(),
            listen,
        };
        let control = control(&config, register, &shared, socket);
        let archive = shared.recorder.open(&config.recording)?;
        let (services, stocks) = services(&config, source, &shared, host_keys, archive)?;
        shared.condition.configure(&shared.docker, &config);
        shared.recorder.keep(services.archive.as_ref());
        count_others(&shared.metrics, shared.recorder.totals(), audit.counters());
        let services = watch::Sender::new(Arc::new(services));
        let listener = handed_over.map_or_else(|| Listener::bind(listen), Listener::adopt);
        let listener = listener.with_context(|| format!("failed to listen on `{listen}`"))?;
        let observed = Observed::start(&config.metrics, &shared.metrics, &shared.condition).await?;
        let listening = Listening::of(&listener, fingerprints)?;
        shared.stock(stocks);
        Ok(Self {
            listener,
            listening,
            services,
            shared,
            config,
            drain,
            reaper: reaper.1,
            observed,
            audit,
            control,
            _state: state,
        })
    }
}

/// Who is told of what happens to connections.
fn events(
    audit: &Audit,
    metrics: &Arc<Metrics>,
    register: &Arc<Register>,
    traces: Option<&Arc<Traces>>,
) -> Events {
    let journal = Arc::<telemetry::Journal>::default();
    let mut all: Vec<Arc<dyn Witness>> = vec![journal, Arc::clone(metrics) as _, Arc::clone(register) as _];
    all.extend(audit.witness());
    all.extend(traces.map(|traces| Arc::clone(traces) as _));
    Events::new(all)
}

/// The host keys of this configuration, judged by where clients do reach them, whatever it says itself.
fn host_keys(config: &Config, listen: SocketAddr, state_dir: &Path) -> anyhow::Result<Vec<ssh::HostKey>> {
    let listening = ssh::Config { listen: listen.into(), ..config.ssh.clone() };
    Ok(ssh::hostkey::load(&listening, state_dir)?)
}

/// What `coracle ps`, `kill` and `drain` speak to, where there is a socket for it.
fn control(config: &Config, register: Arc<Register>, shared: &Shared, socket: Option<Bound>) -> Control {
    let at_most = drain_at_most(config.shutdown.grace.get());
    let (registry, drain, instance) =
        (shared.registry.clone(), shared.drain.clone(), shared.instance.clone());
    let control = Control::new(register, registry, drain, instance, at_most);
    if let Some(socket) = socket {
        control.serve(socket);
    }
    control
}

fn docker(config: &Config, metrics: &Metrics) -> anyhow::Result<Arc<Docker>> {
    let docker = Docker::new(&config.docker).context("failed to set the engine up")?;
    let docker = docker.with_init_folder(absolute(&config.state_dir)?.join(INIT_FOLDER));
    Ok(Arc::new(docker.counted_by(metrics.engine.clone())))
}

/// As the engine on this machine has it.
fn absolute(folder: &Path) -> anyhow::Result<PathBuf> {
    folder.canonicalize().with_context(|| format!("failed to find the state folder `{}`", folder.display()))
}

/// Removes what an earlier run left, and starts the task that removes what this one cannot.
async fn start_reaper(engine: &Arc<dyn Engine>, state: &StateDir, metrics: &Metrics) -> (Reaper, ReaperTask) {
    let reaper = Reaper::counted_by(metrics.reaper.clone());
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
        containers_of_profile: config.pool.max,
        containers_per_user: config.limits.max_containers_per_user,
    }
}

fn starts(config: &Config) -> Starts {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Starts::new(config.pool.start_parallel.on(cores))
}

fn tenure(config: &Config, state: &StateDir) -> Tenure {
    Tenure {
        mode: mode(&config.docker.config),
        idle_timeout: kept(&config.docker.config),
        instance: state.instance().clone(),
    }
}

fn budgets(config: &Config, state_dir: &Path) -> anyhow::Result<Budgets> {
    let limits = config.limits.stdin.clone();
    let directory = limits.directory.clone().unwrap_or_else(|| state_dir.join("spill"));
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("failed to make the folder `{}`", directory.display()))?;
    Ok(Budgets::new(limits, directory))
}
