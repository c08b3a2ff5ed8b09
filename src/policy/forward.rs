//! What may be dialled and listened on inside the container (RFC 4254 §7), and the agent and X11 (§6.3).
//!
//! Names are held against patterns as the client writes them, as at sshd: nothing is resolved here. What a name turns out
//! to be is seen to where it is resolved, inside the container ([`DialSpec::spares_neighbours`]).

use std::net::IpAddr;

use super::forward_config::{ForwardingConfig, Word};
use super::place::{Spot, fault_of_host, fault_of_path};
use super::{Denied, Rules, literal};
use crate::engine::{Address, DialSpec, ListenSpec};
use crate::identity::Identity;
use crate::secret::Secret;

/// The only authorization protocol of X11 that clients use, and that we check.
const COOKIE_PROTOCOL: &str = "MIT-MAGIC-COOKIE-1";
/// Bytes of a cookie. Everybody's have 16.
const COOKIE_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// Letters of what was asked for that the log gets.
const SHOWN_LETTERS_MAX: usize = 128;

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
    let what = asked("to dial", to);
    let restrictions = identity.restrictions();
    if restrictions.no_port_forwarding {
        return Err(Denied::ByProof(what));
    }
    let (host, port) = match to {
        Address::Tcp { host, port } => (host.as_str(), *port),
        Address::Unix { path } => {
            // As at sshd: `permitopen` has no words for sockets, so it permits none.
            judge_socket(rules, path, what, !restrictions.permit_open.is_empty())?;
            return Ok(DialPermit(DialSpec { to: to.clone(), spares_neighbours: true }));
        }
    };
    if let Some(fault) = fault_of_destination(host, port) {
        return Err(Denied::Unsound { what, fault });
    }
    if !rules.forwards(ForwardingConfig::local, |pattern| pattern.fits(host, port)) {
        return Err(Denied::ByPolicy(what));
    }
    let fits = |entry: &String| Spot::parse(entry).is_some_and(|spot| spot.fits_without_globs(host, port));
    if !restrictions.permit_open.iter().all(|list| list.iter().any(fits)) {
        return Err(Denied::ByProof(what));
    }
    // Neighbours are something that `enable` and `*` do not give; so only the outermost layer can give them.
    let outermost = rules.outermost_forwarding().map_or(Word::Unsaid, ForwardingConfig::local);
    let named = outermost.patterns().iter().any(|pattern| pattern.names() && pattern.fits(host, port));
    if !named && literal::is_out_of_reach(host) {
        return Err(Denied::Neighbour(what));
    }
    Ok(DialPermit(DialSpec { to: to.clone(), spares_neighbours: !named }))
}

/// Decides whether `identity` may have this listened on (`tcpip-forward`, `streamlocal-forward@openssh.com`), and where that
/// is: as at sshd, a client that asks for all addresses gets the loopback unless a pattern names what it asks for.
///
/// # Errors
/// [`Denied`] says why not.
pub fn decide_listen(rules: &Rules, identity: &Identity, at: &Address) -> Result<ListenPermit, Denied> {
    let what = asked("to listen on", at);
    let restrictions = identity.restrictions();
    if restrictions.no_port_forwarding {
        return Err(Denied::ByProof(what));
    }
    let (host, port) = match at {
        Address::Tcp { host, port } => (host.as_str(), *port),
        Address::Unix { path } => {
            // Stricter than sshd, where `permitlisten` does not keep anybody from listening on sockets.
            judge_socket(rules, path, what, !restrictions.permit_listen.is_empty())?;
            return Ok(ListenPermit(ListenSpec::At(at.clone())));
        }
    };
    if let Some(fault) = fault_of_host(host) {
        return Err(Denied::Unsound { what, fault });
    }
    if !rules.forwards(ForwardingConfig::remote, |pattern| pattern.fits(host, port)) {
        return Err(Denied::ByPolicy(what));
    }
    let fits = |entry: &String| Spot::parse(entry).is_some_and(|spot| spot.fits(host, port));
    if !restrictions.permit_listen.iter().all(|list| list.iter().any(fits)) {
        return Err(Denied::ByProof(what));
    }
    // More than the loopback is something that `enable` and `*` do not give; so only the outermost layer can give it.
    let outermost = rules.outermost_forwarding().map_or(Word::Unsaid, ForwardingConfig::remote);
    let named = outermost.patterns().iter().any(|pattern| pattern.names(host) && pattern.fits(host, port));
    let host = if named { named_host(host) } else { "localhost" };
    Ok(ListenPermit(ListenSpec::At(Address::Tcp { host: host.to_owned(), port })))
}

/// Decides whether `identity` may have its agent forwarded (`auth-agent-req@openssh.com`).
///
/// # Errors
/// [`Denied`] says why not.
pub fn decide_agent(rules: &Rules, identity: &Identity) -> Result<ListenPermit, Denied> {
    let what = "to forward the authentication agent".to_owned();
    if !rules.forwards(ForwardingConfig::agent, |()| false) {
        return Err(Denied::ByPolicy(what));
    }
    if identity.restrictions().no_agent_forwarding {
        return Err(Denied::ByProof(what));
    }
    Ok(ListenPermit(ListenSpec::Agent))
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
    let what = "to forward X11".to_owned();
    if !rules.forwards(ForwardingConfig::x11, |()| false) {
        return Err(Denied::ByPolicy(what));
    }
    if identity.restrictions().no_x11_forwarding {
        return Err(Denied::ByProof(what));
    }
    if protocol != COOKIE_PROTOCOL {
        return Err(Denied::Unsound { what, fault: "its authorization is not MIT-MAGIC-COOKIE-1" });
    }
    if !COOKIE_BYTES.contains(&cookie.expose().len()) {
        return Err(Denied::Unsound { what, fault: "its cookie does not have 16 to 64 bytes" });
    }
    Ok(ListenPermit(ListenSpec::Display { protocol: protocol.to_owned(), cookie }))
}

/// Judges a socket of the file system, in either direction.
fn judge_socket(rules: &Rules, path: &str, what: String, ports_only: bool) -> Result<(), Denied> {
    if let Some(fault) = fault_of_path(path) {
        return Err(Denied::Unsound { what, fault });
    }
    if !rules.forwards(ForwardingConfig::socket, |pattern| pattern.fits(path)) {
        return Err(Denied::ByPolicy(what));
    }
    if ports_only { Err(Denied::ByProof(what)) } else { Ok(()) }
}

fn fault_of_destination(host: &str, port: u16) -> Option<&'static str> {
    match (host, port) {
        ("", _) => Some("it has no host"),
        (_, 0) => Some("it has no port"),
        _ => fault_of_host(host),
    }
}

/// Where a host that a pattern names is: the loopback for names, since we resolve none.
fn named_host(host: &str) -> &str {
    if host.is_empty() || host.parse::<IpAddr>().is_ok() { host } else { "localhost" }
}

/// For the log: what was asked for, shortened, with nothing in it that a log could trip over.
fn asked(verb: &str, address: &Address) -> String {
    let text = address.to_string();
    let shown: String = text.chars().take(SHOWN_LETTERS_MAX).collect();
    let ellipsis = if shown.len() < text.len() { "…" } else { "" };
    format!("{verb} `{}{ellipsis}`", shown.escape_debug())
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
