//! What a proven user may start. Pure and synchronous: requests in, a [`Permit`] or a refusal out.
//!
//! One rule combines what has a say: the configuration's `policy`, the profile's or group's, the user's, the options of
//! the key, the certificate, the hook, in this order from the outside in. **Each can only take away from what stands
//! above it**: something may be done if every layer permits it. Of commands that layers force the outermost one's is
//! run, and the smallest `maxSessions` holds. Layers are [`PolicyConfig`]s, put together by [`Rules::narrowed_by`]; the
//! last of all is the identity's own [`Restrictions`](crate::identity::Restrictions).

mod command;
pub mod config;
mod env;
mod filter;
mod force;
mod forward;
mod forward_config;
mod glob;
mod literal;
mod name;
mod place;
mod rules;

use std::net::SocketAddr;

use crate::engine::{ProcessSpec, Program, Terminal};
use crate::identity::Identity;

pub use command::CommandPattern;
pub use config::{EnvConfig, ForceCommand, PolicyConfig, Switch};
pub use env::EnvRules;
pub use filter::{Filter, Mode, Pattern, SignalName, SubsystemName};
pub use forward::{DialPermit, ListenPermit, decide_agent, decide_dial, decide_display, decide_listen};
pub use forward_config::{Dialling, ForwardingConfig, Listening, Patterns, Sockets};
pub use name::NamePattern;
pub use place::{DialPattern, ListenPattern, PathPattern};
pub use rules::{Offer, Rules};

/// What a client asks to start (RFC 4254 §6.5), with all it said on the channel before.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// The program.
    pub start: Start,
    /// Variables that the client wants to set and that [`Rules::accepts_variable`] let through.
    pub env: Vec<(String, String)>,
    /// The terminal, if one was asked for.
    pub terminal: Option<Terminal>,
    /// The client's address.
    pub client: SocketAddr,
    /// Our own address, as the client reached it.
    pub server: SocketAddr,
}

/// Which program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// `shell`
    Shell,
    /// `exec` with its command: bytes, since file names need not be UTF-8.
    Exec(Vec<u8>),
    /// `subsystem` with its name.
    Subsystem(String),
}

impl Start {
    /// The request's name (RFC 4254 §6.5).
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Exec(_) => "exec",
            Self::Subsystem(_) => "subsystem",
        }
    }

    /// The command or the subsystem's name, as text; empty for a shell.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Shell => String::new(),
            Self::Exec(command) => String::from_utf8_lossy(command).into_owned(),
            Self::Subsystem(name) => name.clone(),
        }
    }
}

/// Leave to start one process. Only [`decide`] makes one; [`Permit::redeem`] uses it up.
#[derive(Debug)]
pub struct Permit {
    process: ProcessSpec,
}

impl Permit {
    /// Spends it.
    #[must_use]
    pub fn redeem(self) -> ProcessSpec {
        self.process
    }

    /// What it is leave for.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.process.program
    }

    /// Whether the process gets a terminal.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.process.terminal.is_some()
    }
}

/// Why a request was refused; for our log, the client only learns that it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Its kind is switched off.
    #[error("{0} requests are switched off")]
    Disabled(&'static str),
    /// A policy does not permit it.
    #[error("the policy does not permit this {0} request")]
    AgainstPolicy(&'static str),
    /// A policy does not permit to forward it.
    #[error("the policy does not permit {0}")]
    ByPolicy(String),
    /// The key, the certificate, or another proof does not permit to forward it.
    #[error("the key or certificate does not permit {0}")]
    ByProof(String),
    /// It is out of reach unless the policy names it.
    #[error(
        "the policy does not permit {0}: a link-local address, or one of many, has to be named in the outermost `permitOpen`"
    )]
    Neighbour(String),
    /// Nothing of the kind is passed on.
    #[error("nobody is permitted {what}: {fault}")]
    Unsound {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// No such subsystem is configured.
    #[error("there is no subsystem {0:?}")]
    NoSuchSubsystem(String),
    /// No program can be given an argument with a NUL in it.
    #[error("the command has a NUL in it")]
    NulInCommand,
    /// A forced command cannot be told what was asked for.
    #[error("the command is not UTF-8, and another one is forced, which has to be told of it")]
    NotUtf8,
    /// `internal-sftp` is forced, and this is no client of it.
    #[error("`internal-sftp` is forced, and this is no subsystem request")]
    SftpOnly,
}

/// Decides whether `identity` may start what it asks for.
///
/// It may be asked again while the program runs, with rules that have changed. Variables are not judged here but by
/// [`Rules::accepts_variable`] as they come: one that is no longer accepted is no reason to end a program.
///
/// # Errors
/// [`Denied`] says why not.
pub fn decide(rules: &Rules, identity: &Identity, request: StartRequest) -> Result<Permit, Denied> {
    let StartRequest { start, mut env, terminal, client, server } = request;
    rules.judge(&start)?;
    if terminal.is_some() && !rules.permits_terminal(identity) {
        return Err(Denied::AgainstPolicy("pty-req"));
    }
    for (name, value) in identity.environment() {
        if env::may_come_with_a_proof(name, value) {
            env::set(&mut env, name, value.clone());
        }
    }
    for (name, value) in env::of_connection(client, server) {
        env::set(&mut env, &name, value);
    }
    let asked = program(&start, rules.offer())?;
    let forced = rules.force_command().or(identity.restrictions().force_command.as_deref());
    let program = match forced {
        None => asked,
        Some(command) => {
            if let Some(original) = force::original(&start, rules.offer())? {
                env::set(&mut env, force::ORIGINAL_COMMAND, original);
            }
            force::program(command, &start, rules.offer())?
        }
    };
    let username = identity.username().to_string();
    Ok(Permit { process: ProcessSpec { program, env, terminal, username } })
}

/// Variables that came with the proof of `identity` (a key's options, a hook) and that no program gets, by name: for
/// whoever keeps the log.
#[must_use]
pub fn variables_left_out(identity: &Identity) -> Vec<&str> {
    let environment = identity.environment().iter();
    let left_out = environment.filter(|(name, value)| !env::may_come_with_a_proof(name, value));
    left_out.map(|(name, _)| name.as_str()).collect()
}

/// What runs if nothing is forced.
fn program(start: &Start, offer: &Offer) -> Result<Program, Denied> {
    match start {
        Start::Shell if offer.shell_command.is_empty() => Ok(Program::LoginShell),
        Start::Shell => Ok(Program::Args(offer.shell_command.clone())),
        Start::Exec(command) if command.contains(&0) => Err(Denied::NulInCommand),
        Start::Exec(command) => Ok(Program::ShellCommand(command.clone())),
        Start::Subsystem(name) => match offer.subsystems.get(name) {
            Some(args) => Ok(Program::Args(args.clone())),
            None => Err(Denied::NoSuchSubsystem(name.clone())),
        },
    }
}

#[cfg(test)]
mod tests;
