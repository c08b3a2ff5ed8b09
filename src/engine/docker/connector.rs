//! The way to the engine: each HTTP/1.1 request goes over a connection of its own.

use std::io;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_util::task::TaskTracker;

use super::error::ConnectFailed;
use super::operation;
use super::tls::{CertificateError, Tls};
use super::{Config, Endpoint};
use crate::metrics::EngineCalls;

/// A connect that takes longer goes nowhere.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The ports that Docker has registered.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// The way to the engine.
#[derive(Debug)]
pub(super) struct Connector {
    endpoint: Endpoint,
    /// `endpoint` as errors tell it.
    shown: String,
    tls: Option<Tls>,
    /// The tasks that drive connections.
    tasks: TaskTracker,
    calls: OnceLock<EngineCalls>,
}

/// A failed request.
#[derive(Debug)]
pub(super) enum RequestError {
    /// Nothing was sent.
    Connect(ConnectFailed),
    /// The connection broke, or the answer made no sense.
    Http(hyper::Error),
}

impl From<RequestError> for bollard::errors::Error {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Connect(failed) => failed.into(),
            RequestError::Http(error) => error.into(),
        }
    }
}

impl Connector {
    pub(super) fn new(config: &Config, tasks: TaskTracker) -> Result<Self, CertificateError> {
        let tls = config.uses_tls().then(|| Tls::new(config)).transpose()?;
        Ok(Self {
            endpoint: config.host.clone(),
            shown: config.host.to_string(),
            tls,
            tasks,
            calls: OnceLock::new(),
        })
    }

    /// From now on requests are counted.
    pub(super) fn count(&self, calls: EngineCalls) {
        // There is one set of counters, which is told once.
        drop(self.calls.set(calls));
    }

    /// `docker.host` as configured.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether the engine may see the same processes as we do.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.endpoint, Endpoint::Unix(_))
    }

    /// Sends one request and returns its answer. Dropping the answer's body closes the connection.
    pub(super) async fn request<B>(&self, request: Request<B>) -> Result<Response<Incoming>, RequestError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let operation = operation::of(request.method(), request.uri().path());
        let call = self.calls.get().map(|calls| calls.begin(operation));
        let answer = self.send(request).await;
        if let Some(call) = call {
            match &answer {
                Ok(answer) => call.answered(answer.status().as_u16()),
                Err(RequestError::Connect(_)) => call.unreachable(),
                Err(RequestError::Http(_)) => call.broke(),
            }
        }
        answer
    }

    async fn send<B>(&self, mut request: Request<B>) -> Result<Response<Incoming>, RequestError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let failed = |reason: String| RequestError::Connect(ConnectFailed(reason));
        let socket = timeout(CONNECT_DEADLINE, self.connect())
            .await
            .map_err(|_| failed("connecting took too long".to_owned()))?
            .map_err(|error| failed(error.to_string()))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(RequestError::Http)?;
        // It ends with the request: by itself, or when the caller drops the answer.
        self.tasks.spawn(async move { drop(connection.with_upgrades().await) });
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = path.into();
        }
        request.headers_mut().insert(HOST, self.host_header());
        sender.send_request(request).await.map_err(RequestError::Http)
    }

    fn host_header(&self) -> HeaderValue {
        let host = match &self.endpoint {
            Endpoint::Unix(_) => None,
            Endpoint::Tcp(address) | Endpoint::Http(address) | Endpoint::Https(address) => {
                HeaderValue::from_str(&address.to_string()).ok()
            }
        };
        host.unwrap_or_else(|| HeaderValue::from_static("docker"))
    }

    async fn connect(&self) -> io::Result<Socket> {
        let address = match &self.endpoint {
            Endpoint::Unix(path) => return Ok(Socket::Unix(UnixStream::connect(path).await?)),
            Endpoint::Tcp(address) | Endpoint::Http(address) | Endpoint::Https(address) => address,
        };
        let port = address.port().unwrap_or(if self.tls.is_some() { TLS_PORT } else { PLAIN_PORT });
        let stream = TcpStream::connect((address.host(), port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            Some(tls) => Ok(Socket::Tls(Box::new(tls.connect(address.host(), stream).await?))),
            None => Ok(Socket::Tcp(stream)),
        }
    }
}

/// A connection to the engine.
#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
