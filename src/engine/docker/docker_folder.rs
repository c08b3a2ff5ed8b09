//! Credentials as people's `docker` keeps them: `config.json`, and the helper programs that it names
//! (<https://docs.docker.com/reference/cli/docker/login/#credential-stores>).

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::Registry;
use super::credentials::{CredentialError, Login, read};
use crate::secret::Secret;

/// Far more than any such file has.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A helper may have to ask a service; a person waits for it.
const HELPER_DEADLINE: Duration = Duration::from_secs(10);

/// Far more than any answer of a helper has.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What a helper says that has nothing for a registry.
const NOT_FOUND: &str = "credentials not found";

/// The user name under which helpers hand out tokens.
const TOKEN_USERNAME: &str = "<token>";

/// A folder with docker's `config.json`.
#[derive(Clone, Debug, Default)]
pub struct DockerFolder {
    path: Option<PathBuf>,
    /// Where helpers are looked for instead of the process's own `PATH`.
    helper_path: Option<OsString>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: HashMap<String, Entry>,
    creds_store: String,
    cred_helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    /// `username:password` in base64.
    auth: Secret<String>,
    identitytoken: Secret<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: Secret<String>,
}

impl DockerFolder {
    /// A folder, with the list of folders (as in `PATH`) that helpers are looked for in.
    #[must_use]
    pub fn new(path: PathBuf, helper_path: OsString) -> Self {
        Self { path: Some(path), helper_path: Some(helper_path) }
    }

    /// Where `docker` would look: in `DOCKER_CONFIG`, else in `.docker` in the home folder.
    #[must_use]
    pub fn of_this_process() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || variable("HOME").map(|home| Path::new(&home).join(".docker"));
        Self { path: variable("DOCKER_CONFIG").map(PathBuf::from).or_else(home), helper_path: None }
    }

    /// What is kept for `registry`, read anew: a `docker login` counts at once. Cancel safe.
    pub(super) async fn login(&self, registry: &Registry) -> Result<Option<Login>, CredentialError> {
        let Some(path) = self.path.as_ref().map(|folder| folder.join("config.json")) else { return Ok(None) };
        let bytes = match read(&path, FILE_BYTES_MAX).await {
            Err(CredentialError::Unreadable { reason, .. }) if is_absent(&reason) => return Ok(None),
            read => read?,
        };
        let malformed = |reason| CredentialError::Malformed { path: path.clone(), reason };
        // The parser's own words might quote a secret.
        let file: File =
            serde_json::from_slice(&bytes).map_err(|_| malformed("it is not the JSON expected"))?;
        let store = Some(&file.creds_store).filter(|name| !name.is_empty());
        if let Some(helper) = entry(&file.cred_helpers, registry).or(store)
            && let Some(login) = self.ask(helper, registry).await?
        {
            return Ok(Some(login));
        }
        match entry(&file.auths, registry) {
            Some(entry) => entry.login().map_err(malformed),
            None => Ok(None),
        }
    }

    /// `docker-credential-NAME get`: the registry goes in, JSON comes out.
    async fn ask(&self, name: &str, registry: &Registry) -> Result<Option<Login>, CredentialError> {
        let helper = format!("docker-credential-{name}");
        let failed = |reason: String| CredentialError::Helper { helper: helper.clone(), reason };
        let sound = |letter: u8| letter.is_ascii_alphanumeric() || b".-_".contains(&letter);
        if name.is_empty() || !name.bytes().all(sound) {
            return Err(failed("has no name that a program could have".to_owned()));
        }
        let answered = timeout(HELPER_DEADLINE, self.run(&helper, registry.key())).await;
        let (status, answer) = answered
            .map_err(|_| failed(format!("took longer than {}", humantime::format_duration(HELPER_DEADLINE))))?
            .map_err(|error| failed(format!("cannot be run: {error}")))?;
        if !status.success() {
            // Its words are not passed on: nobody knows what they hold.
            let says_so = String::from_utf8_lossy(&answer).contains(NOT_FOUND);
            return if says_so { Ok(None) } else { Err(failed(format!("failed ({status})"))) };
        }
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|_| failed("did not answer as helpers do".to_owned()))?;
        Ok(Login::from_parts(answer.username, answer.secret))
    }

    async fn run(&self, helper: &str, input: &str) -> io::Result<(ExitStatus, Vec<u8>)> {
        let mut command = Command::new(helper);
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(path) = &self.helper_path {
            command.env("PATH", path);
        }
        let mut child = command.kill_on_drop(true).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        if let Some(mut stdin) = stdin {
            // One that does not read it need not.
            drop(stdin.write_all(format!("{input}\n").as_bytes()).await);
        }
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        }
        Ok((child.wait().await?, answer))
    }
}

impl Entry {
    fn login(&self) -> Result<Option<Login>, &'static str> {
        if !self.identitytoken.expose().is_empty() {
            return Ok(Some(Login::Token(self.identitytoken.clone())));
        }
        if self.auth.expose().is_empty() {
            return Ok(None);
        }
        let decoded =
            STANDARD.decode(self.auth.expose()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or("an `auth` in it is not base64 of a name and a password")?;
        let (username, password) = decoded.split_once(':').ok_or("an `auth` in it has no password")?;
        Ok(Login::from_parts(username.to_owned(), Secret::new(password.trim_matches('\0').to_owned())))
    }
}

impl Login {
    fn from_parts(username: String, password: Secret<String>) -> Option<Self> {
        match username.as_str() {
            "" => None,
            TOKEN_USERNAME => Some(Self::Token(password)),
            _ => Some(Self::Password { username, password }),
        }
    }
}

/// The entry whose key means the same registry.
fn entry<'a, T>(entries: &'a HashMap<String, T>, registry: &Registry) -> Option<&'a T> {
    let means_it = |key: &str| key.parse::<Registry>().is_ok_and(|named| named == *registry);
    entries
        .get(registry.key())
        .or_else(|| entries.iter().find(|(key, _)| means_it(key)).map(|(_, entry)| entry))
}

fn is_absent(reason: &io::Error) -> bool {
    matches!(reason.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
