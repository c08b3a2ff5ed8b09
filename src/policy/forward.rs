//! What may be dialled and listened on inside the container (RFC 4254 §7), and the agent and X11 (§6.3).

use super::{Denied, Rules};
use crate::engine::{Address, DialSpec, ListenSpec};
use crate::identity::Identity;
use crate::secret::Secret;

/// Leave to dial once. Only [`decide_dial`] makes one.
#[derive(Debug)]
pub struct DialPermit(DialSpec);

/// Leave to listen once. Only the functions of this module make one.
#[derive(Debug)]
pub struct ListenPermit(ListenSpec);

impl DialPermit {
    /// Spends it.
    #[must_use]
    pub fn redeem(self) -> DialSpec {
        self.0
    }
}

impl ListenPermit {
    /// Spends it.
    #[must_use]
    pub fn redeem(self) -> ListenSpec {
        self.0
    }
}

/// Decides whether `identity` may have this dialled (`direct-tcpip`, `direct-streamlocal@openssh.com`).
///
/// # Errors
/// [`Denied`] says why not.
pub fn decide_dial(rules: &Rules, identity: &Identity, to: &Address) -> Result<DialPermit, Denied> {
    let _ = (rules, identity, to);
    Err(Denied::AgainstPolicy("direct-tcpip"))
}

/// Decides whether `identity` may have this listened on (`tcpip-forward`, `streamlocal-forward@openssh.com`), and where that
/// is: as at sshd, a client that asks for all addresses gets the loopback unless a pattern names what it asks for.
///
/// # Errors
/// [`Denied`] says why not.
pub fn decide_listen(rules: &Rules, identity: &Identity, at: &Address) -> Result<ListenPermit, Denied> {
    let _ = (rules, identity, at);
    Err(Denied::AgainstPolicy("tcpip-forward"))
}

/// Decides whether `identity` may have its agent forwarded (`auth-agent-req@openssh.com`).
///
/// # Errors
/// [`Denied`] says why not.
pub fn decide_agent(rules: &Rules, identity: &Identity) -> Result<ListenPermit, Denied> {
    let _ = (rules, identity, ListenPermit(ListenSpec::Agent));
    Err(Denied::AgainstPolicy("auth-agent-req"))
}

/// Decides whether `identity` may have X11 forwarded (`x11-req`), with this cookie for its programs.
///
/// # Errors
/// [`Denied`] says why not.
pub fn decide_display(
    rules: &Rules,
    identity: &Identity,
    protocol: &str,
    cookie: Secret<Vec<u8>>,
) -> Result<ListenPermit, Denied> {
    let _ = (rules, identity, protocol, cookie);
    Err(Denied::AgainstPolicy("x11-req"))
}
