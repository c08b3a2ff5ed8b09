//! The program that is to be started.

use super::limits::MODES_MAX;
use super::wire::{Malformed, Reader, Writer, without_nul};

/// What to start, and how. No string holds NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The program.
    pub program: Program,
    /// Variables, `NAME=VALUE`, on top of the container's own.
    pub env: Vec<Vec<u8>>,
    /// Its working directory; empty: as a login has it.
    pub cwd: Vec<u8>,
    /// `USER[:GROUP]` by name or number; empty: whoever the init runs as. Others take an init that runs as root.
    pub user: Vec<u8>,
    /// `USER` for a program whose user has no entry in the image's passwd.
    pub username: Vec<u8>,
    /// The terminal, if the program gets one.
    pub terminal: Option<Terminal>,
}

/// Which program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// The login shell of the user, else `/bin/sh`, as a login shell.
    LoginShell,
    /// `-c COMMAND` of the login shell, else of `/bin/sh`.
    ShellCommand(Vec<u8>),
    /// Exactly this program with these arguments; never empty.
    Args(Vec<Vec<u8>>),
}

/// A terminal's beginnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Character cells in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
    /// Encoded terminal modes: opcode and argument of RFC 4254 §8.
    pub modes: Vec<(u8, u32)>,
}

const LOGIN_SHELL: u8 = 0;
const SHELL_COMMAND: u8 = 1;
const ARGS: u8 = 2;

const NO_TERMINAL: u8 = 0;
const TERMINAL: u8 = 1;

impl Start {
    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        match &self.program {
            Program::LoginShell => to.u8(LOGIN_SHELL),
            Program::ShellCommand(command) => to.u8(SHELL_COMMAND).string(command),
            Program::Args(args) => to.u8(ARGS).strings(args),
        };
        to.strings(&self.env).string(&self.cwd).string(&self.user).string(&self.username);
        match &self.terminal {
            None => to.u8(NO_TERMINAL),
            Some(Terminal { columns, rows, modes }) => {
                to.u8(TERMINAL).u16(*columns).u16(*rows);
                to.u16(u16::try_from(modes.len()).unwrap_or(u16::MAX));
                modes.iter().fold(to, |to, (opcode, argument)| to.u8(*opcode).u32(*argument))
            }
        };
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let program = match from.u8()? {
            LOGIN_SHELL => Program::LoginShell,
            SHELL_COMMAND => Program::ShellCommand(without_nul(from.string()?)?.to_vec()),
            ARGS => match from.strings()? {
                args if args.is_empty() => return Err(Malformed("a program has no name")),
                args => Program::Args(args),
            },
            _ => return Err(Malformed("a program is of no known kind")),
        };
        let env = from.strings()?;
        let mut string = || from.string().and_then(without_nul).map(<[u8]>::to_vec);
        let (cwd, user, username) = (string()?, string()?, string()?);
        let terminal = match from.u8()? {
            NO_TERMINAL => None,
            TERMINAL => {
                let (columns, rows, count) = (from.u16()?, from.u16()?, usize::from(from.u16()?));
                if count > MODES_MAX {
                    return Err(Malformed("a list is too long"));
                }
                let modes = (0..count).map(|_| Ok((from.u8()?, from.u32()?))).collect::<Result<_, _>>()?;
                Some(Terminal { columns, rows, modes })
            }
            _ => return Err(Malformed("neither a terminal nor none")),
        };
        Ok(Self { program, env, cwd, user, username, terminal })
    }
}
