//! What a container is created with so that programs can be started in it, and how its init is met.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
};
use bytes::Bytes;
use futures::future::ready;
use futures::stream::{BoxStream, StreamExt as _};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{FOLDER, FORWARDS, Guide, LABEL_FORWARD, LABEL_ROOM, MEET_DEADLINE, undelivered};
use crate::engine::docker::client::Client;
use crate::engine::docker::config::{LaunchConfig, Mode};
use crate::engine::docker::events::Fate;
use crate::engine::docker::hijack::{self, Streams};
use crate::engine::init::{Init, Room};
use crate::engine::{EngineError, Output};
use crate::ids::ContainerId;

/// What one container is created with.
pub(in crate::engine::docker) enum Way {
    /// As it is configured: the engine's exec starts programs.
    Exec(Spare),
    /// With an init that meets us in a room.
    Socket(Room),
    /// With an init out of a volume, which is talked to over its own input and output.
    Attach(Attachment),
}

/// An init that lies ready in a container whose programs the engine starts, for what an exec cannot do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine::docker) enum Spare {
    /// It is not needed.
    #[default]
    None,
    /// It is in this volume.
    Volume(String),
    /// There should be one; why there is none.
    Missing(String),
}

/// An init at the end of an attached stream.
pub(in crate::engine::docker) struct Attachment {
    /// The volume with the init.
    pub(super) volume: String,
    /// Both directions, once there is a container. The lock is what makes it `Sync`, and is never waited for.
    pub(super) streams: Mutex<Option<Streams>>,
}

impl Way {
    /// Changes a create request so that the init is the container's first process.
    pub(in crate::engine::docker) fn fit(
        &self,
        config: &LaunchConfig,
        body: &mut ContainerCreateBody,
        host: &mut HostConfig,
    ) {
        let (mount, arguments) = match self {
            Self::Exec(spare) => return spare.fit(body, host),
            Self::Socket(room) => {
                body.labels.get_or_insert_default().insert(LABEL_ROOM.to_owned(), room.name().to_owned());
                // Not a `Binds`: the engine would make a folder of its own where it does not see ours.
                let mount = Mount {
                    source: Some(room.folder().display().to_string()),
                    typ: Some(MountType::BIND),
                    ..Mount::default()
                };
                (mount, vec!["--socket".to_owned(), format!("{FOLDER}/socket")])
            }
            Self::Attach(attachment) => {
                (body.open_stdin, body.stdin_once) = (Some(true), Some(true));
                (body.attach_stdin, body.attach_stdout, body.attach_stderr) =
                    (Some(true), Some(true), Some(true));
                // All that programs read and write is in it.
                let config = Some(HashMap::new());
                host.log_config = Some(HostConfigLogConfig { typ: Some("none".to_owned()), config });
                (of_volume(&attachment.volume), vec!["--frames".to_owned()])
            }
        };
        add_folder(mount, host);
        body.entrypoint = Some(std::iter::once(format!("{FOLDER}/init")).chain(arguments).collect());
        // Ours reaps what programs leave behind: the engine's is not needed, unless somebody wants it.
        host.init = config.host.init;
    }

    /// What has to be done between a container's creation and its start.
    pub(in crate::engine::docker) async fn attach(
        &mut self,
        client: &Client,
        id: &ContainerId,
    ) -> Result<(), EngineError> {
        if let Self::Attach(attachment) = self {
            attachment.streams = Mutex::new(Some(hijack::attach(client, id).await?));
        }
        Ok(())
    }

    /// Meets the init of a container that has just been started.
    pub(in crate::engine::docker) async fn meet(
        self,
        config: &LaunchConfig,
        client: &Client,
        mut fate: watch::Receiver<Fate>,
    ) -> Result<Guide, EngineError> {
        let orphan_timeout = orphan_timeout(config);
        let meeting = async {
            match self {
                Self::Exec(_) => Ok(None),
                Self::Socket(room) => Init::meet(room, orphan_timeout, client.tasks()).await.map(Some),
                Self::Attach(Attachment { streams, .. }) => {
                    let streams = streams.into_inner().unwrap_or_else(PoisonError::into_inner);
                    let (writer, output) =
                        streams.ok_or_else(|| undelivered("it is not attached to".to_owned()))?;
                    Init::attach(frames(output), writer, orphan_timeout, client.tasks()).await.map(Some)
                }
            }
        };
        let ended = async move {
            let fate = fate.wait_for(|fate| fate.ended.is_some()).await;
            fate.ok().and_then(|fate| fate.ended.clone()).unwrap_or_default()
        };
        let met = tokio::select! {
            met = timeout(MEET_DEADLINE, meeting) => met,
            reason = ended => return Err(undelivered(reason)),
        };
        match met {
            Ok(Ok(init)) => Ok(init.map_or(Guide::Exec, Guide::met)),
            Ok(Err(error)) => Err(undelivered(error.to_string())),
            Err(_) => Err(undelivered("it does not say anything".to_owned())),
        }
    }
}

impl Spare {
    /// Puts it there; nothing else about the container changes.
    fn fit(&self, body: &mut ContainerCreateBody, host: &mut HostConfig) {
        let label = match self {
            Self::None => return,
            Self::Volume(volume) => {
                add_folder(of_volume(volume), host);
                FORWARDS.to_owned()
            }
            Self::Missing(reason) => reason.clone(),
        };
        body.labels.get_or_insert_default().insert(LABEL_FORWARD.to_owned(), label);
    }
}

fn of_volume(name: &str) -> Mount {
    Mount {
        source: Some(name.to_owned()),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..Default::default() }),
        ..Mount::default()
    }
}

fn add_folder(mount: Mount, host: &mut HostConfig) {
    let mount = Mount { target: Some(FOLDER.to_owned()), read_only: Some(true), ..mount };
    host.mounts.get_or_insert_default().push(mount);
}

/// What an init at the end of an attached stream says.
pub(in crate::engine::docker) fn frames(
    output: BoxStream<'static, io::Result<Output>>,
) -> BoxStream<'static, io::Result<Bytes>> {
    output.filter_map(|piece| ready(piece.map(said).transpose())).boxed()
}

/// Frames; an init says little on its error output.
fn said(piece: Output) -> Option<Bytes> {
    match piece {
        Output::Stdout(bytes) => Some(bytes),
        Output::Stderr(bytes) => {
            tracing::debug!(said = %String::from_utf8_lossy(&bytes), "a container's first process complains");
            None
        }
    }
}

/// Persistent containers outlive their servers on purpose.
fn orphan_timeout(config: &LaunchConfig) -> Option<Duration> {
    if config.mode == Mode::Persistent { None } else { config.init.orphan_timeout.unless_zero() }
}
