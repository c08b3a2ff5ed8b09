//! One service over HTTP: a POST of JSON, tried again while it may help, and a bounded answer.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::time::{Instant, sleep, timeout_at};

use super::HookError;
use super::config::{WebhookConfig, shown};
use crate::tls;

/// Every question can be tried at least so often within its time-out, also where the first try hangs.
const TRIES_MIN: u32 = 2;

/// First pause between tries; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause between tries.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long an unused connection is kept. Below what services and the firewalls before them usually allow.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Unused connections that are kept. More may be in use.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// A service and our connections to it.
pub(super) struct Service {
    client: Client,
    url: Url,
    shown: String,
    timeout: Duration,
}

/// What a service said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// 200, with this body.
    Answer(Vec<u8>),
    /// 4xx: it does not want to.
    Refusal(u16),
}

/// Why a try failed.
#[derive(Debug)]
enum Failure {
    /// The next one may not.
    MayPass(String),
    /// So would the next one.
    Lasts(String),
}

impl Service {
    /// Asks `path` below the address that is configured; the address itself where `path` is empty.
    ///
    /// # Errors
    /// No address is configured, or a certificate or key cannot be used.
    pub(super) fn new(config: &WebhookConfig, path: &str) -> Result<Self, HookError> {
        let mut url = config.url.get().cloned().ok_or(HookError::NoAddress)?;
        if !path.is_empty() {
            let below = format!("{}/{path}", url.path().trim_end_matches('/'));
            url.set_path(&below);
        }
        let shown = shown(&url);
        Ok(Self { client: http_client(config)?, url, shown, timeout: config.timeout.get() })
    }

    /// The address, without what may be secret in it.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Sends `body` until there is an answer or a refusal, for as long as the time-out allows. An answer of more than
    /// `bytes_max` is an error.
    pub(super) async fn ask(&self, body: Vec<u8>, bytes_max: usize) -> Result<Reply, HookError> {
        let body = Bytes::from(body);
        let deadline = Instant::now() + self.timeout;
        let mut pause = PAUSE_MIN;
        let mut tries = 0;
        let mut before: Option<String> = None;
        loop {
            tries += 1;
            let patience = self.timeout / TRIES_MIN;
            let whole = Instant::now() + patience;
            let until = deadline.min(whole);
            let reason = match timeout_at(until, self.try_once(body.clone(), bytes_max)).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(Failure::Lasts(reason))) => return Err(self.bad_answer(reason)),
                Ok(Err(Failure::MayPass(reason))) => reason,
                // Cut short by the end of all: what the one before it met says more.
                Err(_) => before.take().filter(|_| until < whole).unwrap_or_else(|| {
                    format!("a try was not answered within {}", humantime::format_duration(patience))
                }),
            };
            // Logins that were held up together must not come back together.
            let jittered = pause.mul_f64(rand::rng().random_range(0.5..=1.0));
            if Instant::now() + jittered >= deadline {
                return Err(HookError::NoAnswer { url: self.shown.clone(), tries, reason });
            }
            tracing::debug!(
                hook = self.shown,
                reason,
                pause_ms = jittered.as_millis(),
                "the hook is asked again"
            );
            pause = (pause * 2).min(PAUSE_MAX);
            before = Some(reason);
            sleep(jittered).await;
        }
    }

    /// The error for an answer that is none.
    pub(super) fn bad_answer(&self, reason: String) -> HookError {
        HookError::BadAnswer { url: self.shown.clone(), reason }
    }

    async fn try_once(&self, body: Bytes, bytes_max: usize) -> Result<Reply, Failure> {
        // As ContainerSSH has it: its own servers look at both.
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, JSON).header(ACCEPT, JSON);
        let response = request.body(body).send().await.map_err(|error| Failure::of(&error))?;
        let status = response.status();
        if status == StatusCode::OK {
            return read(response, bytes_max).await.map(Reply::Answer);
        }
        let code = status.as_u16();
        if status.is_client_error() {
            Ok(Reply::Refusal(code))
        } else if status.is_server_error() {
            Err(Failure::MayPass(format!("HTTP {code}")))
        } else if status.is_redirection() {
            Err(Failure::Lasts(format!("HTTP {code}, and redirects are not followed")))
        } else {
            Err(Failure::Lasts(format!("HTTP {code} where only 200 is an answer")))
        }
    }
}

/// A client with connections of its own.
///
/// # Errors
/// A certificate or key cannot be used.
pub(super) fn http_client(config: &WebhookConfig) -> Result<Client, HookError> {
    let tls = tls::client_config(&config.cacert, &config.cert, &config.key)?;
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| HookError::NoClient { reason: reason(&error) })
}

/// The address may have a secret in it, and so may the client's own state.
impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({})", self.shown)
    }
}

impl Failure {
    fn of(error: &reqwest::Error) -> Self {
        let reason = reason(error);
        // What a handshake is refused for is in somebody's configuration, and stays there.
        if causes(error).any(|cause| tls_error(cause).is_some()) {
            Self::Lasts(reason)
        } else {
            Self::MayPass(reason)
        }
    }
}

/// The body, unless it is too long.
async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let too_long = || Failure::Lasts(format!("its answer has more than {bytes_max} bytes"));
    if response.content_length().is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::of(&error))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What is at the bottom of an error, in the words of our configuration where it can mend that. The error itself would
/// show the address with all that is in it.
pub(super) fn reason(error: &reqwest::Error) -> String {
    use rustls::CertificateError::{BadSignature, UnknownIssuer};
    match causes(error).find_map(tls_error) {
        Some(rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature)) => {
            "its certificate is signed by nobody whom `cacert` trusts".to_owned()
        }
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired)) => {
            "it wants a certificate of ours; see `cert` and `key`".to_owned()
        }
        Some(error) => format!("no TLS: {error}"),
        None => causes(error).last().map_or_else(|| "no connection".to_owned(), ToString::to_string),
    }
}

/// The causes of an error, without the error itself.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// TLS tells its errors through those of input and output, at times through several of them.
fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    cause.downcast_ref().or_else(|| tls_error(cause.downcast_ref::<io::Error>()?.get_ref()?))
}
