//! Commands that are forced upon a client.

use super::rules::Offer;
use super::{Denied, Start};
use crate::engine::Program;

/// What sshd calls its own sftp server, which needs no program in the image there.
const INTERNAL_SFTP: &str = "internal-sftp";

/// The subsystem that stands for it here.
const SFTP: &str = "sftp";

/// The variable in which a forced command finds what was asked for.
pub(super) const ORIGINAL_COMMAND: &str = "SSH_ORIGINAL_COMMAND";

/// The program of a forced command.
pub(super) fn program(command: &str, start: &Start, offer: &Offer) -> Result<Program, Denied> {
    let mut words = command.split_ascii_whitespace();
    if command.starts_with(INTERNAL_SFTP) && words.next() == Some(INTERNAL_SFTP) {
        // As with sshd, only a client that asks for a subsystem can talk to it.
        let Start::Subsystem(_) = start else { return Err(Denied::SftpOnly) };
        let Some(args) = offer.subsystems.get(SFTP) else {
            return Err(Denied::NoSuchSubsystem(SFTP.to_owned()));
        };
        return Ok(Program::Args(args.iter().cloned().chain(words.map(str::to_owned)).collect()));
    }
    if command.contains('\0') { Err(Denied::NulInCommand) } else { Ok(Program::ShellCommand(command.into())) }
}

/// What was asked for, as `SSH_ORIGINAL_COMMAND` says it; nothing for a shell.
pub(super) fn original(start: &Start, offer: &Offer) -> Result<Option<String>, Denied> {
    match start {
        Start::Shell => Ok(None),
        // In other words than the client's it could mean something else to the program that reads it.
        Start::Exec(command) => String::from_utf8(command.clone()).map(Some).map_err(|_| Denied::NotUtf8),
        Start::Subsystem(name) => match offer.subsystems.get(name) {
            Some(args) => Ok(Some(args.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" "))),
            None => Err(Denied::NoSuchSubsystem(name.clone())),
        },
    }
}

/// As one word of a POSIX shell.
fn quoted(arg: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.,:+@%/=".contains(&byte);
    if !arg.is_empty() && arg.bytes().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', r"'\''"))
    }
}
