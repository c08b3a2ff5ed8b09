//! Who starts programs in a running container.

use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::InspectContainerOptions;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{LABEL_ROOM, Launchers, MEET_DEADLINE};
use crate::engine::EngineError;
use crate::engine::docker::client::Client;
use crate::engine::init::Init;
use crate::ids::ContainerId;

/// Reading the engine's books.
const INSPECT_DEADLINE: Duration = Duration::from_secs(10);

/// Who starts programs in a container.
#[derive(Clone, Debug)]
pub(in crate::engine::docker) enum Guide {
    Exec,
    Init(watch::Receiver<Meeting>),
}

/// Where we stand with a container's init.
#[derive(Clone, Debug)]
pub(in crate::engine::docker) enum Meeting {
    Expected,
    Met(Arc<Init>),
    /// It has none, or none that can be met: the engine starts programs.
    None,
    Missed(String),
}

impl Guide {
    /// An init that has been met.
    pub(super) fn met(init: Init) -> Self {
        Self::Init(watch::Sender::new(Meeting::Met(Arc::new(init))).subscribe())
    }

    /// Begins to follow a container of an earlier run: by its init, if it has one of ours.
    pub(in crate::engine::docker) fn follow(
        launchers: &Launchers,
        client: &Arc<Client>,
        id: &ContainerId,
    ) -> Self {
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
    pub(in crate::engine::docker) async fn init(&self) -> Result<Option<Arc<Init>>, EngineError> {
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
    pub(in crate::engine::docker) async fn over(&self) -> String {
        match self.init().await {
            Ok(Some(init)) => init.over().await,
            Ok(None) => std::future::pending().await,
            Err(error) => error.to_string(),
        }
    }

    /// The container is removed: nobody comes back to its room.
    pub(in crate::engine::docker) fn forget(&self) {
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
