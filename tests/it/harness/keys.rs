//! Fresh keys for one test, in its own folder.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with `client` (in `authorized_keys`), `stranger` (a sound key that nobody knows) and their public halves.
#[derive(Debug)]
pub(crate) struct Keys {
    folder: PathBuf,
}

impl Keys {
    pub(crate) fn generate(folder: &Path) -> Self {
        for name in ["client", "stranger"] {
            keygen(&folder.join(name));
        }
        std::fs::copy(folder.join("client.pub"), folder.join("authorized_keys")).expect("a writable folder");
        Self { folder: folder.to_owned() }
    }

    /// Those that [`Keys::generate`] made before.
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(crate) fn client(&self) -> PathBuf {
        self.folder.join("client")
    }

    pub(crate) fn stranger(&self) -> PathBuf {
        self.folder.join("stranger")
    }
}

/// An Ed25519 pair at `path` and `path.pub`.
pub(crate) fn keygen(path: &Path) {
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(path)
        .output()
        .expect("ssh-keygen is installed");
    assert!(output.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&output.stderr));
}
