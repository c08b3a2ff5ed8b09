//! How programs will be started in a container that is on its way: by the engine's exec, or by an init of ours, and how
//! that gets there.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::InspectContainerOptions;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::client::Client;
use super::config::{LaunchConfig, Launcher, Mode};
use super::events::Fate;
use crate::engine::init::{Architecture, Init, Room, Rooms};
use crate::engine::{EngineError, OwnedContainer};
use crate::ids::ContainerId;

/// Where an init lies in its container, with what it needs.
const FOLDER: &str = "/.coracle";

/// Label with the name of the room that a container's init meets us in.
const LABEL_ROOM: &str = "coracle.init";

/// From a container's start until its init has said hello.
const MEET_DEADLINE: Duration = Duration::from_secs(10);

/// How long another way is taken after an init could not be delivered; doubles with each time.
const DOUBT_MIN: Duration = Duration::from_mins(1);
const DOUBT_MAX: Duration = Duration::from_hours(1);

/// Architectures of images are remembered; past this all are forgotten.
const IMAGES_MAX: usize = 256;

/// Reading the engine's books.
const INSPECT_DEADLINE: Duration = Duration::from_secs(10);

pub(super) const DELIVER: &str = "give the container its first process";

/// A way to get programs started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// The engine's exec.
    Exec,
    /// An init that connects to a socket of ours, on the engine's own machine.
    Socket,
}

/// What one container is created with for it.
#[derive(Debug)]
pub(super) enum Way {
    Exec,
    Socket(Room),
}

/// Who starts programs in a container.
#[derive(Clone, Debug)]
pub(super) enum Guide {
    Exec,
    Init(watch::Receiver<Meeting>),
}

/// Where we stand with a container's init.
#[derive(Clone, Debug)]
pub(super) enum Meeting {
    Expected,
    Met(Arc<Init>),
    /// It has none, or none that can be met: the engine starts programs.
    None,
    Missed(String),
}

/// What is known about delivering inits to one engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Launchers {
    rooms: Option<Rooms>,
    books: Arc<Mutex<Books>>,
}

#[derive(Debug, Default)]
struct Books {
    doubt: Option<Doubt>,
    /// What the log was told last.
    told: Option<Means>,
    images: HashMap<String, Architecture>,
}

/// An init could not be delivered.
#[derive(Debug)]
struct Doubt {
    since: Instant,
    span: Duration,
}

impl Launchers {
    /// Inits are met in rooms in `folder`, an absolute path.
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self { rooms: Some(Rooms::new(folder)), ..Self::default() }
    }

    /// What is to be tried, in this order.
    pub(super) fn candidates(&self, config: &LaunchConfig, client: &Client) -> Vec<Means> {
        let socket = (self.rooms.is_some() && client.connector().is_local()).then_some(Means::Socket);
        match config.launcher {
            Launcher::Exec => vec![Means::Exec],
            Launcher::Init => socket.into_iter().collect(),
            Launcher::Auto if self.is_in_doubt() => vec![Means::Exec],
            Launcher::Auto => socket.into_iter().chain([Means::Exec]).collect(),
        }
    }

    /// Makes what a container of `config` is created with.
    pub(super) async fn prepare(
        &self,
        means: Means,
        config: &LaunchConfig,
        client: &Client,
    ) -> Result<Way, EngineError> {
        let undelivered = |reason: String| EngineError::Unsupported { action: DELIVER, reason };
        let (Means::Socket, Some(rooms)) = (means, &self.rooms) else { return Ok(Way::Exec) };
        let architecture = self.architecture(config, client).await?;
        let mut room = rooms.make(architecture).map_err(|error| undelivered(error.to_string()))?;
        if config.mode == Mode::Persistent {
            room.keep().map_err(|error| undelivered(error.to_string()))?;
        }
        Ok(Way::Socket(room))
    }

    /// Which init an image takes.
    async fn architecture(
        &self,
        config: &LaunchConfig,
        client: &Client,
    ) -> Result<Architecture, EngineError> {
        let image = config.image();
        let known = self.with_books(|books| books.images.get(image).copied());
        if let Some(architecture) = known {
            return Ok(architecture);
        }
        let inspected =
            client
                .call("look at the image", INSPECT_DEADLINE, |docker| async move {
                    docker.inspect_image(image).await
                })
                .await?;
        let name = inspected.architecture.unwrap_or_default();
        let architecture = Architecture::from_name(&name).ok_or_else(|| EngineError::Unsupported {
            action: DELIVER,
            reason: format!("there is none for the architecture `{name}` of the image `{image}`"),
        })?;
        self.with_books(|books| {
            if books.images.len() >= IMAGES_MAX {
                books.images.clear();
            }
            books.images.insert(image.to_owned(), architecture);
        });
        Ok(architecture)
    }

    /// Notes how a launch went.
    pub(super) fn succeeded(&self, launcher: Launcher, means: Means) {
        self.with_books(|books| {
            if means != Means::Exec {
                books.doubt = None;
            }
            if books.told != Some(means) && launcher != Launcher::Exec {
                books.told = Some(means);
                let launcher = if means == Means::Exec { "exec" } else { "init" };
                tracing::info!(launcher, "containers' programs are started this way from now on");
            }
        });
    }

    /// Notes that an init could not be delivered; another way is taken for a while.
    pub(super) fn failed(&self, image: &str, error: &EngineError) {
        self.with_books(|books| {
            books.images.remove(image);
            let span = books.doubt.as_ref().map_or(DOUBT_MIN, |doubt| (doubt.span * 2).min(DOUBT_MAX));
            books.doubt = Some(Doubt { since: Instant::now(), span });
            let again_in = humantime::format_duration(span);
            tracing::warn!(%error, %again_in, "programs are started by the engine's exec instead");
        });
    }

    fn is_in_doubt(&self) -> bool {
        self.with_books(|books| books.doubt.as_ref().is_some_and(|doubt| doubt.since.elapsed() < doubt.span))
    }

    /// The room of a container of an earlier run.
    fn find(&self, name: &str) -> Option<Room> {
        let found = self.rooms.as_ref()?.find(name);
        found
            .inspect_err(|error| tracing::warn!(%error, "a container's first process cannot be met again"))
            .ok()
    }

    /// Forgets the rooms of containers that are gone; these are all that there are.
    pub(super) fn retain(&self, containers: &[OwnedContainer]) {
        let Some(rooms) = self.rooms.clone() else { return };
        let names: Vec<String> = containers
            .iter()
            .filter_map(|container| container.label(LABEL_ROOM))
            .map(str::to_owned)
            .collect();
        drop(tokio::task::spawn_blocking(move || rooms.retain(&names)));
    }

    fn with_books<T>(&self, change: impl FnOnce(&mut Books) -> T) -> T {
        change(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Way {
    /// What the configuration has, changed so that the init is the container's first process.
    pub(super) fn fit(
        &self,
        config: &LaunchConfig,
        mut body: ContainerCreateBody,
        mut host: HostConfig,
    ) -> (ContainerCreateBody, HostConfig) {
        let Self::Socket(room) = self else { return (body, host) };
        // Ours reaps what programs leave behind: the engine's is not needed, unless somebody wants it.
        host.init = config.host.init;
        // Not a `Binds`: the engine would make a folder of its own where it does not see ours.
        host.mounts.get_or_insert_default().push(Mount {
            target: Some(FOLDER.to_owned()),
            source: Some(room.folder().display().to_string()),
            typ: Some(MountType::BIND),
            read_only: Some(true),
            ..Mount::default()
        });
        body.labels.get_or_insert_default().insert(LABEL_ROOM.to_owned(), room.name().to_owned());
        let command = ["init", "socket"].map(|name| format!("{FOLDER}/{name}"));
        let [init, socket] = command;
        body.entrypoint = Some(vec![init, "--socket".to_owned(), socket]);
        (body, host)
    }

    /// Meets the init of a container that has just been started.
    pub(super) async fn meet(
        self,
        config: &LaunchConfig,
        client: &Client,
        mut fate: watch::Receiver<Fate>,
    ) -> Result<Guide, EngineError> {
        let Self::Socket(room) = self else { return Ok(Guide::Exec) };
        let orphan_timeout = orphan_timeout(config);
        let undelivered = |reason: String| EngineError::Unsupported { action: DELIVER, reason };
        let ended = async move {
            let fate = fate.wait_for(|fate| fate.ended.is_some()).await;
            fate.ok().and_then(|fate| fate.ended.clone()).unwrap_or_default()
        };
        let met = tokio::select! {
            met = timeout(MEET_DEADLINE, Init::meet(room, orphan_timeout, client.tasks())) => met,
            reason = ended => return Err(undelivered(reason)),
        };
        match met {
            Ok(Ok(init)) => Ok(Guide::Init(watch::Sender::new(Meeting::Met(Arc::new(init))).subscribe())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(undelivered("it does not say anything".to_owned())),
        }
    }
}

/// Persistent containers outlive their servers on purpose.
pub(super) fn orphan_timeout(config: &LaunchConfig) -> Option<Duration> {
    if config.mode == Mode::Persistent { None } else { config.init.orphan_timeout.unless_zero() }
}

/// Whether a launch failed for want of the init, or of a way to give it to the container.
pub(super) fn is_undelivered(error: &EngineError) -> bool {
    match error {
        EngineError::Unsupported { action, .. } => *action == DELIVER,
        EngineError::Refused { reason, .. } | EngineError::Failed { reason, .. } => {
            reason.contains(FOLDER) || reason.contains("bind source path does not exist")
        }
        _ => false,
    }
}

impl Guide {
    /// Begins to follow a container of an earlier run: by its init, if it has one of ours.
    pub(super) fn follow(launchers: &Launchers, client: &Arc<Client>, id: &ContainerId) -> Self {
        if launchers.rooms.is_none() {
            return Self::Exec;
        }
        let (sender, meeting) = watch::channel(Meeting::Expected);
        let (launchers, tasks) = (launchers.clone(), client.tasks().clone());
        let (client, id) = (Arc::clone(client), id.clone());
        tasks.spawn(async move {
            sender.send_replace(meet_again(&launchers, &client, &id).await);
        });
        Self::Init(meeting)
    }

    /// The init, once it is met; `None` where the engine starts programs.
    pub(super) async fn init(&self) -> Result<Option<Arc<Init>>, EngineError> {
        let Self::Init(meeting) = self else { return Ok(None) };
        let mut meeting = meeting.clone();
        let gone = |reason: String| EngineError::Gone { reason };
        let met = meeting.wait_for(|meeting| !matches!(meeting, Meeting::Expected)).await;
        match met.as_deref() {
            Ok(Meeting::Met(init)) => Ok(Some(Arc::clone(init))),
            Ok(Meeting::None) => Ok(None),
            Ok(Meeting::Missed(reason)) => Err(gone(reason.clone())),
            Ok(Meeting::Expected) | Err(_) => Err(gone("nobody waits for its first process".to_owned())),
        }
    }

    /// Waits until there is no init to start programs any more, and tells why. Cancel safe.
    pub(super) async fn over(&self) -> String {
        match self.init().await {
            Ok(Some(init)) => init.over().await,
            Ok(None) => std::future::pending().await,
            Err(error) => error.to_string(),
        }
    }

    /// The container is removed: nobody comes back to its room.
    pub(super) fn forget(&self) {
        if let Self::Init(meeting) = self
            && let Meeting::Met(init) = &*meeting.borrow()
        {
            init.forget_room();
        }
    }
}

async fn meet_again(launchers: &Launchers, client: &Client, id: &ContainerId) -> Meeting {
    let inspected = client
        .call("look at the container", INSPECT_DEADLINE, |docker| async move {
            docker.inspect_container(id.as_str(), None::<InspectContainerOptions>).await
        })
        .await;
    let labels = match inspected {
        Ok(container) => container.config.and_then(|config| config.labels).unwrap_or_default(),
        Err(error) => return Meeting::Missed(error.to_string()),
    };
    let room = labels.get(LABEL_ROOM).and_then(|name| launchers.find(name));
    let Some(room) = room else { return Meeting::None };
    // It has been without a server for longer than it may be, or it is persistent and has no such limit.
    match timeout(MEET_DEADLINE, Init::meet(room, None, client.tasks())).await {
        Ok(Ok(init)) => Meeting::Met(Arc::new(init)),
        Ok(Err(error)) => Meeting::Missed(error.to_string()),
        Err(_) => Meeting::Missed("its first process does not come back".to_owned()),
    }
}
