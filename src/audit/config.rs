//! The section `audit` of the configuration.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hook::config::{HookUrl, WebhookConfig};
use crate::value::{ByteSize, Pem, Section, Timeout, section};

/// Two batches and some: a spool that holds less than one cannot take what is sent.
const SPOOL_BYTES_MIN: ByteSize = ByteSize::from_mebibytes(4);

/// The section `audit` of the configuration. Nothing is written unless it says where to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Audit")]
pub struct Config {
    /// The file that records are added to. Empty: none.
    pub file: PathBuf,
    /// The web service that records are sent to.
    #[serde(deserialize_with = "section")]
    pub http: HttpConfig,
    /// Where records wait for that service.
    #[serde(deserialize_with = "section")]
    pub spool: SpoolConfig,
    /// What becomes of logins while records cannot be written.
    pub on_failure: OnFailure,
}

/// The web service that records are sent to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "AuditHttp")]
pub struct HttpConfig {
    /// Its address, `https://` or `http://`. Empty: none.
    pub url: HookUrl,
    /// For one request. It is tried again for as long as it takes.
    pub timeout: Timeout,
    /// File with the value of the header `Authorization`, such as `Bearer …`; read before each request. Empty: none.
    pub authorization_file: PathBuf,
    /// PEM text or file: who the service's certificate must be signed by. Empty: whom the system trusts.
    pub cacert: Pem,
    /// PEM text or file: our certificate.
    pub cert: Pem,
    /// PEM text or file: its private key.
    pub key: Pem,
}

/// Where records wait for the web service.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "AuditSpool")]
pub struct SpoolConfig {
    /// Folder. Not set: `audit-spool` in `stateDir`.
    pub dir: Option<PathBuf>,
    /// What may wait; past it new records are lost, and counted.
    pub max_bytes: ByteSize,
}

/// What becomes of logins while records cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AuditFailure")]
pub enum OnFailure {
    /// They go on; what is lost is counted.
    #[default]
    Continue,
    /// There are none.
    Refuse,
}

impl Section for Config {}

impl Config {
    /// Whether there is anything to do.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.writes_file() || self.http.url.is_set()
    }

    pub(super) fn writes_file(&self) -> bool {
        !self.file.as_os_str().is_empty()
    }

    /// What works and is hardly meant.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        self.http.webhook().warning("audit.http")
    }

    /// Takes relative paths as seen from `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        let Self { file, http, spool, .. } = self;
        for path in [file, &mut http.authorization_file].into_iter().chain(&mut spool.dir) {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&path);
            }
        }
        for pem in [&mut http.cacert, &mut http.cert, &mut http.key] {
            pem.resolve(folder);
        }
    }
}

impl Section for HttpConfig {
    fn check(&self) -> Result<(), String> {
        self.webhook().check()
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        let WebhookConfig { url, timeout, cacert, cert, key } = WebhookConfig::default();
        Self { url, timeout, authorization_file: PathBuf::new(), cacert, cert, key }
    }
}

impl HttpConfig {
    /// The same as hooks have it.
    pub(super) fn webhook(&self) -> WebhookConfig {
        let Self { url, timeout, cacert, cert, key, .. } = self.clone();
        WebhookConfig { url, timeout, cacert, cert, key }
    }
}

impl Section for SpoolConfig {
    fn check(&self) -> Result<(), String> {
        if self.max_bytes < SPOOL_BYTES_MIN {
            return Err(format!("`maxBytes` has to be {SPOOL_BYTES_MIN} or more"));
        }
        Ok(())
    }
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { dir: None, max_bytes: ByteSize::from_mebibytes(256) }
    }
}
