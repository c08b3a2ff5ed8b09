//! The files that changed in a container (`GET /containers/{id}/changes`). Not by bollard, which reads a list whole: whoever
//! is in the container decides how long it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::client::Client;
use super::error::answered;
use crate::engine::{Change, Changes, EngineError};
use crate::ids::ContainerId;

/// The engine walks through what was written; it takes milliseconds unless that is very much.
const DEADLINE: Duration = Duration::from_secs(10);

/// How much of the list is read. Past it the rest counts as more than is wanted.
const LIST_BYTES_MAX: usize = 1 << 20;

const ACTION: &str = "list what changed in the container";

/// An entry of the list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    path: String,
    kind: u8,
}

/// Whoever looks at a container: one at a time, and nobody any more once the engine did not come to an end. It goes on looking
/// whether or not somebody waits, with the container locked meanwhile, and whoever is in there decides how long that takes.
#[derive(Debug)]
pub(super) struct Looks(Arc<Semaphore>);

impl Default for Looks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Looks {
    /// What changed, at most `files_max` of it.
    pub(super) async fn changes(
        &self,
        client: &Arc<Client>,
        container: &ContainerId,
        files_max: usize,
    ) -> Result<Changes, EngineError> {
        let failed = |reason: &str| EngineError::Failed {
            action: ACTION,
            reason: reason.to_owned(),
            is_answer: false,
        };
        let Ok(turn) = Arc::clone(&self.0).try_acquire_owned() else {
            return Err(failed("the engine is still looking for somebody else"));
        };
        let (asker, container) = (Arc::clone(client), container.clone());
        // To its end, whether or not somebody waits for it.
        let look = client.tasks().spawn(async move {
            let listed = list(&asker, &container, files_max).await;
            if matches!(listed, Err(EngineError::TimedOut { .. })) {
                turn.forget();
            }
            listed
        });
        look.await.unwrap_or_else(|_| Err(failed("the task that looked has a fault")))
    }
}

/// What changed, at most `files_max` of it.
async fn list(client: &Client, container: &ContainerId, files_max: usize) -> Result<Changes, EngineError> {
    match timeout(DEADLINE, request(client, container.as_str(), files_max)).await {
        Ok(changes) => changes,
        Err(_) => Err(EngineError::TimedOut { action: ACTION, after: DEADLINE }),
    }
}

async fn request(client: &Client, container: &str, files_max: usize) -> Result<Changes, EngineError> {
    let failed = |reason: String| EngineError::Failed { action: ACTION, reason, is_answer: false };
    let path = format!("/v{}/containers/{container}/changes", client.version().await?);
    let request =
        Request::get(path).body(Empty::<Bytes>::new()).map_err(|error| failed(error.to_string()))?;
    let sent = client.connector().request(request).await;
    let response = sent.map_err(|error| client.understand(ACTION, &error.into()))?;
    let status = response.status().as_u16();
    let (body, is_whole) = read(response).await.map_err(|error| failed(error.to_string()))?;
    match status {
        200 => parse(&body, is_whole, files_max)
            .map_err(|error| failed(format!("its answer is no list: {error}"))),
        404 => Err(EngineError::Gone { reason: "the engine does not know it".to_owned() }),
        _ => Err(answered(ACTION, status, &String::from_utf8_lossy(&body))),
    }
}

/// The body, and whether that is all of it.
async fn read(response: Response<Incoming>) -> Result<(Vec<u8>, bool), hyper::Error> {
    let (mut body, mut read) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() > LIST_BYTES_MAX {
            return Ok((read, false));
        }
    }
    Ok((read, true))
}

/// Takes what is whole of a list that was perhaps not read to its end.
fn parse(json: &[u8], is_whole: bool, files_max: usize) -> Result<Changes, serde_json::Error> {
    let mut changes = Changes { files: Vec::new(), truncated: !is_whole };
    let mut rest = json.trim_ascii();
    // An engine says `null` where nothing changed.
    if rest == b"null" {
        return Ok(changes);
    }
    while let [b'[' | b',', entries @ ..] = rest {
        if entries.trim_ascii_start().starts_with(b"]") {
            break;
        }
        let mut entry = serde_json::Deserializer::from_slice(entries).into_iter::<Entry>();
        match entry.next() {
            Some(Ok(_)) if changes.files.len() >= files_max => {
                changes.truncated = true;
                break;
            }
            Some(Ok(Entry { path, kind })) => changes.files.push((path, change(kind))),
            // Cut in the middle of an entry.
            Some(Err(error)) if error.is_eof() && !is_whole => break,
            Some(Err(error)) => return Err(error),
            None => break,
        }
        rest = entries.get(entry.byte_offset()..).unwrap_or_default().trim_ascii_start();
    }
    Ok(changes)
}

fn change(kind: u8) -> Change {
    match kind {
        1 => Change::Added,
        2 => Change::Deleted,
        _ => Change::Changed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[u8] =
        br#"[{"Path":"/tmp","Kind":0},{"Path":"/tmp/a]}","Kind":1}, {"Path":"/etc/motd","Kind":2}]"#;

    #[test]
    fn a_list_is_read_up_to_what_is_wanted() {
        let all = parse(LIST, true, 10).unwrap();
        let two = parse(LIST, true, 2).unwrap();

        let named = |path: &str, change| (path.to_owned(), change);
        assert_eq!(
            all.files,
            [
                named("/tmp", Change::Changed),
                named("/tmp/a]}", Change::Added),
                named("/etc/motd", Change::Deleted)
            ]
        );
        assert!(!all.truncated);
        assert_eq!((two.files.as_slice(), two.truncated), (&all.files[..2], true));
    }

    #[test]
    fn of_a_list_that_was_cut_the_beginning_counts() {
        for end in 1..LIST.len() - 1 {
            let changes = parse(&LIST[..end], false, 10).unwrap();

            assert!(changes.truncated);
            assert!(changes.files.len() <= 3);
        }
        assert_eq!(parse(&LIST[..60], false, 10).unwrap().files.len(), 2);
    }

    #[test]
    fn nothing_is_no_changes_and_nonsense_is_an_error() {
        for nothing in ["null", "[]", " [ ]\n"] {
            assert_eq!(parse(nothing.as_bytes(), true, 10).unwrap(), Changes::default(), "{nothing}");
        }
        assert!(parse(b"[{\"Path\":1}]", true, 10).is_err());
        assert!(parse(b"[{\"Path\":\"/a\"", true, 10).is_err());
    }
}
