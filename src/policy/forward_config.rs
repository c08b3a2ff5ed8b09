//! The section `policy.forwarding` of the configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::Switch;
use super::place::{DialPattern, ListenPattern, PathPattern};
use crate::value::Section;

/// What may be forwarded, into the container and out of it. What is not set takes nothing away, but in the outermost
/// policy it is disabled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Forwarding")]
pub struct ForwardingConfig {
    /// What may be dialled from inside the container: `ssh -L`, `-D`, `-W`, `-J`.
    pub local: Option<Dialling>,
    /// Ports that may be listened on inside the container: `ssh -R`.
    pub remote: Option<Listening>,
    /// Unix sockets inside the container, to dial and to listen on: `ssh -L` and `-R` with paths.
    pub socket: Option<Sockets>,
    /// The authentication agent: `ssh -A`.
    pub agent: Option<Switch>,
    /// X11: `ssh -X`, `-Y`.
    pub x11: Option<Switch>,
}

/// What may be dialled.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Dialling {
    /// Everything but the container's neighbours.
    Enable,
    /// Nothing.
    Disable,
    /// These, as `host:port`: the host as the client writes it, or a pattern with `*` and `?`; the port a number or `*`.
    PermitOpen(Patterns<DialPattern>),
}

/// Which ports may be listened on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Listening {
    /// All, at the loopback.
    Enable,
    /// None.
    Disable,
    /// These, as `[host:]port`: at the loopback, unless the host that the client asks for stands here.
    PermitListen(Patterns<ListenPattern>),
}

/// Which unix sockets may be dialled and listened on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Sockets {
    /// All.
    Enable,
    /// None.
    Disable,
    /// These: absolute paths, where `*` stands for anything but `/` and `**` for that, too.
    PermitPaths(Patterns<PathPattern>),
}

/// A list with something in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(
    try_from = "Vec<T>",
    into = "Vec<T>",
    bound(deserialize = "T: Deserialize<'de>", serialize = "T: Clone + Serialize")
)]
#[schemars(with = "Vec<T>", rename = "PatternsOf{T}", extend("minItems" = 1))]
pub struct Patterns<T>(Vec<T>);

/// What a layer says about one way to forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word<'a, T> {
    /// Nothing at all.
    Unsaid,
    /// No.
    Nothing,
    /// All of it.
    All,
    /// These.
    These(&'a [T]),
}

impl Section for ForwardingConfig {}

impl<T> TryFrom<Vec<T>> for Patterns<T> {
    type Error = String;

    fn try_from(list: Vec<T>) -> Result<Self, String> {
        if list.is_empty() {
            Err("an empty list permits nothing: expected patterns, or `disable` in place of the list"
                .to_owned())
        } else {
            Ok(Self(list))
        }
    }
}

impl<T> From<Patterns<T>> for Vec<T> {
    fn from(patterns: Patterns<T>) -> Self {
        patterns.0
    }
}

impl ForwardingConfig {
    pub(super) fn local(&self) -> Word<'_, DialPattern> {
        match &self.local {
            None => Word::Unsaid,
            Some(Dialling::Enable) => Word::All,
            Some(Dialling::Disable) => Word::Nothing,
            Some(Dialling::PermitOpen(patterns)) => Word::These(&patterns.0),
        }
    }

    pub(super) fn remote(&self) -> Word<'_, ListenPattern> {
        match &self.remote {
            None => Word::Unsaid,
            Some(Listening::Enable) => Word::All,
            Some(Listening::Disable) => Word::Nothing,
            Some(Listening::PermitListen(patterns)) => Word::These(&patterns.0),
        }
    }

    pub(super) fn socket(&self) -> Word<'_, PathPattern> {
        match &self.socket {
            None => Word::Unsaid,
            Some(Sockets::Enable) => Word::All,
            Some(Sockets::Disable) => Word::Nothing,
            Some(Sockets::PermitPaths(patterns)) => Word::These(&patterns.0),
        }
    }

    pub(super) fn agent(&self) -> Word<'_, ()> {
        Word::of(self.agent)
    }

    pub(super) fn x11(&self) -> Word<'_, ()> {
        Word::of(self.x11)
    }

    /// Per way to forward whether something of it is given.
    fn gives(&self) -> [(&'static str, bool); 5] {
        [
            ("local", self.local().gives()),
            ("remote", self.remote().gives()),
            ("socket", self.socket().gives()),
            ("agent", self.agent().gives()),
            ("x11", self.x11().gives()),
        ]
    }

    /// The keys that give something here where the outermost policy gives nothing, and so do not.
    pub(super) fn in_vain_under<'a>(
        &'a self,
        outermost: &'a Self,
    ) -> impl Iterator<Item = &'static str> + 'a {
        let pairs = self.gives().into_iter().zip(outermost.gives());
        pairs.filter(|((_, here), (_, there))| *here && !there).map(|((key, _), _)| key)
    }
}

impl<T> Word<'_, T> {
    fn of(switch: Option<Switch>) -> Self {
        match switch {
            None => Self::Unsaid,
            Some(Switch::Enable) => Self::All,
            Some(Switch::Disable) => Self::Nothing,
        }
    }

    /// Whether it says yes to something.
    fn gives(&self) -> bool {
        matches!(self, Self::All | Self::These(_))
    }

    /// Whether it says yes to what `fits`.
    pub(super) fn permits(&self, fits: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::Unsaid | Self::Nothing => false,
            Self::All => true,
            Self::These(patterns) => patterns.iter().any(fits),
        }
    }

    /// Whether it does not say no to it.
    pub(super) fn spares(&self, fits: impl FnMut(&T) -> bool) -> bool {
        matches!(self, Self::Unsaid) || self.permits(fits)
    }

    /// The patterns, if it has some.
    pub(super) fn patterns(&self) -> &[T] {
        match self {
            Self::These(patterns) => patterns,
            _ => &[],
        }
    }
}
