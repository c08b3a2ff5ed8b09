//! The first process of a container: starts programs on the server's request, reaps what ends, and ends when there is
//! no server any more. One thread, one poll; programs get nothing of it but what is theirs.

mod args;
mod bridge;
mod connection;
mod credit;
mod dial;
mod disposition;
mod flow;
mod fork;
mod forward;
mod frames;
mod launch;
mod linger;
mod listen;
mod listeners;
mod login;
mod made;
mod neighbours;
mod obey;
mod passwd;
mod processes;
mod queue;
mod reaper;
mod relay;
mod service;
mod signals;
mod socket;
mod terminal;
mod terminal_modes;
mod users;
mod verdict;

use std::io::{self, Write as _};
use std::process::ExitCode;

/// The command line is none that we know.
const BAD_USAGE: u8 = 64;

/// The system refused what we cannot do without.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let (text, status) = match args::parse(std::env::args_os().skip(1)) {
        Ok(mode) => match service::run(mode) {
            Ok(status) => return ExitCode::from(status),
            Err(error) => (error.to_string(), FAILED),
        },
        Err(usage) => (usage.to_owned(), BAD_USAGE),
    };
    // Nobody may be there to read it.
    drop(writeln!(io::stderr(), "coracle-init: {text}"));
    ExitCode::from(status)
}
