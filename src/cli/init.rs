//! `coracle init`: a folder with all that a server needs, to begin with. Never overwrites.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::keys::{Keys, Trust};
use super::probe::{self, Image};
use super::starter::{self, PullPolicy, Starter};
use super::{print, runtime};
use crate::config::Config;
use crate::engine::docker::Endpoint;
use crate::ssh::hostkey;

const CONFIG: &str = "config.yaml";
const KEYS: &str = "authorized_keys";
const HOST_KEY: &str = "ssh_host_ed25519_key";
const STATE: &str = "state";

/// Only for the user who runs the server: the configuration may come to hold secrets, and who may log in is nobody
/// else's business.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

#[derive(Args, Debug)]
pub(super) struct Init {
    /// The folder, made where there is none
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// What users' containers are made of [default: coracle/guest]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    image: Option<String>,
    /// Address and port to listen on [default: 127.0.0.1:2222]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Public keys that may log in, as in `authorized_keys`; - is standard input [default: ~/.ssh/*.pub]
    #[arg(long, value_name = "FILE", conflicts_with = "github_keys")]
    keys: Option<PathBuf>,
    /// The same from a file as `https://github.com/USER.keys` gives it: keys alone, options do not count
    #[arg(long, value_name = "FILE")]
    github_keys: Option<PathBuf>,
    /// Where the container engine answers [default: `unix:///var/run/docker.sock`]
    #[arg(long, value_name = "URL")]
    engine: Option<Endpoint>,
}

impl Init {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let file = self.folder.join(CONFIG);
        ensure!(!file.exists(), "`{}` exists and is not overwritten; nothing was changed", file.display());
        let keys = self.keys()?;
        let (mut starter, found) = (self.starter(), self.look()?);
        if matches!(found, Ok(Image::Present)) {
            starter.pull_policy = PullPolicy::Never;
        }
        // Before anything is made: what cannot be configured is refused here.
        starter.read(&file)?;
        let mut made = String::new();
        let folder = std::fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.folder);
        folder.with_context(|| format!("the folder `{}` cannot be made", self.folder.display()))?;
        self.make_host_key(&mut made)?;
        self.make_keys(keys.as_ref(), &mut made)?;
        write_new(&file, &starter.to_yaml())?;
        writeln!(made, "made {}: the configuration", file.display())?;
        for warning in keys.iter().flat_map(Keys::warnings) {
            writeln!(made, "{warning}")?;
        }
        made += &told_of_engine(&found, &starter.image);
        print(&format!("{made}\n{}", next(&file, starter.listen)))
    }

    /// `None`: there is a file with keys already.
    fn keys(&self) -> anyhow::Result<Option<Keys>> {
        let file = self.folder.join(KEYS);
        let named = self.keys.as_ref().or(self.github_keys.as_ref());
        if file.exists() {
            ensure!(
                named.is_none(),
                "`{}` exists and is not overwritten: add your keys to it, or remove it; nothing was changed",
                file.display()
            );
            return Ok(None);
        }
        match (&self.keys, &self.github_keys) {
            (Some(file), _) => Keys::of_file(file, Trust::Options),
            (None, Some(file)) => Keys::of_file(file, Trust::KeysAlone),
            (None, None) => Keys::of_home(std::env::home_dir()),
        }
        .map(Some)
    }

    fn starter(&self) -> Starter {
        let defaults = Config::default();
        Starter {
            listen: self.listen.unwrap_or_else(starter::usual_address),
            image: self.image.clone().or(defaults.docker.config.container.image).unwrap_or_default(),
            pull_policy: PullPolicy::IfNotPresent,
            engine: self.engine.clone().unwrap_or(defaults.docker.host),
            keys: KEYS.to_owned(),
            host_key: Some(PathBuf::from(HOST_KEY)),
            state_dir: PathBuf::from(STATE),
        }
    }

    /// What the engine has. That there is none is no obstacle: the server may be meant for later, or for elsewhere.
    fn look(&self) -> anyhow::Result<anyhow::Result<Image>> {
        let (config, _) = self.starter().read(&self.folder.join(CONFIG))?;
        Ok(runtime()?.block_on(probe::look(&config)))
    }

    fn make_host_key(&self, made: &mut String) -> anyhow::Result<()> {
        let file = self.folder.join(HOST_KEY);
        if file.exists() {
            writeln!(made, "kept {}: the host key", file.display())?;
            return Ok(());
        }
        let key = hostkey::generate(&file, hostkey::Kind::Ed25519)?;
        writeln!(made, "made {}: the host key, {}", file.display(), hostkey::fingerprint(&key))?;
        Ok(())
    }

    fn make_keys(&self, keys: Option<&Keys>, made: &mut String) -> anyhow::Result<()> {
        let file = self.folder.join(KEYS);
        let Some(keys) = keys else {
            writeln!(made, "kept {}: the keys that may log in", file.display())?;
            return Ok(());
        };
        write_new(&file, &keys.to_text())?;
        let (file, count) = (file.display(), keys.lines.len());
        let what = if count == 1 { "key that may log in" } else { "keys that may log in" };
        writeln!(made, "made {file}: {count} {what}, from {}", keys.places.join(", "))?;
        Ok(())
    }
}

fn told_of_engine(found: &anyhow::Result<Image>, image: &str) -> String {
    match found {
        Ok(Image::Present) => String::new(),
        Ok(Image::Absent) => format!(
            "note: the engine does not have `{image}` yet: it is pulled at the first login, or by `docker pull {}`\n",
            quoted(image)
        ),
        Err(error) => format!("note: {error:#}\n"),
    }
}

/// What to type now.
fn next(file: &Path, listen: SocketAddr) -> String {
    let serve = format!("coracle serve --config {}", quoted(&file.display().to_string()));
    format!("Next:     {serve}\nand then: {}\n", ssh_line(listen))
}

/// How a client comes to a server that listens there, as seen from the same machine.
pub(super) fn ssh_line(listen: SocketAddr) -> String {
    let host = match listen.ip() {
        ip if !ip.is_unspecified() => ip.to_string(),
        ip if ip.is_ipv6() => "::1".to_owned(),
        _ => "127.0.0.1".to_owned(),
    };
    format!("ssh -p {} you@{host}", listen.port())
}

/// As one word to a shell.
fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@+=,~%".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('~') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Writes a file as a whole, or not at all, and only where there is none.
fn write_new(file: &Path, text: &str) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut aside = tempfile::NamedTempFile::new_in(folder)?;
        aside.write_all(text.as_bytes())?;
        aside.as_file().set_permissions(std::fs::Permissions::from_mode(FILE_MODE))?;
        aside.as_file().sync_all()?;
        aside.persist_noclobber(file).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| format!("`{}` cannot be written", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_an_address_that_it_can_connect_to() {
        for (listen, line) in [
            ("127.0.0.1:2222", "ssh -p 2222 you@127.0.0.1"),
            ("0.0.0.0:22", "ssh -p 22 you@127.0.0.1"),
            ("[::]:22", "ssh -p 22 you@::1"),
            ("192.0.2.1:2022", "ssh -p 2022 you@192.0.2.1"),
        ] {
            assert_eq!(ssh_line(listen.parse().unwrap()), line);
        }
    }

    #[test]
    fn a_path_is_one_word_to_a_shell() {
        assert_eq!(quoted("./a/config.yaml"), "./a/config.yaml");
        assert_eq!(quoted("a b/it's.yaml"), r"'a b/it'\''s.yaml'");
        assert_eq!(quoted("~x"), "'~x'");
    }
}
