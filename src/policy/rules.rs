//! What somebody may do: an offer, and the layers that take away from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::PolicyConfig;
use super::env::EnvRules;
use super::forward_config::{ForwardingConfig, Word};
use super::{Denied, Start};
use crate::engine::Signal;
use crate::identity::Identity;

/// What there is to be had, before any policy.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// `shell` requests are refused.
    pub disable_shell: bool,
    /// `exec` requests are refused.
    pub disable_command: bool,
    /// `subsystem` requests are refused.
    pub disable_subsystem: bool,
    /// The shell of `shell` requests; empty for the login shell of the container's user.
    pub shell_command: Vec<String>,
    /// Subsystems by name: program and arguments, never empty.
    pub subsystems: BTreeMap<String, Vec<String>>,
    /// Which variables a client may set.
    pub env: EnvRules,
}

/// What somebody may do: what the [`Offer`] has and every layer permits. So no layer can give what one above it took.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    offer: Arc<Offer>,
    /// From the outermost to the innermost.
    layers: Vec<Arc<PolicyConfig>>,
}

impl Rules {
    /// All of the offer.
    #[must_use]
    pub fn new(offer: Offer) -> Self {
        Self { offer: Arc::new(offer), layers: Vec::new() }
    }

    /// These rules under one more layer, the innermost so far.
    #[must_use]
    pub fn narrowed_by(&self, layer: &PolicyConfig) -> Self {
        let mut narrowed = self.clone();
        let says_nothing = *layer == PolicyConfig::default();
        // The outermost layer counts also where it says nothing: it does not permit to forward.
        if self.layers.is_empty() || !says_nothing && !self.layers.iter().any(|known| **known == *layer) {
            narrowed.layers.push(Arc::new(layer.clone()));
        }
        narrowed
    }

    /// Sessions at a time on one connection, where the connection itself allows `limit`.
    #[must_use]
    pub fn sessions_max(&self, limit: usize) -> usize {
        let most = self.layers.iter().filter_map(|layer| layer.max_sessions).map(usize::from);
        most.fold(limit, usize::min)
    }

    /// Whether a client's variable may join those that its channel has `set` already.
    #[must_use]
    pub fn accepts_variable(&self, name: &str, value: &str, set: &[(String, String)]) -> bool {
        self.offer.env.accepts(name, value, set) && self.layers.iter().all(|layer| layer.env.permits(name))
    }

    /// Whether somebody may have a terminal.
    #[must_use]
    pub fn permits_terminal(&self, identity: &Identity) -> bool {
        !identity.restrictions().no_terminal && self.layers.iter().all(|layer| layer.pty.is_on())
    }

    /// Whether a signal may be sent to a program.
    #[must_use]
    pub fn permits_signal(&self, signal: Signal) -> bool {
        self.layers.iter().all(|layer| layer.signals.permits(&signal))
    }

    /// Whether anything can be forwarded at all, whoever it is.
    #[must_use]
    pub fn may_forward(&self) -> bool {
        self.forwards(ForwardingConfig::local, |_| true)
            || self.forwards(ForwardingConfig::remote, |_| true)
            || self.forwards(ForwardingConfig::socket, |_| true)
            || self.forwards(ForwardingConfig::agent, |()| true)
            || self.forwards(ForwardingConfig::x11, |()| true)
    }

    /// Whether every layer permits what `fits` a pattern, of the way to forward that `word` is about. The outermost one
    /// has to say so.
    pub(super) fn forwards<'a, T: 'a>(
        &'a self,
        word: impl Fn(&'a ForwardingConfig) -> Word<'a, T>,
        fits: impl Fn(&T) -> bool,
    ) -> bool {
        self.outermost_forwarding().is_some_and(|outermost| word(outermost).permits(&fits))
            && self.layers.iter().all(|layer| word(&layer.forwarding).spares(&fits))
    }

    /// What the outermost layer says about forwarding.
    pub(super) fn outermost_forwarding(&self) -> Option<&ForwardingConfig> {
        self.layers.first().map(|layer| &layer.forwarding)
    }

    pub(super) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// What runs instead of anything asked for. Two layers may force commands that differ, and nobody can obey both:
    /// the outermost holds.
    pub(super) fn force_command(&self) -> Option<&str> {
        self.layers.iter().find_map(|layer| layer.force_command.get())
    }

    /// Judges what a client asks for; a command that is forced upon it is not its own and not judged.
    pub(super) fn judge(&self, start: &Start) -> Result<(), Denied> {
        let layers = || self.layers.iter();
        let (offered, permitted, kind) = match start {
            Start::Shell => (!self.offer.disable_shell, layers().all(|layer| layer.shell.is_on()), "shell"),
            Start::Exec(command) => {
                (!self.offer.disable_command, layers().all(|layer| layer.command.permits(command)), "exec")
            }
            Start::Subsystem(name) => (
                !self.offer.disable_subsystem,
                layers().all(|layer| layer.subsystem.permits(name)),
                "subsystem",
            ),
        };
        match (offered, permitted) {
            (true, true) => Ok(()),
            (false, _) => Err(Denied::Disabled(kind)),
            (true, false) => Err(Denied::AgainstPolicy(kind)),
        }
    }
}
