//! OpenSSH's authentication agent on this machine, with one fresh key.

use std::path::PathBuf;
use std::time::Duration;

use super::client::{Client, Running};
use super::keys::keygen;
use super::poll_until;
use super::target::Target;

/// Runs for as long as it is held.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: PathBuf,
    key: PathBuf,
    _running: Running,
}

impl Agent {
    /// `key` is the name of its key in the test's folder.
    pub(crate) async fn start(target: &Target, key: &str) -> Self {
        let (socket, key) = (target.path(&format!("{key}.agent")), target.path(key));
        keygen(&key);
        let running = target.program("ssh-agent").args(["-D", "-a"]).arg(&socket).spawn();
        let add = target.program("ssh-add").env("SSH_AUTH_SOCK", &socket).arg("-q").arg(&key);
        // The socket's file is there before anybody listens.
        poll_until("the agent", Duration::from_secs(40), async || {
            (add.clone().output().await.code() == 0).then_some(())
        })
        .await;
        Self { socket, key, _running: running }
    }

    /// `client`, an OpenSSH's, that forwards it.
    pub(crate) fn with(&self, client: Client) -> Client {
        client.env("SSH_AUTH_SOCK", &self.socket).arg("-A")
    }

    /// Its key, of which programs inside have only the public half.
    pub(crate) fn public_key(&self) -> String {
        std::fs::read_to_string(self.key.with_extension("pub")).expect("a key of ours").trim().to_owned()
    }

    /// As `ssh-add -l` names the key.
    pub(crate) async fn fingerprint(&self, target: &Target) -> String {
        let list = target.program("ssh-keygen").args(["-lf"]).arg(&self.key).output().await;
        list.assert_success().stdout().split_whitespace().nth(1).expect("a fingerprint").to_owned()
    }
}
