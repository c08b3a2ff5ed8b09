//! Files that decide who comes in: read whole, bounded, and only when not everybody may have written them.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::task::spawn_blocking;

/// Reads a file of at most `bytes_max` bytes. Blocks; call it in [`off_loop`].
///
/// # Errors
/// It cannot be read, is no file, is too large, or everybody on the machine may write it.
pub(super) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    // Looked at before it is opened: opening a named pipe would wait for whoever writes to it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.permissions().mode() & 0o002 != 0 {
        return Err(io::Error::other("everybody on this machine may write it; run `chmod o-w` on it"));
    }
    let mut bytes = Vec::new();
    // What is measured is what is read: a file may grow while we look.
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// As [`read`]; a comment in another encoding must not keep everybody out.
///
/// # Errors
/// As [`read`].
pub(super) fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&read(path, bytes_max)?).into_owned())
}

/// Disks may be slow and files long, and the threads of the runtime serve everybody. `None` if the work panicked.
pub(super) async fn off_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    spawn_blocking(work).await.ok()
}
