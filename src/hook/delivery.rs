//! A service that is not asked but told: a POST whose answer is its status.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::time::timeout;

use super::HookError;
use super::client::{http_client, reason};
use super::config::{WebhookConfig, shown};
use crate::secret::Secret;

/// How long the rest of an answer is read, so that the connection can be used again. Past it there is a new one.
const SKIP_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of it, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A service and our connections to it.
pub struct Delivery {
    client: Client,
    url: Url,
    shown: String,
    timeout: Duration,
}

/// Why something has not been delivered. It may have arrived all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// It may be the next time: the service is away, busy or broken.
    #[error("{0}")]
    ForNow(String),
    /// It will not be before somebody mends an address, a credential or a certificate, whatever is sent.
    #[error("{0}")]
    UntilMended(String),
    /// The service does not want this: HTTP 4xx.
    #[error("HTTP {0}")]
    Refused(u16),
}

impl Delivery {
    /// A service with connections of its own.
    ///
    /// # Errors
    /// No address is configured, or a certificate or key cannot be used.
    pub fn new(config: &WebhookConfig) -> Result<Self, HookError> {
        let url = config.url.get().cloned().ok_or(HookError::NoAddress)?;
        Ok(Self { client: http_client(config)?, shown: shown(&url), url, timeout: config.timeout.get() })
    }

    /// The address, without what may be secret in it.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Sends once. Cancel safe, as far as nobody can know whether it has arrived.
    ///
    /// # Errors
    /// There was no 2xx within the time-out.
    pub async fn post(
        &self,
        body: Bytes,
        content_type: &'static str,
        authorization: Option<&Secret<String>>,
    ) -> Result<(), Undelivered> {
        let mut request =
            self.client.post(self.url.clone()).header(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(secret) = authorization {
            let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| {
                Undelivered::UntilMended("the authorization is no value of a header".to_owned())
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let late = || {
            let patience = humantime::format_duration(self.timeout);
            Undelivered::ForNow(format!("it was not answered within {patience}"))
        };
        let answered = timeout(self.timeout, request.body(body).send()).await.map_err(|_elapsed| late())?;
        let response = answered.map_err(|error| Undelivered::ForNow(reason(&error)))?;
        let outcome = judge(response.status());
        // Read for the sake of the connection alone: the answer is in its first line.
        drop(timeout(SKIP_TIMEOUT, skip(response)).await);
        outcome
    }
}

/// The address may have a secret in it, and so may the client's own state.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({})", self.shown)
    }
}

fn judge(status: StatusCode) -> Result<(), Undelivered> {
    let code = status.as_u16();
    match code {
        200..=299 => Ok(()),
        // Too slow for it, or too fast.
        408 | 425 | 429 | 500..=599 => Err(Undelivered::ForNow(format!("HTTP {code}"))),
        // Nothing is wrong with what was sent.
        401 | 403 | 404 | 405 | 407 => Err(Undelivered::UntilMended(format!("HTTP {code}"))),
        400..=499 => Err(Undelivered::Refused(code)),
        300..=399 => Err(Undelivered::UntilMended(format!("HTTP {code}, and redirects are not followed"))),
        _ => Err(Undelivered::ForNow(format!("HTTP {code}"))),
    }
}

/// What a status comes with changes nothing.
async fn skip(mut response: Response) {
    let mut left = ANSWER_BYTES_MAX;
    while let Ok(Some(chunk)) = response.chunk().await {
        match left.checked_sub(chunk.len()) {
            Some(less) => left = less,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_one_thing_is_told_from_a_service_that_takes_nothing() {
        let judged = |code: u16| judge(StatusCode::from_u16(code).unwrap());

        for code in [200, 201, 202, 204] {
            assert_eq!(judged(code), Ok(()));
        }
        for code in [408, 429, 500, 502, 503, 504] {
            assert!(matches!(judged(code), Err(Undelivered::ForNow(_))), "{code}");
        }
        for code in [301, 307, 401, 403, 404, 405, 407] {
            assert!(matches!(judged(code), Err(Undelivered::UntilMended(_))), "{code}");
        }
        for code in [400, 413, 415, 422] {
            assert_eq!(judged(code), Err(Undelivered::Refused(code)));
        }
    }
}
