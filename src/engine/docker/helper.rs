//! Sockets in a container whose programs the engine starts: one exec, at the first need, runs the init that lies there for
//! that, and it looks after all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::ExecConfig;
use bollard::query_parameters::InspectContainerOptions;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::client::Client;
use super::error::gone_if_not_running;
use super::exec;
use super::hijack::{self, Mode};
use super::launcher::{FOLDER, FORWARDS, LABEL_FORWARD, Launchers, MEET_DEADLINE, frames};
use crate::engine::EngineError;
use crate::engine::init::Init;
use crate::ids::ContainerId;

/// From the need for it until it answers. Those who come meanwhile wait as well.
const HELPER_DEADLINE: Duration = Duration::from_secs(30);

/// How often one is started that then says nothing. On a machine that is busy it may come too late.
const TRIES: usize = 2;

/// Whoever fails sooner than this has said something that is wrong, and would say it again.
const SILENCE: Duration = Duration::from_secs(4);

/// Reading the engine's books.
const INSPECT_DEADLINE: Duration = Duration::from_secs(10);

pub(super) const FORWARD: &str = "forward in the container";

/// What looks after a container's sockets. It ends with the container, or when this is dropped.
#[derive(Debug)]
pub(super) struct Helper {
    launchers: Launchers,
    init: Mutex<Option<Arc<Init>>>,
}

impl Helper {
    pub(super) fn new(launchers: Launchers) -> Self {
        Self { launchers, init: Mutex::default() }
    }

    /// Whether it was ever needed.
    pub(super) fn is_in_use(&self) -> bool {
        self.init.try_lock().map_or(true, |init| init.is_some())
    }

    /// The one that there is, or a new one: one that has ended is replaced when somebody needs it, and once for each.
    pub(super) async fn init(&self, client: &Client, id: &ContainerId) -> Result<Arc<Init>, EngineError> {
        let init = async {
            let mut present = self.init.lock().await;
            match &*present {
                Some(init) if !init.is_over() => Ok(Arc::clone(init)),
                _ => {
                    let init = Arc::new(self.start(client, id).await?);
                    *present = Some(Arc::clone(&init));
                    Ok(init)
                }
            }
        };
        let timed_out = EngineError::TimedOut { action: FORWARD, after: HELPER_DEADLINE };
        timeout(HELPER_DEADLINE, init).await.unwrap_or(Err(timed_out))
    }

    async fn start(&self, client: &Client, id: &ContainerId) -> Result<Init, EngineError> {
        check(client, id).await?;
        let mut tries = 0;
        let reason = loop {
            tries += 1;
            let begun = Instant::now();
            match attach(client, id).await? {
                Ok(init) => return Ok(init),
                Err(reason) if tries < TRIES && begun.elapsed() >= SILENCE => {
                    tracing::debug!(container = %id, reason, "an init for sockets is started once more");
                }
                Err(reason) => break reason,
            }
        };
        // Somebody may have emptied its volume.
        self.launchers.forget_volumes();
        Err(EngineError::Failed { action: FORWARD, reason, is_answer: false })
    }
}

/// Starts an init in a container and greets it; if that fails, the reason.
async fn attach(client: &Client, id: &ContainerId) -> Result<Result<Init, String>, EngineError> {
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(vec![format!("{FOLDER}/init"), "--frames".to_owned()]),
        ..ExecConfig::default()
    };
    let exec = exec::create(client, id, config).await?;
    let (writer, output) =
        hijack::start(client, &exec, Mode::Multiplexed).await.map_err(gone_if_not_running)?;
    // It ends with this stream; nobody can come back to it.
    let met = timeout(MEET_DEADLINE, Init::attach(frames(output), writer, None, client.tasks())).await;
    Ok(match met {
        Ok(met) => met.map_err(|error| error.to_string()),
        Err(_) => Err("it does not say anything".to_owned()),
    })
}

/// Whether there is an init in a container, and why not.
async fn check(client: &Client, id: &ContainerId) -> Result<(), EngineError> {
    let inspected = client
        .call("look at the container", INSPECT_DEADLINE, |docker| async move {
            docker.inspect_container(id.as_str(), None::<InspectContainerOptions>).await
        })
        .await;
    let container = inspected.map_err(gone_if_not_running)?;
    let labels = container.config.and_then(|config| config.labels).unwrap_or_default();
    let reason = match labels.get(LABEL_FORWARD) {
        Some(label) if label == FORWARDS => return Ok(()),
        Some(reason) => reason.clone(),
        None => "this container was made before forwarding was switched on".to_owned(),
    };
    Err(EngineError::Unsupported { action: FORWARD, reason })
}
