//! `coracle totp enroll`: makes a secret, shows it for an authenticator application, and keeps it in a file.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use super::{print, terminal};
use crate::auth::{TimeStep, TotpSecret};
use crate::ids::Username;

/// Codes that somebody may try before the secret is dropped.
const TRIES_MAX: usize = 3;
/// Longest line that is looked at for a code, in bytes.
const CODE_LINE_BYTES_MAX: usize = 64;
/// White on black, whatever the terminal's colours are; and back to them.
const WHITE_ON_BLACK: &str = "\x1b[97;40m";
const USUAL_COLOURS: &str = "\x1b[0m";

#[derive(Args, Debug)]
pub(super) struct Enroll {
    /// Whom the codes are for, as in `auth.users`
    #[arg(value_parser = username)]
    user: Username,
    /// File to keep the secret in [default: USER.totp in the working folder]
    #[arg(long)]
    file: Option<PathBuf>,
    /// What the application calls this service
    #[arg(long, value_name = "NAME", default_value = "Coracle", value_parser = NonEmptyStringValueParser::new())]
    issuer: String,
    /// Replace FILE, and with it the secret that USER has now
    #[arg(long)]
    force: bool,
    /// Do not ask for a code before keeping the secret
    #[arg(long)]
    no_check: bool,
}

impl Enroll {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let file = self.file()?;
        // Before anything is scanned: what follows would be in vain.
        ensure!(self.force || !file.exists(), exists(&file));
        ensure!(folder_of(&file).is_dir(), "there is no folder `{}`", folder_of(&file).display());
        let secret = TotpSecret::random()?;
        let url = secret.expose_url(&self.issuer, self.user.as_str());
        let picture = picture(&url, io::stdout().is_terminal())?;
        print(&format!(
            "Scan this with an authenticator application:\n\n{picture}\n\
             or type the secret in:  {}\nor hand the URL over:   {url}\n\n",
            in_groups(&secret.expose_base32())
        ))?;
        // Only then is it kept: one that is in no application would shut its user out.
        if io::stdin().is_terminal() && !self.no_check {
            check(&secret)?;
        }
        keep(&file, &url, self.force)?;
        print(&format!(
            "`{}` has the secret. It goes into the configuration as\n\n{}",
            file.display(),
            snippet(&self.user, &file)?
        ))
    }

    fn file(&self) -> anyhow::Result<PathBuf> {
        let Some(file) = &self.file else {
            ensure!(
                self.user.is_path_component(),
                "`{}` makes no name of a file; give one by --file",
                self.user
            );
            return Ok(PathBuf::from(format!("{}.totp", self.user)));
        };
        Ok(file.clone())
    }
}

fn username(text: &str) -> Result<Username, String> {
    Username::parse(text)
        .ok_or_else(|| "no user name: empty, too long, or with invisible characters".to_owned())
}

/// A QR code in half blocks, light ones on a dark ground as terminals mostly have.
fn picture(url: &str, in_colour: bool) -> anyhow::Result<String> {
    let code =
        QrCode::with_error_correction_level(url, EcLevel::L).context("names too long for a QR code")?;
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let (start, end) = if in_colour { (WHITE_ON_BLACK, USUAL_COLOURS) } else { ("", "") };
    Ok(picture.lines().flat_map(|line| [start, line, end, "\n"]).collect())
}

/// Four letters at a time, as people type them.
fn in_groups(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(4).map(String::from_iter).collect::<Vec<_>>().join(" ")
}

/// Asks for codes until one is right.
fn check(secret: &TotpSecret) -> anyhow::Result<()> {
    let mut question = "Code that the application shows now: ";
    for _ in 0..TRIES_MAX {
        let code = terminal::ask(question, CODE_LINE_BYTES_MAX)?;
        if secret.step_of(&code, TimeStep::now()).is_some() {
            return Ok(());
        }
        question = "That is not the code of this moment; are both clocks right? Code: ";
    }
    bail!("no code was right; nothing was kept, and the application's entry is worthless")
}

/// Writes a file as a whole or not at all, readable by its owner alone from the first moment.
fn keep(file: &Path, url: &str, force: bool) -> anyhow::Result<()> {
    let write = || {
        let mut aside = tempfile::NamedTempFile::new_in(folder_of(file))?;
        writeln!(aside, "{url}")?;
        aside.as_file().sync_all()?;
        let kept = if force { aside.persist(file) } else { aside.persist_noclobber(file) };
        kept.map(drop).map_err(|error| error.error)
    };
    match write() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(exists(file)),
        outcome => outcome.with_context(|| format!("failed to write `{}`", file.display())),
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn exists(file: &Path) -> String {
    format!("`{}` exists; --force replaces the secret in it", file.display())
}

/// What the configuration needs, with the path as it is seen from anywhere.
fn snippet(user: &Username, file: &Path) -> anyhow::Result<String> {
    let file = std::path::absolute(file)?;
    let user = BTreeMap::from([(user.as_str(), BTreeMap::from([("totpFile", file)]))]);
    let section = BTreeMap::from([("auth", BTreeMap::from([("users", user)]))]);
    Ok(serde_saphyr::to_string(&section)?)
}
