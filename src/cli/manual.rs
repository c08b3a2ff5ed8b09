//! What other programs know of our command line: manual pages, and completions for shells. Both come from the types that
//! parse it, so that they name what there is.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, print};

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Args, Debug)]
pub(super) struct Manual {
    /// Write a page for each command into this folder instead, and completions into its `completions`
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Completions {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        print(&String::from_utf8(completions(self.shell))?)
    }
}

impl Manual {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let Some(folder) = &self.folder else {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page)?;
            return print(&String::from_utf8(page)?);
        };
        write(folder).with_context(|| format!("failed to write manual pages into `{}`", folder.display()))
    }
}

fn write(folder: &Path) -> anyhow::Result<()> {
    let for_shells = folder.join("completions");
    std::fs::create_dir_all(&for_shells)?;
    clap_mangen::generate_to(Cli::command(), folder)?;
    for shell in Shell::value_variants() {
        std::fs::write(for_shells.join(shell.to_string()), completions(*shell))?;
    }
    Ok(())
}

fn completions(shell: Shell) -> Vec<u8> {
    let mut command: Command = Cli::command();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "coracle", &mut text);
    text
}
