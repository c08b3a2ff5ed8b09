//! How programs will be started in a container that is on its way: by the engine's exec, or by an init of ours, and how
//! that gets there.

mod guide;
mod volume;
mod way;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub(super) use guide::Guide;
pub(super) use way::{Spare, Way, frames};

use self::volume::Volumes;
use self::way::Attachment;
use super::Docker;
use super::client::Client;
use super::config::{LaunchConfig, Launcher, Mode};
use super::error::image_is_missing;
use crate::engine::init::{Architecture, Room, Rooms};
use crate::engine::{EngineError, OwnedContainer};

/// Where an init lies in its container, with what it needs.
pub(super) const FOLDER: &str = "/.coracle";

/// Label with the name of the room that a container's init meets us in.
const LABEL_ROOM: &str = "coracle.init";

/// Label of a container that the engine starts programs in, with [`FORWARDS`] where an init lies ready for sockets, or with
/// the reason why there is none.
pub(super) const LABEL_FORWARD: &str = "coracle.forward";

/// The value of [`LABEL_FORWARD`] where sockets can be dialled.
pub(super) const FORWARDS: &str = "yes";

/// From a container's start until its init has said hello.
pub(super) const MEET_DEADLINE: Duration = Duration::from_secs(10);

/// How long another way is taken after an init could not be delivered; doubles with each time.
const DOUBT_MIN: Duration = Duration::from_mins(1);
const DOUBT_MAX: Duration = Duration::from_hours(1);

/// How long containers go without an init for sockets after an engine could not be given one: to find out may take long.
const UNFILLED_SPAN: Duration = Duration::from_mins(1);

/// Architectures of images are remembered; past this all are forgotten.
const IMAGES_MAX: usize = 256;

/// Reading the engine's books.
const INSPECT_DEADLINE: Duration = Duration::from_secs(10);

pub(super) const DELIVER: &str = "give the container its first process";

/// A way to get programs started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Means {
    /// The engine's exec.
    Exec,
    /// An init that connects to a socket of ours, on the engine's own machine.
    Socket,
    /// An init out of a volume of the engine's, at the end of an attached stream.
    Attach,
}

/// What is known about delivering inits to one engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Launchers {
    rooms: Option<Rooms>,
    volumes: Arc<Volumes>,
    books: Arc<Mutex<Books>>,
}

#[derive(Debug, Default)]
struct Books {
    /// Of what did not work lately.
    doubts: HashMap<Means, Doubt>,
    /// Why a volume could not be filled lately for those whose programs the engine starts.
    unfilled: Option<(Instant, String)>,
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
        let mut inits = Vec::new();
        if self.rooms.is_some() && client.connector().is_local() {
            inits.push(Means::Socket);
        }
        // Whoever attaches again would come in the middle of a frame.
        if config.mode != Mode::Persistent {
            inits.push(Means::Attach);
        }
        match config.launcher {
            Launcher::Exec => vec![Means::Exec],
            Launcher::Init => {
                let trusted: Vec<Means> =
                    inits.iter().copied().filter(|means| !self.is_in_doubt(*means)).collect();
                if trusted.is_empty() { inits } else { trusted }
            }
            Launcher::Auto => {
                inits.retain(|means| !self.is_in_doubt(*means));
                inits.push(Means::Exec);
                inits
            }
        }
    }

    /// Makes what a container is created with. What that takes of the engine carries the instance of `labels`.
    pub(super) async fn prepare(
        &self,
        means: Means,
        docker: &Docker,
        labels: &BTreeMap<String, String>,
    ) -> Result<Way, EngineError> {
        let (config, client) = (&docker.config, &*docker.client);
        match means {
            Means::Exec if docker.forwards => return self.spare(config, labels, client).await.map(Way::Exec),
            Means::Exec => return Ok(Way::Exec(Spare::None)),
            Means::Socket | Means::Attach => {}
        }
        let architecture = self.architecture(config, client).await?;
        let Some(rooms) = self.rooms.as_ref().filter(|_| means == Means::Socket) else {
            let volume = self.volumes.with_init(architecture, config.image(), labels, client).await?;
            return Ok(Way::Attach(Attachment { volume, streams: Mutex::default() }));
        };
        let (rooms, stays) = (rooms.clone(), config.mode == Mode::Persistent);
        let make = tokio::task::spawn_blocking(move || {
            let mut room = rooms.make(architecture)?;
            if stays {
                room.keep()?;
            }
            io::Result::Ok(room)
        });
        let room = make.await.map_err(io::Error::other).flatten();
        room.map(Way::Socket).map_err(|error| undelivered(error.to_string()))
    }

    /// An init for a container whose programs the engine starts. There is a container without it, too.
    async fn spare(
        &self,
        config: &LaunchConfig,
        labels: &BTreeMap<String, String>,
        client: &Client,
    ) -> Result<Spare, EngineError> {
        let unfilled = self.with_books(|books| books.unfilled.clone());
        if let Some((_, reason)) = unfilled.filter(|(since, _)| since.elapsed() < UNFILLED_SPAN) {
            return Ok(Spare::Missing(reason));
        }
        let volume = async {
            let architecture = self.architecture(config, client).await?;
            self.volumes.with_init(architecture, config.image(), labels, client).await
        };
        match volume.await {
            Ok(volume) => Ok(Spare::Volume(volume)),
            // Without these there is no container either, or not yet.
            Err(error) if image_is_missing(&error) => Err(error),
            Err(error @ (EngineError::Unreachable { .. } | EngineError::Failed { is_answer: false, .. })) => {
                Err(error)
            }
            Err(error) => {
                let (reason, image) = (error.to_string(), config.image());
                tracing::warn!(reason, image, "nothing can be forwarded in a container");
                if matches!(error, EngineError::TimedOut { .. } | EngineError::Failed { .. }) {
                    self.with_books(|books| books.unfilled = Some((Instant::now(), reason.clone())));
                }
                Ok(Spare::Missing(reason))
            }
        }
    }

    /// An init was not where it should be: volumes are filled once more.
    pub(super) fn forget_volumes(&self) {
        self.volumes.forget();
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

    /// Notes how programs are started in a container that runs now.
    pub(super) fn succeeded(&self, launcher: Launcher, means: Means) {
        self.with_books(|books| {
            books.doubts.remove(&means);
            if books.told != Some(means) && launcher != Launcher::Exec {
                books.told = Some(means);
                let launcher = if means == Means::Exec { "exec" } else { "init" };
                tracing::info!(launcher, by = ?means, "containers' programs are started this way from now on");
            }
        });
    }

    /// Notes that an init could not be delivered; another way is taken for a while.
    pub(super) fn failed(&self, means: Means, image: &str, error: &EngineError) {
        self.volumes.forget();
        self.with_books(|books| {
            books.images.remove(image);
            let span = books.doubts.get(&means).map_or(DOUBT_MIN, |doubt| (doubt.span * 2).min(DOUBT_MAX));
            books.doubts.insert(means, Doubt { since: Instant::now(), span });
            let again_in = humantime::format_duration(span);
            tracing::warn!(%error, by = ?means, %again_in, "containers' first process is not ours this way");
        });
    }

    fn is_in_doubt(&self, means: Means) -> bool {
        self.with_books(|books| {
            books.doubts.get(&means).is_some_and(|doubt| doubt.since.elapsed() < doubt.span)
        })
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

/// The init did not get to its container, or did not get on there.
fn undelivered(reason: String) -> EngineError {
    EngineError::Unsupported { action: DELIVER, reason }
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
