//! A socket in front of the engine's own that writes down which requests pass.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

pub(super) const ENGINE: &str = "/var/run/docker.sock";
const METHODS: [&str; 5] = ["GET ", "POST ", "PUT ", "HEAD ", "DELETE "];

/// Passes every byte on, and keeps `METHOD /path` of each request.
#[derive(Debug)]
pub(crate) struct EngineProxy {
    path: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
}

impl EngineProxy {
    pub(crate) fn listen(folder: &Path) -> Self {
        let path = folder.join("engine.sock");
        let listener = UnixListener::bind(&path).expect("a free path");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let record = requests.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let engine = UnixStream::connect(ENGINE).await.expect("the engine listens");
                let (client_reads, client_writes) = client.into_split();
                let (engine_reads, engine_writes) = engine.into_split();
                tokio::spawn(pass(client_reads, engine_writes, Some(record.clone())));
                tokio::spawn(pass(engine_reads, client_writes, None));
            }
        });
        Self { path, requests }
    }

    /// As `docker.host` wants it.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// All requests since the last call, as `METHOD /path` without the version prefix and the query.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, record: Option<Arc<Mutex<Vec<String>>>>) {
    let mut buffer = vec![0; 64 * 1024];
    // A request line may come in two pieces.
    let mut rest = Vec::new();
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        if let Some(record) = &record {
            rest.extend_from_slice(&buffer[..count]);
            let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let lines: Vec<u8> = rest.drain(..whole).collect();
            record.lock().unwrap().extend(String::from_utf8_lossy(&lines).lines().filter_map(request));
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    // The other half may still have something to say.
    drop(to.shutdown().await);
}

/// `POST /v1.41/exec/1/start?x HTTP/1.1` → `POST /exec/1/start`. A body may end without a newline right before the
/// next request line, so the method is searched, not expected at the start.
pub(super) fn request(line: &str) -> Option<String> {
    let line = line.trim_end().strip_suffix(" HTTP/1.1")?;
    let start = METHODS.iter().filter_map(|method| line.rfind(method)).max()?;
    let (method, path) = line[start..].split_once(' ')?;
    let path = path.split('?').next()?;
    let path =
        path.strip_prefix("/v1.").and_then(|path| path.find('/').map(|slash| &path[slash..])).unwrap_or(path);
    Some(format!("{method} {path}"))
}

#[test]
fn a_request_line_is_found_behind_a_body_without_a_newline() {
    let line = r#"{"Tty":false}DELETE /v1.41/containers/f00?force=true HTTP/1.1"#;

    assert_eq!(request(line).as_deref(), Some("DELETE /containers/f00"));
}
