//! Who we are to a registry: as configured, else as people's `docker login` has it.

use std::io;
use std::path::{Path, PathBuf};

use bollard::auth::DockerCredentials;
use tokio::io::AsyncReadExt as _;

use super::docker_folder::DockerFolder;
use super::{Proof, Registries, Registry, RegistryLogin};
use crate::secret::Secret;

/// Far more than any password has.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

/// Why there are no credentials where there should be some. Says where, and never what.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialError {
    #[error("`{}` cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: io::Error },
    #[error("`{}` is larger than {bytes_max} bytes", path.display())]
    TooLarge { path: PathBuf, bytes_max: u64 },
    #[error("`{}` is not what docker writes: {reason}", path.display())]
    Malformed { path: PathBuf, reason: &'static str },
    #[error("the credential helper `{helper}` {reason}")]
    Helper { helper: String, reason: String },
}

/// A name and a password, or a token.
#[derive(Debug)]
pub(super) enum Login {
    Password { username: String, password: Secret<String> },
    Token(Secret<String>),
}

/// Where credentials come from.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    configured: Registries,
    folder: DockerFolder,
}

impl Credentials {
    pub(super) fn new(configured: Registries, folder: DockerFolder) -> Self {
        Self { configured, folder }
    }

    pub(super) fn with_docker_folder(&self, folder: DockerFolder) -> Self {
        Self { configured: self.configured.clone(), folder }
    }

    /// What to send along with a pull from `registry`; `None` where nothing is known. Cancel safe.
    pub(super) async fn of(&self, registry: &Registry) -> Result<Option<DockerCredentials>, CredentialError> {
        let login = match self.configured.get(registry) {
            Some(configured) => Some(as_configured(configured).await?),
            None => self.folder.login(registry).await?,
        };
        Ok(login.map(|login| login.for_registry(registry)))
    }
}

impl Login {
    fn for_registry(self, registry: &Registry) -> DockerCredentials {
        let serveraddress = Some(registry.key().to_owned());
        match self {
            Self::Password { username, password } => DockerCredentials {
                username: Some(username),
                password: Some(password.expose().clone()),
                serveraddress,
                ..Default::default()
            },
            Self::Token(token) => DockerCredentials {
                identitytoken: Some(token.expose().clone()),
                serveraddress,
                ..Default::default()
            },
        }
    }
}

async fn as_configured(login: &RegistryLogin) -> Result<Login, CredentialError> {
    let password = match &login.proof {
        Proof::IdentityToken(token) => return Ok(Login::Token(token.clone())),
        Proof::Password(password) => password.clone(),
        Proof::PasswordFile(path) => {
            let bytes = read(path, PASSWORD_BYTES_MAX).await?;
            let unreadable = |reason| CredentialError::Unreadable { path: path.clone(), reason };
            let text = String::from_utf8(bytes)
                .map_err(|_| unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")))?;
            // What an editor puts at the end of a line is no part of the password.
            Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    };
    Ok(Login::Password { username: login.username.clone(), password })
}

/// A whole file, if it is not larger than it may be.
pub(super) async fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, CredentialError> {
    let mut bytes = Vec::new();
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        file.take(bytes_max + 1).read_to_end(&mut bytes).await
    };
    read.await.map_err(|reason| CredentialError::Unreadable { path: path.to_owned(), reason })?;
    if bytes.len() as u64 > bytes_max {
        return Err(CredentialError::TooLarge { path: path.to_owned(), bytes_max });
    }
    Ok(bytes)
}
