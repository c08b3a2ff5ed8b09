//! The streams of an exec, or of a container's first process: an HTTP/1.1 request that the engine answers with an upgrade,
//! and then the bare connection (Docker Engine API, exec start and attach). bollard's own would guess from the first byte whether output is multiplexed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt as _, unfold};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, WriteHalf};
use tokio::net::{tcp, unix};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::client::Client;
use super::connector::Socket;
use super::demux::Demultiplexer;
use super::error::{answered, quote};
use crate::engine::{EngineError, Output, TerminalSize};
use crate::ids::ContainerId;

/// The engine answers before it starts the program.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// What one read takes at most.
const READ_BYTES: usize = 64 * 1024;

/// With less room than this a read gets a new buffer.
const ROOM_BYTES_MIN: usize = 8 * 1024;

/// How much of an error's text is read.
const ERROR_BYTES_MAX: usize = 64 * 1024;

const START: &str = "start the program";
const ATTACH: &str = "attach to the container";

/// Whether the program has a terminal, and its size where the engine takes it this early.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    Multiplexed,
    Terminal(TerminalSize),
}

/// The program's standard input and its output.
pub(super) type Streams = (Pin<Box<dyn AsyncWrite + Send>>, BoxStream<'static, io::Result<Output>>);

/// Starts an exec and takes its connection over.
pub(super) async fn start(client: &Client, exec: &str, mode: Mode) -> Result<Streams, EngineError> {
    let mut body = serde_json::json!({ "Detach": false, "Tty": matches!(mode, Mode::Terminal(_)) });
    if let (Mode::Terminal(size), true, Some(fields)) =
        (mode, client.takes_console_size(), body.as_object_mut())
    {
        fields.insert("ConsoleSize".to_owned(), serde_json::json!([size.rows(), size.columns()]));
    }
    let path = format!("exec/{exec}/start");
    upgrade(client, START, &path, Bytes::from(body.to_string()), mode).await
}

/// Takes over the streams of a container's first process, whose output is multiplexed.
pub(super) async fn attach(client: &Client, container: &ContainerId) -> Result<Streams, EngineError> {
    let path = format!("containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1");
    upgrade(client, ATTACH, &path, Bytes::new(), Mode::Multiplexed).await
}

async fn upgrade(
    client: &Client,
    action: &'static str,
    path: &str,
    body: Bytes,
    mode: Mode,
) -> Result<Streams, EngineError> {
    match timeout(START_DEADLINE, request(client, action, path, body, mode)).await {
        Ok(streams) => streams,
        Err(_) => Err(EngineError::TimedOut { action, after: START_DEADLINE }),
    }
}

async fn request(
    client: &Client,
    action: &'static str,
    path: &str,
    body: Bytes,
    mode: Mode,
) -> Result<Streams, EngineError> {
    let failed = |reason: String| EngineError::Failed { action, reason, is_answer: false };
    let request = Request::post(format!("/v{}/{path}", client.version().await?))
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "tcp")
        .body(Full::new(body))
        .map_err(|error| failed(error.to_string()))?;
    let sent = client.connector().request(request).await;
    let response = sent.map_err(|error| client.understand(action, &error.into()))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(action, response).await);
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|error| failed(quote(&error.to_string())))?;
    let parts = upgraded
        .downcast::<TokioIo<Socket>>()
        .map_err(|_| failed("its connection cannot be taken over".to_owned()))?;
    Ok(streams(parts.io.into_inner(), &parts.read_buf, mode))
}

async fn refusal(action: &'static str, response: Response<Incoming>) -> EngineError {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    let status = response.status().as_u16();
    if status < 400 {
        let reason = format!("HTTP status {status} where an upgrade was due");
        return EngineError::Failed { action, reason, is_answer: false };
    }
    let body = match Limited::new(response.into_body(), ERROR_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let text = serde_json::from_slice(&body)
        .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |Message { message }| message);
    answered(action, status, &text)
}

fn streams(socket: Socket, received: &[u8], mode: Mode) -> Streams {
    let (reader, writer): (Box<dyn AsyncRead + Send + Unpin>, Writer) = match socket {
        Socket::Unix(stream) => {
            let (reader, writer) = stream.into_split();
            (Box::new(reader), Writer::Unix(writer))
        }
        Socket::Tcp(stream) => {
            let (reader, writer) = stream.into_split();
            (Box::new(reader), Writer::Tcp(writer))
        }
        Socket::Tls(stream) => {
            let (reader, writer) = tokio::io::split(*stream);
            (Box::new(reader), Writer::Tls(writer))
        }
    };
    let (stdin, decoder): (Pin<Box<dyn AsyncWrite + Send>>, _) = match mode {
        Mode::Multiplexed => (Box::pin(writer), Some(Demultiplexer::default())),
        Mode::Terminal(_) => (Box::pin(TerminalInput(Some(writer))), None),
    };
    let source = Source { reader, received: BytesMut::from(received), decoder, is_over: false };
    let output = unfold(source, |mut source| async move {
        let item = source.next().await?;
        source.is_over = item.is_err();
        Some((item, source))
    });
    (stdin, output.boxed())
}

/// What the engine sends.
struct Source {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    received: BytesMut,
    /// None with a terminal, whose output comes bare.
    decoder: Option<Demultiplexer>,
    is_over: bool,
}

impl Source {
    async fn next(&mut self) -> Option<io::Result<Output>> {
        if self.is_over {
            return None;
        }
        loop {
            match self.take() {
                Ok(None) => {}
                Ok(Some(output)) => return Some(Ok(output)),
                Err(error) => return Some(Err(error)),
            }
            if self.received.capacity() - self.received.len() < ROOM_BYTES_MIN {
                self.received.reserve(READ_BYTES);
            }
            match self.reader.read_buf(&mut self.received).await {
                Ok(0) => return self.end().map(Err),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn take(&mut self) -> io::Result<Option<Output>> {
        match &mut self.decoder {
            Some(decoder) => decoder.next(&mut self.received),
            None if self.received.is_empty() => Ok(None),
            None => Ok(Some(Output::Stdout(self.received.split().freeze()))),
        }
    }

    fn end(&self) -> Option<io::Error> {
        let is_whole = self.decoder.as_ref().is_none_or(|decoder| decoder.is_between_frames(&self.received));
        let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the engine cut the output short");
        (!is_whole).then(cut)
    }
}

/// The write half. Dropping it ends the program's input, as shutting it down does; over TLS only the latter.
#[derive(Debug)]
enum Writer {
    Unix(unix::OwnedWriteHalf),
    Tcp(tcp::OwnedWriteHalf),
    Tls(WriteHalf<TlsStream<tokio::net::TcpStream>>),
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(half) => Pin::new(half).poll_write(cx, buf),
            Self::Tcp(half) => Pin::new(half).poll_write(cx, buf),
            Self::Tls(half) => Pin::new(half).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(half) => Pin::new(half).poll_flush(cx),
            Self::Tcp(half) => Pin::new(half).poll_flush(cx),
            Self::Tls(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(half) => Pin::new(half).poll_shutdown(cx),
            Self::Tcp(half) => Pin::new(half).poll_shutdown(cx),
            Self::Tls(half) => Pin::new(half).poll_shutdown(cx),
        }
    }
}

/// Input of a terminal. It is never half-closed: dockerd would take that for the end of the output too.
#[derive(Debug)]
struct TerminalInput(Option<Writer>);

impl TerminalInput {
    fn writer(self: Pin<&mut Self>) -> io::Result<Pin<&mut Writer>> {
        self.get_mut().0.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncWrite for TerminalInput {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writer()?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl Drop for TerminalInput {
    fn drop(&mut self) {
        match self.0.take() {
            Some(Writer::Unix(half)) => half.forget(),
            Some(Writer::Tcp(half)) => half.forget(),
            Some(Writer::Tls(_)) | None => {}
        }
    }
}
