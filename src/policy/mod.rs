//! What a proven user may start. Pure and synchronous: requests in, a [`Permit`] or a refusal out.

pub mod config;
mod env;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::engine::{ProcessSpec, Program, Terminal};
use crate::identity::Identity;

pub use config::EnvConfig;
pub use env::EnvRules;

/// What everybody may do, from the configuration.
#[derive(Clone, Debug, Default)]
pub struct Rules {
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

/// What a client asks to start (RFC 4254 §6.5), with all it said on the channel before.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// The program.
    pub start: Start,
    /// Variables that the client wants to set and that [`EnvRules::accepts`] let through.
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
    /// No such subsystem is configured.
    #[error("there is no subsystem {0:?}")]
    NoSuchSubsystem(String),
    /// No program can be given an argument with a NUL in it.
    #[error("the command has a NUL in it")]
    NulInCommand,
}

/// Decides whether `identity` may start what it asks for.
///
/// # Errors
/// [`Denied`] says why not.
pub fn decide(rules: &Rules, identity: &Identity, request: StartRequest) -> Result<Permit, Denied> {
    let program = match request.start {
        Start::Shell if rules.disable_shell => return Err(Denied::Disabled("shell")),
        Start::Shell if rules.shell_command.is_empty() => Program::LoginShell,
        Start::Shell => Program::Args(rules.shell_command.clone()),
        Start::Exec(_) if rules.disable_command => return Err(Denied::Disabled("exec")),
        Start::Exec(command) if command.contains(&0) => return Err(Denied::NulInCommand),
        Start::Exec(command) => Program::ShellCommand(command),
        Start::Subsystem(_) if rules.disable_subsystem => return Err(Denied::Disabled("subsystem")),
        Start::Subsystem(name) => match rules.subsystems.get(&name) {
            Some(args) => Program::Args(args.clone()),
            None => return Err(Denied::NoSuchSubsystem(name)),
        },
    };
    let mut env = request.env;
    env.extend(env::of_connection(request.client, request.server));
    let username = identity.username().to_string();
    Ok(Permit { process: ProcessSpec { program, env, terminal: request.terminal, username } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Username;

    fn ask(rules: &Rules, start: Start) -> Result<ProcessSpec, Denied> {
        let identity = Identity::proven(Username::parse("alice").unwrap());
        let client = SocketAddr::from(([192, 0, 2, 7], 50_000));
        let server = SocketAddr::from(([127, 0, 0, 1], 2222));
        let request = StartRequest { start, env: Vec::new(), terminal: None, client, server };
        decide(rules, &identity, request).map(Permit::redeem)
    }

    #[test]
    fn a_command_is_always_for_a_shell() {
        let process = ask(&Rules::default(), Start::Exec(b"/bin/echo a; /bin/echo b".to_vec())).unwrap();

        assert_eq!(process.program, Program::ShellCommand(b"/bin/echo a; /bin/echo b".to_vec()));
        assert_eq!(process.username, "alice");
    }

    /// V3
    #[test]
    fn a_program_learns_where_its_client_is() {
        let process = ask(&Rules::default(), Start::Shell).unwrap();

        assert!(process.env.contains(&("SSH_CONNECTION".into(), "192.0.2.7 50000 127.0.0.1 2222".into())));
        assert!(process.env.contains(&("SSH_CLIENT".into(), "192.0.2.7 50000 2222".into())));
    }

    #[test]
    fn what_is_switched_off_is_refused_and_the_rest_is_not() {
        let rules = Rules { disable_shell: true, disable_subsystem: true, ..Rules::default() };

        assert_eq!(ask(&rules, Start::Shell), Err(Denied::Disabled("shell")));
        assert_eq!(ask(&rules, Start::Subsystem("sftp".into())), Err(Denied::Disabled("subsystem")));
        assert!(ask(&rules, Start::Exec(b"true".to_vec())).is_ok());
        let rules = Rules { disable_command: true, ..Rules::default() };
        assert_eq!(ask(&rules, Start::Exec(b"true".to_vec())), Err(Denied::Disabled("exec")));
    }

    /// S3, S4
    #[test]
    fn a_subsystem_runs_as_configured_and_an_unknown_one_is_refused() {
        let args = vec!["/usr/lib/openssh/sftp-server".to_owned(), "-R".to_owned()];
        let rules =
            Rules { subsystems: BTreeMap::from([("sftp".to_owned(), args.clone())]), ..Rules::default() };

        assert_eq!(ask(&rules, Start::Subsystem("sftp".into())).unwrap().program, Program::Args(args));
        assert_eq!(ask(&rules, Start::Subsystem("x".into())), Err(Denied::NoSuchSubsystem("x".into())));
    }

    #[test]
    fn a_nul_in_a_command_is_refused() {
        assert_eq!(ask(&Rules::default(), Start::Exec(b"a\0b".to_vec())), Err(Denied::NulInCommand));
    }
}
