//! How programs are started in containers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Section, Span};

/// How programs are started in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Launcher {
    /// By the engine's exec.
    #[default]
    Exec,
    /// By our own first process of the container, in place of `idleCommand`.
    Init,
    /// As `init` where that can be delivered, else as `exec`.
    Auto,
}

/// The first process of containers, where that is ours.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Init {
    /// How long a container lives on whose server is gone. 0: for ever, as persistent ones do anyway.
    pub orphan_timeout: Span,
}

impl Default for Init {
    fn default() -> Self {
        Self { orphan_timeout: Span::from_seconds(60) }
    }
}

impl Section for Init {}
