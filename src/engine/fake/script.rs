//! What goes wrong with the engine, and what was asked of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{DialSpec, EngineError, ProcessSpec};
use crate::ids::ContainerId;

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// [`crate::engine::Engine::launch`], where a container is created.
    Launch,
    /// [`crate::engine::Container::exec`].
    Exec,
    /// [`crate::engine::ProcessControl::wait`].
    Wait,
    /// [`crate::engine::ProcessControl::signal`].
    Signal,
    /// [`crate::engine::ProcessControl::resize`].
    Resize,
    /// [`crate::engine::Engine::remove`] and [`crate::engine::Container::remove`].
    Remove,
    /// [`crate::engine::Engine::list_owned`].
    List,
    /// [`crate::engine::Container::rename`].
    Rename,
    /// [`crate::engine::Engine::image_id`].
    Image,
    /// [`crate::engine::Container::dial`].
    Dial,
    /// [`crate::engine::Container::listen`].
    Listen,
}

/// What goes wrong there, until it is mended.
#[derive(Clone)]
pub enum Fault {
    /// The step fails.
    Fail(Arc<dyn Fn() -> EngineError + Send + Sync>),
    /// The step takes this long, and succeeds.
    Delay(Duration),
    /// The step never ends; a launch only once it is called off.
    Hang,
}

impl Fault {
    /// A failure with what `error` makes.
    pub fn fail(error: impl Fn() -> EngineError + Send + Sync + 'static) -> Self {
        Self::Fail(Arc::new(error))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(error) => f.debug_tuple("Fail").field(&error()).finish(),
            Self::Delay(duration) => f.debug_tuple("Delay").field(duration).finish(),
            Self::Hang => f.write_str("Hang"),
        }
    }
}

/// A call that reached the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A launch, with the container's name.
    Launch(String),
    /// A program, in a container.
    Exec(ContainerId, ProcessSpec),
    /// A removal.
    Remove(ContainerId),
    /// A list.
    List,
    /// A new name for a container.
    Rename(ContainerId, String),
    /// Somebody to dial, from a container.
    Dial(ContainerId, DialSpec),
    /// Something to listen on in a container: the address, `agent`, or `display` with the protocol's name.
    Listen(ContainerId, String),
}
