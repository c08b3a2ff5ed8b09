//! Keys, certificates and revocation lists as `ssh-keygen` makes them, in a folder of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::wire::parse_key;
use super::{Certificate, Circumstances, PublicKey};

pub(super) struct Keygen {
    folder: tempfile::TempDir,
}

impl Keygen {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub(super) fn run(&self, arguments: &[&str]) {
        let output = Command::new("ssh-keygen")
            .current_dir(self.folder.path())
            .env("TZ", "UTC")
            .args(arguments)
            .output()
            .expect("ssh-keygen is installed");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A key of `kind`, such as `ed25519` or `rsa`, of `bits` if that is not 0.
    pub(super) fn key(&self, name: &str, kind: &str, bits: u32) -> PublicKey {
        let bits = bits.to_string();
        let size = if bits == "0" { &[][..] } else { &["-b", &bits] };
        self.run(&[&["-q", "-t", kind, "-N", "", "-C", "a comment", "-f", name], size].concat());
        self.read_key(&format!("{name}.pub"))
    }

    pub(super) fn read_key(&self, name: &str) -> PublicKey {
        PublicKey::from_blob(blob_in(&self.path(name)))
    }

    /// A certificate by the authority `ca` for the key `name`; `options` are `ssh-keygen`'s.
    pub(super) fn sign(&self, ca: &str, name: &str, options: &[&str]) -> Certificate {
        let public = format!("{name}.pub");
        self.run(&[&["-q", "-s", ca], options, &[&public]].concat());
        Certificate::parse(&blob_in(&self.path(&format!("{name}-cert.pub")))).unwrap()
    }

    /// A revocation list of the files `names`; `options` are `ssh-keygen`'s.
    pub(super) fn krl(&self, name: &str, options: &[&str], names: &[&str]) -> Vec<u8> {
        self.run(&[&["-q", "-k", "-f", name], options, names].concat());
        std::fs::read(self.path(name)).unwrap()
    }

    /// The text of a file, such as that of a public key.
    pub(super) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

fn blob_in(path: &Path) -> Vec<u8> {
    parse_key(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Now, from an address for documentation.
pub(super) fn here_and_now() -> Circumstances {
    Circumstances { source: "192.0.2.1".parse().unwrap(), now: std::time::SystemTime::now() }
}
