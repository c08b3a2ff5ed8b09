//! The control of a program that an exec started.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::ExecInspectResponse;
use bollard::query_parameters::ResizeExecOptions;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::SignalPath;
use super::client::Client;
use super::error::gone_if_not_running;
use super::signal::{self, Direct};
use super::survival::Survival;
use crate::engine::{EngineError, ExitStatus, ProcessControl, Signal, TerminalSize};
use crate::ids::ContainerId;

/// Inspecting reads the engine's books.
const INSPECT_DEADLINE: Duration = Duration::from_secs(10);

/// A resize is an ioctl; Docker holds one that comes too early back for up to 10 s.
const RESIZE_DEADLINE: Duration = Duration::from_secs(15);

/// Engines that do not hold an early resize back refuse it.
const RESIZE_TRIES: u32 = 20;
const RESIZE_PAUSE: Duration = Duration::from_millis(50);

/// How often the end is looked for while output is held up.
const ENDED_PAUSE: Duration = Duration::from_millis(500);

/// With the output at its end the program is at its end too, give or take the engine's book-keeping.
const EXIT_PAUSE: Duration = Duration::from_millis(20);
const EXIT_DEADLINE: Duration = Duration::from_secs(10);

/// A signal may come right after the start was answered and before the program runs.
const BEGIN_PAUSE: Duration = Duration::from_millis(10);
const BEGIN_DEADLINE: Duration = Duration::from_secs(5);

/// What the engine reports for a program that KILL ended, and for every program of a container that was stopped.
const KILLED: u32 = 128 + 9;

const INSPECT: &str = "tell how the program does";

/// A program in a container on a Docker engine.
#[derive(Debug)]
pub(super) struct DockerProcess {
    pub(super) client: Arc<Client>,
    pub(super) container: ContainerId,
    pub(super) survival: Survival,
    /// The engine's id of the exec.
    pub(super) exec: String,
    /// The variable, with its value, that only this program and its children have.
    pub(super) mark: String,
    pub(super) has_terminal: bool,
    /// Then its end is no news from elsewhere.
    pub(super) killed_by_us: AtomicBool,
    pub(super) signal_path: SignalPath,
    /// Sizes arrive in the order they were told.
    pub(super) resizing: Mutex<()>,
}

#[async_trait]
impl ProcessControl for DockerProcess {
    async fn resize(&self, size: TerminalSize) -> Result<(), EngineError> {
        if !self.has_terminal {
            return Ok(());
        }
        let _turn = self.resizing.lock().await;
        let mut tries = 1;
        loop {
            let options = ResizeExecOptions { h: i32::from(size.rows()), w: i32::from(size.columns()) };
            let resized = self
                .client
                .call("resize the terminal", RESIZE_DEADLINE, |docker| async move {
                    docker.resize_exec(&self.exec, options).await
                })
                .await;
            match resized {
                Err(EngineError::Refused { .. } | EngineError::Failed { .. }) if tries < RESIZE_TRIES => {
                    // A program that has ended needs no size.
                    if self.inspect().await.is_ok_and(|state| has_ended(&state)) {
                        return Ok(());
                    }
                    tries += 1;
                    sleep(RESIZE_PAUSE).await;
                }
                other => return other.map_err(gone_if_not_running),
            }
        }
    }

    async fn signal(&self, signal: Signal) -> Result<(), EngineError> {
        if signal == Signal::Kill {
            self.killed_by_us.store(true, Ordering::Relaxed);
        }
        let Some(pid) = self.begun().await? else { return Ok(()) };
        if self.signal_path == SignalPath::Auto && self.client.connector().is_local() {
            match signal::direct(pid, &self.container, signal).await {
                Direct::Sent | Direct::Ended => return Ok(()),
                Direct::Impossible => {}
            }
        }
        signal::by_exec(&self.client, &self.container, &self.mark, signal).await
    }

    async fn ended(&self) {
        loop {
            sleep(ENDED_PAUSE).await;
            match self.inspect().await {
                Ok(state) if has_ended(&state) => return,
                Err(EngineError::Gone { .. }) => return,
                // An engine that is away for a moment has not ended the program.
                Ok(_) | Err(_) => {}
            }
        }
    }

    async fn wait(&self) -> Result<ExitStatus, EngineError> {
        let deadline = Instant::now() + EXIT_DEADLINE;
        let mut pause = EXIT_PAUSE;
        loop {
            let state = self.inspect().await?;
            match state.exit_code {
                Some(code) if has_ended(&state) => return self.exit_status(code).await,
                // A program may close its output and go on; whoever waits knows how long it may.
                _ if state.running == Some(true) => pause = (pause * 2).min(ENDED_PAUSE),
                _ if Instant::now() >= deadline => {
                    let reason = "it has neither ended nor does it run".to_owned();
                    return Err(EngineError::Failed { action: INSPECT, reason, is_answer: false });
                }
                _ => {}
            }
            sleep(pause).await;
        }
    }
}

impl DockerProcess {
    async fn inspect(&self) -> Result<ExecInspectResponse, EngineError> {
        let state = self
            .client
            .call(INSPECT, INSPECT_DEADLINE, |docker| async move { docker.inspect_exec(&self.exec).await })
            .await;
        state.map_err(gone_if_not_running)
    }

    /// The program's process id as the engine's host counts; `None` once it has ended.
    async fn begun(&self) -> Result<Option<i64>, EngineError> {
        let deadline = Instant::now() + BEGIN_DEADLINE;
        loop {
            let state = match self.inspect().await {
                Err(EngineError::Gone { .. }) => return Ok(None),
                state => state?,
            };
            match state.pid {
                _ if has_ended(&state) => return Ok(None),
                Some(pid) if state.running == Some(true) && pid > 0 => return Ok(Some(pid)),
                _ if Instant::now() >= deadline => {
                    let reason = "it has not begun".to_owned();
                    return Err(EngineError::Failed { action: signal::ACTION, reason, is_answer: false });
                }
                _ => sleep(BEGIN_PAUSE).await,
            }
        }
    }

    /// The engine tells a death by signal only as 128 and the signal's number, like a shell.
    async fn exit_status(&self, code: i64) -> Result<ExitStatus, EngineError> {
        let code = u32::try_from(code).unwrap_or(u32::from(u8::MAX));
        if code == KILLED && !self.killed_by_us.load(Ordering::Relaxed) {
            self.survival.check().await?;
        }
        Ok(ExitStatus::Exited(code))
    }
}

fn has_ended(state: &ExecInspectResponse) -> bool {
    state.running != Some(true) && state.exit_code.is_some()
}
