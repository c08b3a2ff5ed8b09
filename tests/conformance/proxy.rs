//! Between us and the real engine: writes down every request, and spoils some.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle::engine::docker::{Config, Endpoint};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::harness::{DEADLINE, socket};

/// How a request is spoiled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spoil {
    /// It is taken and never answered.
    Hang,
    /// It is answered with one line of JSON and no end.
    Stall,
    /// It reaches the engine; the answer comes this much later.
    AnswerLate(Duration),
    /// It is answered with HTTP status 500.
    Fail,
    /// The connection breaks before the engine sees the request.
    Drop,
    /// The answer ends after so many bytes; the engine has done what it was asked.
    Cut(usize),
}

/// An endpoint of its own.
pub(crate) struct Proxy {
    folder: TempDir,
    shared: Arc<Shared>,
    _accept: AbortOnDropHandle<()>,
}

struct Shared {
    engine: PathBuf,
    requests: Mutex<Vec<String>>,
    /// Requests that contain the text, and how many more of them.
    spoiled: Mutex<Option<(&'static str, Spoil, usize)>>,
    /// Clients that wait for an answer that does not come.
    waiting: watch::Sender<usize>,
}

impl Proxy {
    /// Stands before the engine of `config`, which has to be local, and takes its place there.
    pub(crate) fn before(config: &mut Config) -> Arc<Self> {
        let engine = socket(config);
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("sock")).expect("a socket");
        config.host = Endpoint::Unix(folder.path().join("sock"));
        let shared = Arc::new(Shared {
            engine,
            requests: Mutex::default(),
            spoiled: Mutex::default(),
            waiting: watch::Sender::new(0),
        });
        let accept = accept(listener, Arc::clone(&shared));
        #[expect(clippy::disallowed_methods, reason = "the handle ends it")]
        let accept = AbortOnDropHandle::new(tokio::spawn(accept));
        Arc::new(Self { folder, shared, _accept: accept })
    }

    /// Spoils every request whose first line contains `text`.
    pub(crate) fn spoil(&self, text: &'static str, how: Spoil) {
        self.spoil_next(usize::MAX, text, how);
    }

    /// Spoils the next so many.
    pub(crate) fn spoil_next(&self, count: usize, text: &'static str, how: Spoil) {
        *self.shared.spoiled.lock().unwrap_or_else(PoisonError::into_inner) = Some((text, how, count));
    }

    pub(crate) fn mend(&self) {
        *self.shared.spoiled.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns once so many clients wait for an answer that does not come.
    pub(crate) async fn until_waiting(&self, count: usize) {
        let mut waiting = self.shared.waiting.subscribe();
        let reached = waiting.wait_for(|waiting| *waiting == count);
        timeout(DEADLINE / 4, reached).await.expect("clients in time").expect("a proxy");
    }

    /// The requests since the last look: method and path without the version.
    pub(crate) fn requests(&self) -> Vec<String> {
        assert!(self.folder.path().exists());
        std::mem::take(&mut *self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    fn spoil(&self, request: &str) -> Option<Spoil> {
        let mut spoiled = self.spoiled.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, how, left) = spoiled.as_mut()?;
        if !request.contains(*text) || *left == 0 {
            return None;
        }
        *left -= 1;
        Some(*how)
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // Either side may go at any time.
            drop(serve(client, &shared).await);
        });
    }
}

async fn serve(mut client: UnixStream, shared: &Shared) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
    let how = shared.spoil(&line);
    match how {
        Some(Spoil::Drop) => return Ok(()),
        Some(Spoil::Hang) => return wait(client, shared).await,
        Some(Spoil::Stall) => {
            let line = "{\"status\":\"Pulling fs layer\",\"id\":\"a\"}\r\n";
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
            let answer = format!("{head}\r\n\r\n{:x}\r\n{line}\r\n", line.len());
            client.write_all(answer.as_bytes()).await?;
            return wait(client, shared).await;
        }
        Some(Spoil::Fail) => {
            let body = r#"{"message":"the disk is full"}"#;
            let answer = format!("HTTP/1.1 500 Oh\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            return client.write_all(answer.as_bytes()).await;
        }
        _ => {}
    }
    let mut engine = UnixStream::connect(&shared.engine).await?;
    engine.write_all(&head).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_engine, mut to_engine) = engine.split();
    let there = async {
        copy(&mut from_client, &mut to_engine, usize::MAX).await?;
        to_engine.shutdown().await
    };
    let back = async {
        if let Some(Spoil::AnswerLate(delay)) = how {
            tokio::time::sleep(delay).await;
        }
        let limit = if let Some(Spoil::Cut(bytes)) = how { bytes } else { usize::MAX };
        copy(&mut from_engine, &mut to_client, limit).await
    };
    // The answer ends the connection; a half-close of the request must not.
    let there = async {
        there.await?;
        std::future::pending::<std::io::Result<()>>().await
    };
    tokio::select! {
        done = back => done?,
        gone = there => gone?,
    }
    Ok(())
}

/// Waits until the client has enough of it.
async fn wait(mut client: UnixStream, shared: &Shared) -> std::io::Result<()> {
    shared.waiting.send_modify(|waiting| *waiting += 1);
    let gone = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
    shared.waiting.send_modify(|waiting| *waiting -= 1);
    gone.map(drop)
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    limit: usize,
) -> std::io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    let mut left = limit;
    loop {
        let bytes = from.read(&mut piece).await?.min(left);
        if bytes == 0 {
            return Ok(());
        }
        to.write_all(piece.get(..bytes).unwrap_or_default()).await?;
        left -= bytes;
    }
}
