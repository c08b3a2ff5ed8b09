//! `/metrics`, `/livez` and `/readyz`, over plain HTTP. Knows neither the engine nor the sessions: whoever is asked about
//! them tells.

mod bounded;
mod readiness;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::bounded::BoundedListener;
use self::readiness::Readiness;
use crate::metrics::Metrics;

/// From the end of the server until the last answer is given up.
const CLOSING_TIME: Duration = Duration::from_secs(2);

/// Who knows how the server does.
#[async_trait]
pub trait Health: Send + Sync {
    /// Whether the process does what it is there for.
    ///
    /// # Errors
    /// Why it does not, for people; only a restart helps.
    fn alive(&self) -> Result<(), String>;

    /// Whether the server lets nobody in any more.
    fn draining(&self) -> bool;

    /// What keeps people who log in from getting a container, a line each. Empty if nothing does.
    async fn complaints(&self) -> Vec<String>;
}

/// Where it is listened on.
#[derive(Debug)]
pub struct HttpEndpoint(TcpListener);

#[derive(Clone)]
struct Sources {
    metrics: Arc<Metrics>,
    health: Arc<dyn Health>,
    readiness: Arc<Readiness>,
}

impl HttpEndpoint {
    /// Listens. Nobody is answered yet.
    ///
    /// # Errors
    /// The address is not ours, or somebody else's already.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self)
    }

    /// The address it got.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers until `stop`. What has to be looked up is looked up by `tasks`.
    pub async fn serve(
        self,
        metrics: Arc<Metrics>,
        health: Arc<dyn Health>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let readiness = Arc::new(Readiness::new(Arc::clone(&health), tasks));
        let router = Router::new()
            .route("/metrics", get(expose))
            .route("/livez", get(live))
            .route("/readyz", get(ready))
            .fallback(async || (StatusCode::NOT_FOUND, "there is /metrics, /livez and /readyz\n"))
            .with_state(Sources { metrics, health, readiness });
        let serving = axum::serve(BoundedListener::new(self.0), router)
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        let closing = async {
            stop.cancelled().await;
            sleep(CLOSING_TIME).await;
        };
        tokio::select! {
            // It never fails: what cannot be accepted is tried again.
            _ = serving => {}
            () = closing => {}
        }
    }
}

async fn expose(State(sources): State<Sources>) -> Response {
    ([(CONTENT_TYPE, Metrics::MEDIA_TYPE)], sources.metrics.text()).into_response()
}

async fn live(State(sources): State<Sources>) -> Response {
    let complaints = sources.health.alive().err().into_iter().collect();
    verdict("alive", complaints)
}

async fn ready(State(sources): State<Sources>) -> Response {
    if sources.health.draining() {
        return verdict("ready", vec!["draining: the server is shutting down".to_owned()]);
    }
    verdict("ready", sources.readiness.complaints().await)
}

fn verdict(well: &str, complaints: Vec<String>) -> Response {
    let (status, lines) = if complaints.is_empty() {
        (StatusCode::OK, vec![well.to_owned()])
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, complaints)
    };
    (status, [(CACHE_CONTROL, "no-store")], lines.join("\n") + "\n").into_response()
}

#[cfg(test)]
mod tests;
