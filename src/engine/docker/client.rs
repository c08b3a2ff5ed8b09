//! The one client of the process: bollard over our own connections, the API version, and deadlines.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bollard::BollardRequest;
use bollard::errors::Error;
use hyper::Uri;
use hyper::header::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::Config;
use super::connector::Connector;
use super::error::translate;
use super::tls::CertificateError;
use crate::engine::EngineError;

/// The engine is asked once for its version; it takes a millisecond when it is well.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// bollard's own limit, out of the way of ours.
const NEVER_SECONDS: u64 = 365 * 24 * 3600;

/// What a pull's credentials travel in.
const REGISTRY_AUTH: &str = "x-registry-auth";

/// From here on an exec can be told its terminal's size before it starts.
const CONSOLE_SIZE_SINCE: (usize, usize) = (1, 42);

/// The engine's API version, `1.41`, once it is known.
#[derive(Clone, Debug, Default)]
struct Version(Arc<RwLock<Option<String>>>);

impl Version {
    fn get(&self) -> Option<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, version: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = version;
    }
}

/// Why we cannot even prepare to talk to an engine.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The client library refuses.
    #[error("the client cannot be set up: {0}")]
    Client(#[from] Error),
}

#[derive(Debug)]
pub(super) struct Client {
    connector: Arc<Connector>,
    bollard: bollard::Docker,
    /// The engine's API version, once it is known: `1.41`.
    version: Version,
    asking: Mutex<()>,
    tasks: TaskTracker,
}

impl Client {
    pub(super) fn new(config: &Config) -> Result<Self, SetupError> {
        let tasks = TaskTracker::new();
        let connector = Arc::new(Connector::new(config, tasks.clone())?);
        let version = Version::default();
        let transport = {
            let connector = Arc::clone(&connector);
            let version = version.clone();
            move |mut request: BollardRequest| {
                let connector = Arc::clone(&connector);
                // bollard takes the version into account, but sends its paths without one.
                if let Some(path) = version.get().and_then(|version| with_version(&version, request.uri())) {
                    *request.uri_mut() = path;
                }
                make_url_safe(&mut request);
                async move { Ok(connector.request(request).await?) }
            }
        };
        let bollard = bollard::Docker::connect_with_custom_transport(
            transport,
            Some("http://docker"),
            NEVER_SECONDS,
            bollard::API_DEFAULT_VERSION,
        )?;
        Ok(Self { connector, bollard, version, asking: Mutex::new(()), tasks })
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Tasks that outlive a call.
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Makes a call, and gives it up after `deadline`. The engine may still carry it out.
    pub(super) async fn call<T, F>(
        &self,
        action: &'static str,
        deadline: Duration,
        call: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.negotiate().await?;
        match timeout(deadline, call(self.bollard.clone())).await {
            Ok(answer) => answer.map_err(|error| self.understand(action, &error)),
            Err(_) => Err(EngineError::TimedOut { action, after: deadline }),
        }
    }

    /// What a failed call means. An engine that was replaced by an older one is asked for its version again.
    pub(super) fn understand(&self, action: &'static str, error: &Error) -> EngineError {
        let meaning = translate(self.connector.shown(), action, error);
        if matches!(&meaning, EngineError::Refused { status: 400, reason, .. } if reason.contains("is too new"))
        {
            self.version.set(None);
        }
        meaning
    }

    /// bollard, with the engine's API version.
    pub(super) async fn bollard(&self) -> Result<&bollard::Docker, EngineError> {
        self.negotiate().await?;
        Ok(&self.bollard)
    }

    /// Whether the engine takes the terminal's size along with the start of an exec.
    pub(super) fn takes_console_size(&self) -> bool {
        let version = self.bollard.client_version();
        (version.major_version, version.minor_version) >= CONSOLE_SIZE_SINCE
    }

    /// The engine's API version as part of a path.
    pub(super) async fn version(&self) -> Result<String, EngineError> {
        self.negotiate().await?;
        Ok(self.bollard.client_version().to_string())
    }

    /// Asks for the version until it is known: the engine may come up after us.
    async fn negotiate(&self) -> Result<(), EngineError> {
        if self.version.get().is_some() {
            return Ok(());
        }
        let action = "tell its version";
        let ask = async {
            let _turn = self.asking.lock().await;
            if self.version.get().is_none() {
                // The answer is kept where all clones see it.
                self.bollard.clone().negotiate_version().await?;
                self.version.set(Some(self.bollard.client_version().to_string()));
            }
            Ok(())
        };
        match timeout(VERSION_DEADLINE, ask).await {
            Ok(answer) => answer.map_err(|error: Error| translate(self.connector.shown(), action, &error)),
            Err(_) => Err(EngineError::TimedOut { action, after: VERSION_DEADLINE }),
        }
    }
}

/// Engines take credentials in base64 for URLs (RFC 4648 §5), bollard sends them in the other one.
fn make_url_safe(request: &mut BollardRequest) {
    let Some(header) = request.headers_mut().get_mut(REGISTRY_AUTH) else { return };
    let safe = header.to_str().map(|text| text.replace('+', "-").replace('/', "_"));
    if let Some(mut safe) = safe.ok().and_then(|text| HeaderValue::from_str(&text).ok()) {
        safe.set_sensitive(true);
        *header = safe;
    }
}

fn with_version(version: &str, uri: &Uri) -> Option<Uri> {
    let path = uri.path_and_query()?.as_str();
    let versioned = if path.starts_with("/v1.") { path.to_owned() } else { format!("/v{version}{path}") };
    versioned.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_gets_its_version_once() {
        let path = |uri: &str| with_version("1.41", &uri.parse().expect("a URI")).map(|uri| uri.to_string());

        assert_eq!(path("http://docker/exec/1/json?x=a%2Fb").as_deref(), Some("/v1.41/exec/1/json?x=a%2Fb"));
        assert_eq!(path("http://docker/v1.41/volumes").as_deref(), Some("/v1.41/volumes"));
    }
}
