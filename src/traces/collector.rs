//! The way to the collector. Whoever exports does so on a thread of its own; requests are sent by tasks of ours, with our
//! TLS and a deadline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::Client;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::tls;
use crate::value::Pem;

/// For a request and its answer. Spans that are exported later than the queue fills are dropped.
pub(super) const EXPORT_DEADLINE: Duration = Duration::from_secs(5);

/// What a collector says is a few bytes; what is longer is not read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Collector {
    client: Client,
    runtime: Handle,
    tasks: TaskTracker,
    is_away: AtomicBool,
}

impl Collector {
    /// Sends on the runtime that this is called on.
    ///
    /// # Errors
    /// There are no certificates to trust, or no runtime.
    pub(super) fn new(tasks: TaskTracker) -> Result<Self, String> {
        let unset = Pem::default();
        let tls = tls::client_config(&unset, &unset, &unset).map_err(|error| error.to_string())?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        let runtime = Handle::try_current().map_err(|error| error.to_string())?;
        Ok(Self { client, runtime, tasks, is_away: AtomicBool::new(false) })
    }

    /// Tells of the first failure in a row, and of its end.
    fn note(&self, outcome: Result<u16, &str>) {
        let failure = match outcome {
            Ok(200..=299) => None,
            Ok(status) => Some(format!("it answered with the status {status}")),
            Err(reason) => Some(reason.to_owned()),
        };
        let was_away = self.is_away.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(reason) if !was_away => {
                tracing::warn!(reason, "the collector does not take traces; some are lost");
            }
            None if was_away => tracing::info!("the collector takes traces again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sending = async move { timeout(EXPORT_DEADLINE, send(client, request)).await };
        let answer: Result<Response<Bytes>, HttpError> =
            match self.tasks.spawn_on(sending, &self.runtime).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(late)) => Err(late.into()),
                Err(ended) => Err(ended.into()),
            };
        match &answer {
            Ok(answer) => self.note(Ok(answer.status().as_u16())),
            Err(error) => self.note(Err(&error.to_string())),
        }
        answer
    }
}

async fn send(client: Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut answer = client.execute(request.try_into()?).await?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("its answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response::builder().status(answer.status()).body(Bytes::from(body))?)
}
