//! What runs containers, in our words: the port that Docker (and the in-memory double) implement.
//!
//! Nothing above this module knows bollard, HTTP or how a program gets started in a container.

mod changes;
pub mod docker;
pub mod fake;
mod forward;
pub mod init;
mod phases;
mod process;
mod starts;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ids::{ConnectionId, ContainerId, InstanceId};
use crate::secret::Secret;

pub use changes::{Change, Changes};
pub use forward::{Address, Caller, DialSpec, ForwardError, ListenSpec, Listener};
pub use phases::Phases;
pub use process::{
    ExitStatus, Output, Process, ProcessControl, ProcessSpec, Program, Signal, Terminal, TerminalMode,
    TerminalSize,
};
pub use starts::{Starts, Turn};

/// Label with the id of the connection that a container belongs to.
pub const LABEL_CONNECTION: &str = "coracle.connection";
/// Label with the user name that the client logged in with.
pub const LABEL_USERNAME: &str = "coracle.username";
/// Label with the client's address and port.
pub const LABEL_CLIENT: &str = "coracle.client";
/// Label with the id of the server's installation; the reaper looks at no container without it.
pub const LABEL_INSTANCE: &str = "coracle.instance";
/// Label with the number of the session on its connection, where each session has a container.
pub const LABEL_SESSION: &str = "coracle.session";
/// Label with the name of the profile that the user got, where it is not the default.
pub const LABEL_PROFILE: &str = "coracle.profile";
/// Label of a container that outlives its connections, with [`MODE_PERSISTENT`] as its value.
pub const LABEL_MODE: &str = "coracle.mode";
/// Label of a container that was started before anybody wanted it, with an id of its own as its value.
pub const LABEL_WARM: &str = "coracle.warm";
/// The value of [`LABEL_MODE`].
pub const MODE_PERSISTENT: &str = "persistent";

/// What runs containers.
#[async_trait]
pub trait Engine: Debug + Send + Sync {
    /// Makes the image available, creates a container and starts it idle.
    ///
    /// Not cancel safe: run it to its end in a task of its own and ask it to stop through
    /// [`LaunchWatch::abandoned`]. On `Err` nothing is left behind, except where
    /// [`LaunchFailure::maybe_left`] says that the engine did not confirm it.
    async fn launch(
        &self,
        spec: &ContainerSpec,
        watch: &LaunchWatch,
    ) -> Result<Arc<dyn Container>, LaunchFailure>;

    /// Every container, running or not, that carries this instance's label.
    async fn list_owned(&self, instance: &InstanceId) -> Result<Vec<OwnedContainer>, EngineError>;

    /// Takes up a container that an earlier run started and [`Engine::list_owned`] told to be running. Never waits;
    /// one that has ended meanwhile tells so by [`Container::lost`].
    fn adopt(&self, id: &ContainerId) -> Arc<dyn Container>;

    /// Removes a container with its anonymous volumes, running or not. One that is gone already is a success.
    async fn remove(&self, id: &ContainerId) -> Result<(), EngineError>;

    /// The id of the image that a launch would use now: another one means that the image was updated. `None` where the
    /// engine does not have it.
    async fn image_id(&self) -> Result<Option<String>, EngineError>;
}

/// One running container.
#[async_trait]
pub trait Container: Debug + Send + Sync {
    /// The engine's id of it.
    fn id(&self) -> &ContainerId;

    /// Starts a process in it (Docker Engine API: exec create + exec start).
    async fn exec(&self, process: &ProcessSpec) -> Result<Process, EngineError>;

    /// Dials somebody from inside it. What they say is the output of the process, [`Output::Stdout`] alone, and its input
    /// is for them; shut down, they read an end. It ends when both sides have; killed, it is cut.
    ///
    /// Not before a deadline of its own: whoever is called may take their time.
    async fn dial(&self, dial: &DialSpec) -> Result<Process, ForwardError>;

    /// Listens inside it.
    async fn listen(&self, listen: &ListenSpec) -> Result<Box<dyn Listener>, ForwardError>;

    /// Waits until it ends other than by [`Container::remove`], and tells why: it was removed, ran out of memory,
    /// its idle program ended. Cancel safe.
    async fn lost(&self) -> String;

    /// What has changed in its files since it was made, at most so many of them. Not every engine can tell.
    async fn changes(&self, _files_max: usize) -> Result<Changes, EngineError> {
        let reason = "this engine does not know".to_owned();
        Err(EngineError::Unsupported { action: "tell what changed in the container", reason })
    }

    /// Gives it another name. Nothing else about it changes; what knows it by its id does not notice.
    async fn rename(&self, name: &str) -> Result<(), EngineError>;

    /// Removes it with its anonymous volumes. One that is gone already is a success.
    async fn remove(&self) -> Result<(), EngineError>;
}

/// What differs from one container to the next; the rest is the engine's configuration.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Name on the engine, unless the configuration fixes one.
    pub name: String,
    /// Host name inside, unless the configuration fixes one: short and readable.
    pub hostname: String,
    /// Our labels (`coracle.*`); they win over configured ones of the same name.
    pub labels: BTreeMap<String, String>,
    /// Files for programs to find: absolute paths and contents. Whoever launches has them written before anything runs.
    pub files: Vec<(String, Secret<Vec<u8>>)>,
}

/// How whoever waits for a launch follows it and calls it off.
#[derive(Clone, Debug)]
pub struct LaunchWatch {
    /// Where the launch stands, for the person at the terminal.
    pub stage: watch::Sender<LaunchStage>,
    /// Cancelled when nobody wants the container any more: the launch then ends as soon as it can and cleans up.
    pub abandoned: CancellationToken,
    /// Where the engine waits for its turn, right before it creates a container, until that is started.
    pub starts: Starts,
    /// What the engine tells of how long it took.
    pub phases: Phases,
}

impl Default for LaunchWatch {
    fn default() -> Self {
        Self {
            stage: watch::Sender::new(LaunchStage::Preparing),
            abandoned: CancellationToken::new(),
            starts: Starts::default(),
            phases: Phases::default(),
        }
    }
}

/// Where a launch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchStage {
    /// Nothing to tell yet.
    Preparing,
    /// The image is on its way.
    Pulling(PullProgress),
    /// The container is being created and started.
    Starting,
}

/// How far a pull is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// The image reference that is pulled.
    pub image: String,
    /// Layers that are complete.
    pub layers_done: usize,
    /// Layers known so far.
    pub layers_total: usize,
    /// Bytes received, over all layers.
    pub bytes_done: u64,
    /// Bytes expected, over all layers whose size is known.
    pub bytes_total: u64,
}

/// A container of ours as the engine lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedContainer {
    /// The engine's id.
    pub id: ContainerId,
    /// Its labels, configured ones included.
    pub labels: BTreeMap<String, String>,
    /// Whether it was started and has not ended; it may be paused.
    pub running: bool,
}

impl OwnedContainer {
    /// The value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// Whether it outlives its connections.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.label(LABEL_MODE) == Some(MODE_PERSISTENT)
    }
}

/// A launch that brought no container.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct LaunchFailure {
    /// Why.
    #[source]
    pub error: EngineError,
    /// The engine did not confirm that nothing is left: look for the connection's label once more.
    pub maybe_left: bool,
}

impl From<EngineError> for LaunchFailure {
    fn from(error: EngineError) -> Self {
        Self { error, maybe_left: false }
    }
}

/// What can go wrong at an engine; a variant each for what a caller would do differently.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers at the endpoint. Worth a retry once the engine is back.
    #[error("the container engine at `{endpoint}` cannot be reached: {reason}")]
    Unreachable {
        /// `docker.host` as configured.
        endpoint: String,
        /// What the operating system or the transport said.
        reason: String,
    },
    /// The image is not there and the pull policy forbids to fetch it.
    #[error("the image `{image}` is not on the engine, and `imagePullPolicy: Never` forbids pulling it")]
    NoSuchImage {
        /// The image reference.
        image: String,
    },
    /// The image is not there and could not be fetched.
    #[error("the image `{image}` could not be pulled: {reason}")]
    PullFailed {
        /// The image reference.
        image: String,
        /// The registry's or the engine's words.
        reason: String,
    },
    /// The engine said no (HTTP 4xx): asking again will not help.
    #[error("the container engine refused to {action}: {reason}")]
    Refused {
        /// What we asked for: `create the container`, `start the container` …
        action: &'static str,
        /// HTTP status.
        status: u16,
        /// The engine's words.
        reason: String,
    },
    /// The engine failed (HTTP 5xx, a broken answer): asking again may help.
    #[error("the container engine failed to {action}: {reason}")]
    Failed {
        /// What we asked for.
        action: &'static str,
        /// The engine's words, or what was wrong with its answer.
        reason: String,
        /// The engine said so itself (HTTP 5xx); else the connection broke, or the answer made no sense.
        is_answer: bool,
    },
    /// The engine did not answer in time.
    #[error("the container engine took longer than {} to {action}", humantime::format_duration(*.after))]
    TimedOut {
        /// What we asked for.
        action: &'static str,
        /// The deadline that passed.
        after: Duration,
    },
    /// The container is gone or no longer running.
    #[error("the container is gone: {reason}")]
    Gone {
        /// The engine's words.
        reason: String,
    },
    /// The kernel killed the program for want of memory.
    #[error("the container ran out of memory, and the program was killed")]
    OutOfMemory,
    /// What was asked cannot be done with this engine or this image.
    #[error("cannot {action}: {reason}")]
    Unsupported {
        /// What we asked for.
        action: &'static str,
        /// Why not.
        reason: String,
    },
    /// The launch was called off.
    #[error("the launch was called off")]
    Abandoned,
}

/// Everything a container of `connection` is labelled with.
#[must_use]
pub fn labels(
    instance: &InstanceId,
    connection: &ConnectionId,
    username: &str,
    client: std::net::SocketAddr,
) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_INSTANCE.to_owned(), instance.to_string()),
        (LABEL_CONNECTION.to_owned(), connection.to_string()),
        (LABEL_USERNAME.to_owned(), username.to_owned()),
        (LABEL_CLIENT.to_owned(), client.to_string()),
    ])
}
