//! Recordings: what is on disk after a session, and that nobody waits for it.

mod accidents;
mod commands;
mod contents;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{TestServer, poll_until};

/// For a recording to be complete once its session has ended.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server that records to the folder `recordings` of the test.
async fn recording_server(more: &str) -> TestServer {
    TestServer::builder().section(&format!("recording: {{dir: recordings{more}}}")).start().await
}

fn folder(server: &TestServer) -> PathBuf {
    server.path("recordings")
}

/// The names of a folder's files, in order. None where there is no folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits for so many complete recordings and gives what lies beside them, the oldest first, with their paths.
async fn recordings(folder: &Path, count: usize) -> Vec<(Value, PathBuf)> {
    poll_until("complete recordings", PATIENCE, async || {
        let names = files(folder);
        let complete: Vec<_> = names
            .iter()
            .filter(|name| Path::new(name).extension().is_some_and(|suffix| suffix == "json"))
            .collect();
        (complete.len() >= count && !names.iter().any(|name| name.starts_with('.'))).then(|| {
            let read = complete.iter().map(|name| {
                let sidecar: Value =
                    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap();
                let recording = folder.join(sidecar["recording"].as_str().unwrap());
                (sidecar, recording)
            });
            let mut read: Vec<_> = read.collect();
            read.sort_by_key(|(sidecar, _)| sidecar["started"].as_str().unwrap().to_owned());
            read
        })
    })
    .await
}

/// The only one.
async fn the_recording(server: &TestServer) -> (Value, PathBuf) {
    let mut all = recordings(&folder(server), 1).await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Whether `needle` is in any file of the folder.
fn is_anywhere(folder: &Path, needle: &str) -> bool {
    files(folder).iter().any(|name| {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    })
}
