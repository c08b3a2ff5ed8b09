//! Files that a container gets before its first program starts, written by a program inside: so they land on the mounts
//! and belong to the user that programs run as.

use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::engine::{
    Container, ContainerSpec, EngineError, ExitStatus, LABEL_USERNAME, Output, ProcessSpec, Program,
};
use crate::secret::Secret;

/// Mode 0600 from the first byte on; `$1` is the path.
const WRITE: &str = r#"umask 077; mkdir -p -- "${1%/*}/" && rm -f -- "$1" && cat > "$1""#;

/// How much of what the writing program complains about is kept, in bytes.
const COMPLAINT_BYTES_MAX: usize = 512;

const ACTION: &str = "write a file";

/// Writes all of them, in their order.
pub(super) async fn write(container: &dyn Container, spec: &ContainerSpec) -> Result<(), EngineError> {
    let username = spec.labels.get(LABEL_USERNAME).cloned().unwrap_or_default();
    for (path, contents) in &spec.files {
        write_one(container, &username, path, contents).await?;
    }
    Ok(())
}

async fn write_one(
    container: &dyn Container,
    username: &str,
    path: &str,
    contents: &Secret<Vec<u8>>,
) -> Result<(), EngineError> {
    let args = ["/bin/sh", "-c", WRITE, "coracle", path].map(str::to_owned).to_vec();
    let (env, username) = (Vec::new(), username.to_owned());
    let mut process =
        container.exec(&ProcessSpec { program: Program::Args(args), env, terminal: None, username }).await?;
    let input = async {
        // A program that cannot write the file ends before it has read all; its complaint tells more.
        if process.stdin.write_all(contents.expose()).await.is_ok() {
            drop(process.stdin.shutdown().await);
        }
    };
    let complaint = async {
        let mut complaint = Vec::new();
        while let Some(Ok(Output::Stdout(piece) | Output::Stderr(piece))) = process.output.next().await {
            let room = COMPLAINT_BYTES_MAX.saturating_sub(complaint.len());
            complaint.extend(piece.iter().take(room));
        }
        complaint
    };
    let ((), complaint) = tokio::join!(input, complaint);
    match process.control.wait().await? {
        ExitStatus::Exited(0) => Ok(()),
        status => {
            let said = String::from_utf8_lossy(&complaint).trim().to_owned();
            let reason = format!("`{path}`: {}", if said.is_empty() { format!("{status:?}") } else { said });
            Err(EngineError::Failed { action: ACTION, reason, is_answer: true })
        }
    }
}
