//! An in-memory engine with scripted faults: the double for what a real engine cannot be made to show.
//!
//! Its containers are empty; its programs are what [`shell`] understands. It keeps no files and knows no users.

mod forward;
mod process;
mod script;
mod shell;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{
    Container, ContainerSpec, DialSpec, Engine, EngineError, ForwardError, LABEL_INSTANCE, LaunchFailure,
    LaunchStage, LaunchWatch, ListenSpec, Listener, OwnedContainer, Process, ProcessSpec, PullProgress,
};
use crate::ids::{ContainerId, InstanceId};

pub use forward::Service;
pub use script::{Call, Fault, Step};

/// The engine. Clones are the same engine.
#[derive(Clone, Debug, Default)]
pub struct FakeEngine(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    created: AtomicU64,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    faults: HashMap<Step, Fault>,
    cut_output_after: Option<usize>,
    pulls: Vec<PullProgress>,
    calls: Vec<Call>,
    containers: HashMap<ContainerId, Room>,
    image: Option<String>,
    sockets: forward::Sockets,
    /// Containers that are being created and started now, and the most that there were at once.
    starting: usize,
    starting_most: usize,
}

/// What the engine keeps of a container.
#[derive(Debug)]
struct Room {
    name: String,
    labels: BTreeMap<String, String>,
    gone: CancellationToken,
    stopped: bool,
}

impl FakeEngine {
    /// A sound engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Breaks a step for everybody until [`FakeEngine::mend`].
    pub fn break_step(&self, step: Step, fault: Fault) {
        self.state().faults.insert(step, fault);
    }

    /// Undoes [`FakeEngine::break_step`].
    pub fn mend(&self, step: Step) {
        self.state().faults.remove(&step);
    }

    /// Cuts the output of programs that are started from now on after so many bytes, with an error.
    pub fn cut_output_after(&self, bytes: usize) {
        self.state().cut_output_after = Some(bytes);
    }

    /// What a launch reports as its pull's progress.
    pub fn report_pulls(&self, pulls: Vec<PullProgress>) {
        self.state().pulls = pulls;
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// How many containers there are.
    #[must_use]
    pub fn live(&self) -> usize {
        self.state().containers.len()
    }

    /// Ends a container as the engine's operator would, behind everybody's back.
    pub fn kill(&self, id: &ContainerId) {
        if let Some(room) = self.state().containers.remove(id) {
            room.gone.cancel();
        }
    }

    /// Stops a container and leaves it there.
    pub fn stop(&self, id: &ContainerId) {
        if let Some(room) = self.state().containers.get_mut(id) {
            room.stopped = true;
            room.gone.cancel();
        }
    }

    /// The image that launches use from now on.
    pub fn update_image(&self, id: &str) {
        self.state().image = Some(id.to_owned());
    }

    /// The names of the containers that there are, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.state().containers.values().map(|room| room.name.clone()).collect();
        names.sort();
        names
    }

    /// The most containers that were ever created and started at once.
    #[must_use]
    pub fn starting_most(&self) -> usize {
        self.state().starting_most
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, call: Call) {
        self.state().calls.push(call);
    }

    /// Goes through with what is scripted for a step.
    async fn step(&self, step: Step) -> Result<(), EngineError> {
        let fault = self.state().faults.get(&step).cloned();
        match fault {
            None => Ok(()),
            Some(Fault::Fail(error)) => Err(error()),
            Some(Fault::Delay(duration)) => {
                tokio::time::sleep(duration).await;
                Ok(())
            }
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    async fn create(&self, spec: &ContainerSpec, watch: &LaunchWatch) -> Result<ContainerId, EngineError> {
        let pulls = self.state().pulls.clone();
        for progress in pulls {
            watch.stage.send_replace(LaunchStage::Pulling(progress));
            tokio::task::yield_now().await;
        }
        watch.stage.send_replace(LaunchStage::Starting);
        let _turn = tokio::select! {
            biased;
            () = watch.abandoned.cancelled() => return Err(EngineError::Abandoned),
            turn = watch.starts.turn() => turn,
        };
        let _starting = Starting::begin(self);
        let hangs = matches!(self.state().faults.get(&Step::Launch), Some(Fault::Hang));
        tokio::select! {
            done = self.step(Step::Launch) => done?,
            () = watch.abandoned.cancelled(), if hangs => return Err(EngineError::Abandoned),
        }
        let number = self.0.created.fetch_add(1, Ordering::Relaxed);
        let id = ContainerId::new(format!("{number:064x}"));
        let (name, labels) = (spec.name.clone(), spec.labels.clone());
        let room = Room { name, labels, gone: CancellationToken::new(), stopped: false };
        self.state().containers.insert(id.clone(), room);
        Ok(id)
    }
}

/// One that is being created and started.
struct Starting<'a>(&'a FakeEngine);

impl<'a> Starting<'a> {
    fn begin(engine: &'a FakeEngine) -> Self {
        let mut state = engine.state();
        state.starting += 1;
        state.starting_most = state.starting_most.max(state.starting);
        Self(engine)
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.state().starting -= 1;
    }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn launch(
        &self,
        spec: &ContainerSpec,
        watch: &LaunchWatch,
    ) -> Result<Arc<dyn Container>, LaunchFailure> {
        self.record(Call::Launch(spec.name.clone()));
        if watch.abandoned.is_cancelled() {
            return Err(EngineError::Abandoned.into());
        }
        let id = self.create(spec, watch).await?;
        if watch.abandoned.is_cancelled() {
            let removed = self.remove(&id).await;
            return Err(LaunchFailure { error: EngineError::Abandoned, maybe_left: removed.is_err() });
        }
        Ok(self.adopt(&id))
    }

    async fn list_owned(&self, instance: &InstanceId) -> Result<Vec<OwnedContainer>, EngineError> {
        self.record(Call::List);
        self.step(Step::List).await?;
        let state = self.state();
        let owned = state.containers.iter().filter(|(_, room)| {
            room.labels.get(LABEL_INSTANCE).is_some_and(|label| label == instance.as_str())
        });
        let listed = owned.map(|(id, room)| OwnedContainer {
            id: id.clone(),
            labels: room.labels.clone(),
            running: !room.stopped,
        });
        Ok(listed.collect())
    }

    fn adopt(&self, id: &ContainerId) -> Arc<dyn Container> {
        let gone = self.state().containers.get(id).map(|room| room.gone.clone());
        let gone = gone.unwrap_or_else(|| {
            let gone = CancellationToken::new();
            gone.cancel();
            gone
        });
        Arc::new(FakeContainer { engine: self.clone(), id: id.clone(), gone })
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.record(Call::Remove(id.clone()));
        self.step(Step::Remove).await?;
        self.kill(id);
        Ok(())
    }

    async fn image_id(&self) -> Result<Option<String>, EngineError> {
        self.step(Step::Image).await?;
        Ok(self.state().image.clone())
    }
}

/// One container of it.
#[derive(Debug)]
struct FakeContainer {
    engine: FakeEngine,
    id: ContainerId,
    gone: CancellationToken,
}

#[async_trait]
impl Container for FakeContainer {
    fn id(&self) -> &ContainerId {
        &self.id
    }

    async fn exec(&self, spec: &ProcessSpec) -> Result<Process, EngineError> {
        self.engine.record(Call::Exec(self.id.clone(), spec.clone()));
        self.engine.step(Step::Exec).await?;
        if self.gone.is_cancelled() {
            return Err(EngineError::Gone { reason: format!("no such container: {}", self.id) });
        }
        let cut = self.engine.state().cut_output_after;
        Ok(process::start(&self.engine, spec, cut, self.gone.clone()))
    }

    async fn dial(&self, dial: &DialSpec) -> Result<Process, ForwardError> {
        self.dial_out(dial).await
    }

    async fn listen(&self, listen: &ListenSpec) -> Result<Box<dyn Listener>, ForwardError> {
        self.listen_at(listen).await
    }

    async fn lost(&self) -> String {
        self.gone.cancelled().await;
        "it was removed".to_owned()
    }

    async fn rename(&self, name: &str) -> Result<(), EngineError> {
        self.engine.record(Call::Rename(self.id.clone(), name.to_owned()));
        self.engine.step(Step::Rename).await?;
        let mut state = self.engine.state();
        if state.containers.iter().any(|(id, room)| *id != self.id && room.name == name) {
            let (action, reason) = ("rename the container", format!("the name `{name}` is in use"));
            return Err(EngineError::Refused { action, status: 409, reason });
        }
        match state.containers.get_mut(&self.id) {
            Some(room) => {
                name.clone_into(&mut room.name);
                Ok(())
            }
            None => Err(EngineError::Gone { reason: format!("no such container: {}", self.id) }),
        }
    }

    async fn remove(&self) -> Result<(), EngineError> {
        self.engine.remove(&self.id).await
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;
    use crate::engine::{ExitStatus, Output, Program, Signal};

    fn spec() -> ContainerSpec {
        ContainerSpec {
            name: "a".to_owned(),
            hostname: "a".to_owned(),
            labels: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    pub(super) async fn container() -> (FakeEngine, Arc<dyn Container>) {
        let engine = FakeEngine::new();
        let container = engine.launch(&spec(), &LaunchWatch::default()).await.expect("a container");
        (engine, container)
    }

    async fn start(engine: &FakeEngine, command: &str) -> Process {
        let container = engine.launch(&spec(), &LaunchWatch::default()).await.expect("a container");
        let program = Program::ShellCommand(command.as_bytes().to_vec());
        let spec = ProcessSpec { program, env: Vec::new(), terminal: None, username: "joe".to_owned() };
        container.exec(&spec).await.expect("a program")
    }

    #[tokio::test]
    async fn a_step_fails_until_it_is_mended() {
        let engine = FakeEngine::new();
        engine.break_step(Step::Launch, Fault::fail(|| EngineError::Abandoned));

        assert!(engine.launch(&spec(), &LaunchWatch::default()).await.is_err());
        engine.mend(Step::Launch);
        assert!(engine.launch(&spec(), &LaunchWatch::default()).await.is_ok());

        assert_eq!((engine.live(), engine.calls().len()), (1, 2));
    }

    #[tokio::test]
    async fn a_launch_that_hangs_ends_when_it_is_called_off() {
        let engine = FakeEngine::new();
        engine.break_step(Step::Launch, Fault::Hang);
        let watch = LaunchWatch::default();
        watch.abandoned.cancel();

        let failure = engine.launch(&spec(), &watch).await.expect_err("no container");

        assert!(matches!(failure.error, EngineError::Abandoned));
        assert_eq!(engine.live(), 0);
    }

    #[tokio::test]
    async fn signals_end_a_program_or_run_its_trap() {
        let engine = FakeEngine::new();
        let plain = start(&engine, "sleep 100").await;
        let mut trapping = start(&engine, "trap 'echo got; exit 3' USR1; echo ready; sleep 100").await;
        assert_eq!(trapping.output.next().await.and_then(Result::ok), Some(Output::Stdout("ready\n".into())));

        plain.control.signal(Signal::Term).await.expect("a signal");
        trapping.control.signal(Signal::Usr1).await.expect("a signal");

        assert_eq!(plain.control.wait().await.ok(), Some(ExitStatus::Signaled(Signal::Term)));
        assert_eq!(trapping.output.next().await.and_then(Result::ok), Some(Output::Stdout("got\n".into())));
        assert_eq!(trapping.control.wait().await.ok(), Some(ExitStatus::Exited(3)));
    }

    #[tokio::test]
    async fn output_is_cut_where_it_was_scripted() {
        let engine = FakeEngine::new();
        engine.cut_output_after(3);
        let process = start(&engine, "yes").await;

        let pieces: Vec<_> = process.output.collect().await;

        assert!(matches!(pieces.as_slice(), [Ok(Output::Stdout(piece)), Err(_)] if piece == "y\ny"));
    }
}
