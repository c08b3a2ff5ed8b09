//! The command line.

mod init;
mod keys;
mod living;
mod manual;
mod operate;
mod passwd;
mod probe;
mod recordings;
mod reference;
mod replay;
mod serve;
mod starter;
mod terminal;
mod totp;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

pub use reference::reference;
pub use starter::of_packages as config_of_packages;

use crate::config::{self, Config, ConfigError};
use crate::doctor;
use crate::ssh::hostkey;

/// An SSH front end that gives every connection a container of its own.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a folder with a configuration, a host key, and the keys that may log in
    Init(init::Init),
    /// Serve SSH
    Serve(serve::Serve),
    /// Check, show or describe the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make host keys
    #[command(subcommand)]
    Hostkey(HostkeyCommand),
    /// Print the argon2id hash of a password, for `auth.users` in the configuration
    ///
    /// Asks for the password twice, or reads it from the first line of standard input if that is no terminal.
    Passwd,
    /// Set up one-time passwords
    #[command(subcommand)]
    Totp(TotpCommand),
    /// Look for what is wrong or weak in the configuration, its files, the engine and its host; changes nothing
    Doctor {
        /// Configuration [default: ./config.yaml, else /etc/coracle/config.yaml, else built in]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Play a recorded session
    Replay(replay::Replay),
    /// Look for recorded sessions
    #[command(subcommand)]
    Recordings(recordings::Recordings),
    /// Show the connections of a running server, what runs on them, and their containers
    Ps(operate::Ps),
    /// End connections of a running server, with their containers
    Kill(operate::Kill),
    /// End a running server once its sessions have ended, as SIGTERM does
    Drain(operate::Drain),
    /// Print what a shell needs to complete our command line
    Completions(manual::Completions),
    /// Print the manual page, as in `coracle man | man -l -`
    Man(manual::Manual),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether FILE is a valid configuration
    Check {
        /// The configuration to check
        file: PathBuf,
    },
    /// Print what is in effect, defaults included, with secrets masked
    Show {
        /// Configuration [default: ./config.yaml, else /etc/coracle/config.yaml, else built in]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the JSON schema of the configuration, for editors
    Schema,
    /// Print every key of the configuration with its type, default and meaning, as Markdown
    Reference,
}

#[derive(Debug, Subcommand)]
enum HostkeyCommand {
    /// Make a host key in FILE (never overwritten), and its public half in FILE.pub
    Generate {
        /// Kind of key
        #[arg(long = "type", value_enum, default_value_t)]
        kind: KeyKind,
        /// The file to make
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum TotpCommand {
    /// Make a secret for USER, and show it for an authenticator application
    Enroll(totp::Enroll),
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum KeyKind {
    /// For every client of the last ten years
    #[default]
    Ed25519,
    /// On the curve NIST P-256
    Ecdsa,
    /// Of 3072 bits; takes a while
    Rsa,
}

impl From<KeyKind> for hostkey::Kind {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Ed25519 => Self::Ed25519,
            KeyKind::Ecdsa => Self::Ecdsa,
            KeyKind::Rsa => Self::Rsa,
        }
    }
}

/// Why a command did not succeed; the kind decides the exit status.
#[derive(Debug)]
pub enum Failure {
    /// A configuration that cannot be used: exit status 64.
    Config(ConfigError),
    /// Anything else: exit status 1.
    Runtime(anyhow::Error),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(error)
    }
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// What kept it from being done.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Init(init) => Ok(init.run()?),
            Command::Serve(serve) => serve.run(),
            Command::Config(ConfigCommand::Check { file }) => check(&file),
            Command::Config(ConfigCommand::Show { config }) => show(config),
            Command::Config(ConfigCommand::Schema) => Ok(print(&schema()?)?),
            Command::Config(ConfigCommand::Reference) => Ok(print(&reference()?)?),
            Command::Hostkey(HostkeyCommand::Generate { kind, file }) => generate(&file, kind.into()),
            Command::Passwd => Ok(passwd::run()?),
            Command::Totp(TotpCommand::Enroll(enroll)) => Ok(enroll.run()?),
            Command::Doctor { config } => examine(config),
            Command::Replay(replay) => Ok(replay.run()?),
            Command::Recordings(recordings) => recordings.run(),
            Command::Ps(ps) => ps.run(),
            Command::Kill(kill) => kill.run(),
            Command::Drain(drain) => drain.run(),
            Command::Completions(completions) => Ok(completions.run()?),
            Command::Man(manual) => Ok(manual.run()?),
        }
    }
}

/// The JSON schema of the configuration.
///
/// # Errors
/// None in practice: the schema is made of types that JSON can express.
pub fn schema() -> anyhow::Result<String> {
    let schema = schemars::schema_for!(Config);
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}

fn check(file: &Path) -> Result<(), Failure> {
    let config = config::load(file)?;
    let warnings = config.warnings().into_iter().map(|warning| format!("warning: {warning}\n"));
    let report: String = warnings.chain([format!("{}: valid\n", file.display())]).collect();
    Ok(print(&report)?)
}

fn show(file: Option<PathBuf>) -> Result<(), Failure> {
    let config = load(file.or_else(config::usual_file).as_deref())?;
    let text = serde_saphyr::to_string(&config).context("failed to show the configuration")?;
    Ok(print(&text)?)
}

fn generate(file: &Path, kind: hostkey::Kind) -> Result<(), Failure> {
    let key = hostkey::generate(file, kind).map_err(anyhow::Error::from)?;
    Ok(print(&format!("{}\n", hostkey::fingerprint(&key)))?)
}

fn examine(file: Option<PathBuf>) -> Result<(), Failure> {
    let report = runtime()?.block_on(doctor::examine(file.or_else(config::usual_file).as_deref()));
    print(&report.to_string())?;
    match report.problems() {
        0 => Ok(()),
        1 => Err(Failure::Runtime(anyhow::anyhow!("there is 1 problem"))),
        count => Err(Failure::Runtime(anyhow::anyhow!("there are {count} problems"))),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("failed to start the runtime")
}

fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    match file {
        Some(file) => config::load(file),
        None => Ok(Config::default()),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough, as in `coracle config schema | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.context("failed to write to standard output"),
    }
}
