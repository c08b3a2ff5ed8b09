//! Several channels over one connection: OpenSSH's control master.

use std::path::PathBuf;
use std::time::Duration;

use super::client::{Client, Running};
use super::poll_until;
use super::target::Target;

/// One live connection without a channel of its own.
#[derive(Debug)]
pub(crate) struct Master<'t> {
    target: &'t Target,
    socket: PathBuf,
    running: Running,
}

impl Target {
    /// Connects and keeps the connection for many channels. `options` as for `-o`.
    pub(crate) async fn master(&self, options: &[&str]) -> Master<'_> {
        let client = options.iter().fold(self.ssh(&[]), |client, option| client.option(option));
        self.master_by(client).await
    }

    /// The same by a client of the caller's.
    pub(crate) async fn master_by(&self, client: Client) -> Master<'_> {
        let socket = self.path(&format!("m{:x}", rand::random::<u32>()));
        let running = client.arg("-N").arg("-M").arg("-S").arg(&socket).spawn();
        let mut master = Master { target: self, socket, running };
        poll_until("the control master's socket", Duration::from_secs(20), async || {
            assert!(
                !master.running.has_ended(),
                "the control master ended\n-- server --\n{}",
                self.log.text()
            );
            let check = self.ssh(&[]).arg("-S").arg(&master.socket).args(["-O", "check"]).output().await;
            (check.code() == 0).then_some(())
        })
        .await;
        master
    }
}

impl Master<'_> {
    /// A channel of its own on the shared connection.
    pub(crate) fn ssh(&self, arguments: &[&str]) -> Client {
        self.target.ssh(arguments).arg("-S").arg(&self.socket)
    }

    /// Whether the connection is over.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.running.has_ended()
    }

    /// The option that makes any OpenSSH program use this connection.
    pub(crate) fn control_path(&self) -> String {
        format!("ControlPath={}", self.socket.display())
    }

    /// Ends the connection in good order.
    pub(crate) async fn close(self) {
        self.target.ssh(&[]).arg("-S").arg(&self.socket).args(["-O", "exit"]).output().await.assert_success();
        self.running.end().await;
    }
}
