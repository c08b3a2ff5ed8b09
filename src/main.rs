//! `coracle`: see [`coracle::cli`].

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use coracle::cli::{Cli, Failure};

/// Bad usage or configuration (`EX_USAGE` of `sysexits.h`).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help) => {
            let asked = matches!(help.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // A closed standard output leaves nobody to tell.
            drop(help.print());
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
        }
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(error)) => complain(&error.to_string(), EXIT_USAGE),
        Err(Failure::Runtime(error)) => complain(&format!("coracle: {error:#}"), 1),
    }
}

fn complain(text: &str, status: u8) -> ExitCode {
    // A closed standard error leaves nobody to tell.
    drop(writeln!(std::io::stderr(), "{text}"));
    ExitCode::from(status)
}
