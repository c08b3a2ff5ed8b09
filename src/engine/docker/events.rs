//! Which containers end behind our back: one stream of the engine's events for all of them (`GET /events`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::sleep;

use super::client::Client;
use crate::engine::{EngineError, LABEL_INSTANCE};

/// First pause before the stream is opened again; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause while the engine is away.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Ends that nobody has claimed yet. Past it the oldest is forgotten; other servers' containers are among them.
const UNCLAIMED_MAX: usize = 256;
/// Listing what still runs, after the stream broke.
const LIST_DEADLINE: Duration = Duration::from_secs(30);
/// How far back a new stream begins: what happens while it is being opened must not fall between two streams.
const OVERLAP: Duration = Duration::from_secs(2);

/// What became of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// Why it ended; `None` while it runs.
    pub(super) ended: Option<String>,
    /// The kernel killed something in it for want of memory; the container may run on.
    pub(super) out_of_memory: bool,
}

/// The first stream begins with the first container, and has nothing to catch up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    First,
    Later,
}

/// The containers that somebody wants to hear of.
#[derive(Clone, Debug, Default)]
pub(super) struct Fates {
    books: Arc<Mutex<Books>>,
    started: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Books {
    followed: HashMap<String, watch::Sender<Fate>>,
    /// Ended before anybody followed them: between the start of a container and its being followed.
    unclaimed: VecDeque<(String, String)>,
}

impl Fates {
    /// Follows one container. The first call starts the stream, in a task of the client's.
    pub(super) fn follow(&self, client: &Arc<Client>, id: &str) -> watch::Receiver<Fate> {
        if !self.started.swap(true, Ordering::Relaxed) {
            let (fates, client) = (self.clone(), Arc::clone(client));
            client.tasks().clone().spawn(async move { fates.run(&client).await });
        }
        let mut books = self.books();
        let ended = books.unclaimed.iter().find(|(ended, _)| ended == id).map(|(_, reason)| reason.clone());
        if ended.is_some() {
            return watch::Sender::new(Fate { ended, out_of_memory: false }).subscribe();
        }
        books.followed.entry(id.to_owned()).or_default().subscribe()
    }

    /// Forgets one that we are about to remove ourselves.
    pub(super) fn forget(&self, id: &str) {
        self.books().followed.remove(id);
    }

    async fn run(&self, client: &Client) {
        let mut pause = PAUSE_MIN;
        let mut stream = Stream::First;
        loop {
            match self.read(client, stream).await {
                Ok(()) => pause = PAUSE_MIN,
                Err(error) => {
                    tracing::debug!(%error, "no events from the engine");
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            stream = Stream::Later;
            sleep(pause).await;
        }
    }

    /// Reads one stream to its end. What ended while there was none is found by a list of what runs.
    async fn read(&self, client: &Client, stream: Stream) -> Result<(), EngineError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![LABEL_INSTANCE.to_owned()]),
            ("event".to_owned(), ["die", "oom", "destroy"].map(str::to_owned).to_vec()),
        ]);
        let since = Some(now.saturating_sub(OVERLAP).as_secs().to_string());
        let options = EventsOptions { filters: Some(filters), since, ..Default::default() };
        let mut events = client.bollard().await?.events(Some(options));
        if stream == Stream::Later {
            self.catch_up(client).await?;
        }
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| client.understand("tell its events", &error))?;
            self.note(event);
        }
        Ok(())
    }

    async fn catch_up(&self, client: &Client) -> Result<(), EngineError> {
        // Taken before the list: what is followed later is running, and may be too new for the list.
        let followed: Vec<String> = self.books().followed.keys().cloned().collect();
        if followed.is_empty() {
            return Ok(());
        }
        let filters = HashMap::from([("label".to_owned(), vec![LABEL_INSTANCE.to_owned()])]);
        let options = ListContainersOptions { filters: Some(filters), ..Default::default() };
        let running = client
            .call("list containers", LIST_DEADLINE, |docker| async move {
                docker.list_containers(Some(options)).await
            })
            .await?;
        let running: HashSet<String> = running.into_iter().filter_map(|container| container.id).collect();
        for id in followed.into_iter().filter(|id| !running.contains(id)) {
            self.tell(&id, "it ended while the engine was away");
        }
        Ok(())
    }

    fn note(&self, event: EventMessage) {
        if event.typ != Some(EventMessageTypeEnum::CONTAINER) {
            return;
        }
        let Some(actor) = event.actor else { return };
        let Some(id) = actor.id else { return };
        let status = actor.attributes.and_then(|attributes| attributes.get("exitCode").cloned());
        match event.action.as_deref() {
            Some("oom") => {
                if let Some(fate) = self.books().followed.get(&id) {
                    fate.send_modify(|fate| fate.out_of_memory = true);
                }
            }
            // From an init, which starts before it can know; without one it is the engine who refuses the start.
            Some("die") if status.as_deref().is_some_and(|status| ["126", "127"].contains(&status)) => {
                self.tell(&id, "its `idleCommand` cannot be run, as the image has no such program");
            }
            // A removal by force begins with a death, too.
            Some("die") => self.tell(&id, "it was stopped or removed"),
            Some("destroy") => self.tell(&id, "it was removed"),
            _ => {}
        }
    }

    fn tell(&self, id: &str, reason: &str) {
        let mut books = self.books();
        if let Some(fate) = books.followed.remove(id) {
            fate.send_modify(|fate| {
                let reason = if fate.out_of_memory { "it ran out of memory" } else { reason };
                fate.ended = Some(reason.to_owned());
            });
            return;
        }
        books.unclaimed.push_back((id.to_owned(), reason.to_owned()));
        if books.unclaimed.len() > UNCLAIMED_MAX {
            books.unclaimed.pop_front();
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
