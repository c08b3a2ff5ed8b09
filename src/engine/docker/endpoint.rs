//! Where the engine listens, and one HTTP/1.1 request to it over a connection of its own.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
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
use super::tls::Tls;
use super::{Settings, SettingsError};

/// A connect that takes longer goes nowhere.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The ports that Docker has registered.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// Where the engine listens.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// `docker.host` as configured.
    shown: String,
    address: Address,
    /// The tasks that drive connections.
    tasks: TaskTracker,
}

#[derive(Debug)]
enum Address {
    Unix(PathBuf),
    Tcp { host: String, port: u16, tls: Option<Tls> },
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

impl Endpoint {
    pub(super) fn new(settings: &Settings, tasks: TaskTracker) -> Result<Self, SettingsError> {
        let host = settings.host.as_str();
        let bad = |reason: &str| SettingsError::Host { host: host.to_owned(), reason: reason.to_owned() };
        let (scheme, rest) = host
            .split_once("://")
            .ok_or_else(|| bad("it does not begin with `unix://`, `tcp://`, `http://` or `https://`"))?;
        let address = match scheme {
            "unix" if rest.starts_with('/') => Address::Unix(PathBuf::from(rest)),
            "unix" => return Err(bad("the path of the socket is not absolute")),
            "https" => Self::tcp(rest, Some(Tls::new(settings)?)).ok_or_else(|| bad("no HOST:PORT"))?,
            // As with Docker's own client, certificates turn `tcp` into TLS.
            "tcp" if settings.has_certificates() => {
                Self::tcp(rest, Some(Tls::new(settings)?)).ok_or_else(|| bad("no HOST:PORT"))?
            }
            "http" if settings.has_certificates() => {
                return Err(bad("certificates are configured, but `http` does not use any"));
            }
            "tcp" | "http" => Self::tcp(rest, None).ok_or_else(|| bad("no HOST:PORT"))?,
            _ => return Err(bad("the scheme is none of `unix`, `tcp`, `http`, `https`")),
        };
        Ok(Self { shown: host.to_owned(), address, tasks })
    }

    fn tcp(rest: &str, tls: Option<Tls>) -> Option<Address> {
        let authority: hyper::http::uri::Authority = rest.trim_end_matches('/').parse().ok()?;
        let default_port = if tls.is_some() { TLS_PORT } else { PLAIN_PORT };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let sound = !host.is_empty() && !authority.as_str().contains('@');
        sound.then(|| Address::Tcp { host, port: authority.port_u16().unwrap_or(default_port), tls })
    }

    /// `docker.host` as configured.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether the engine may see the same processes as we do.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    /// Sends one request and returns its answer. Dropping the answer's body closes the connection.
    pub(super) async fn request<B>(&self, mut request: Request<B>) -> Result<Response<Incoming>, RequestError>
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
        let name = match &self.address {
            Address::Unix(_) => return HeaderValue::from_static("docker"),
            Address::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port, .. } => format!("{host}:{port}"),
        };
        HeaderValue::from_str(&name).unwrap_or_else(|_| HeaderValue::from_static("docker"))
    }

    async fn connect(&self) -> io::Result<Socket> {
        match &self.address {
            Address::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
            Address::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                match tls {
                    Some(tls) => Ok(Socket::Tls(Box::new(tls.connect(host, stream).await?))),
                    None => Ok(Socket::Tcp(stream)),
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str) -> Result<Endpoint, SettingsError> {
        Endpoint::new(&Settings { host: host.to_owned(), ..Settings::default() }, TaskTracker::new())
    }

    #[test]
    fn every_documented_scheme_is_understood() {
        let tcp = |host: &str| match endpoint(host).expect("a good host").address {
            Address::Tcp { host, port, tls } => (host, port, tls.is_some()),
            Address::Unix(path) => panic!("{path:?}"),
        };

        assert!(endpoint("unix:///run/x.sock").expect("a good host").is_local());
        assert_eq!(tcp("tcp://10.0.0.1:2375"), ("10.0.0.1".to_owned(), 2375, false));
        assert_eq!(tcp("http://engine/"), ("engine".to_owned(), 2375, false));
        assert_eq!(tcp("https://[::1]:99"), ("::1".to_owned(), 99, true));
    }

    #[test]
    fn what_is_no_endpoint_is_named() {
        for host in
            ["", "/var/run/docker.sock", "unix://docker.sock", "ssh://host", "tcp://", "tcp://user@host"]
        {
            assert!(matches!(endpoint(host), Err(SettingsError::Host { .. })), "{host}");
        }
    }
}
