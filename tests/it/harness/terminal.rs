//! A person at a terminal of 100 by 40: OpenSSH's client inside tmux, with keys to press and a screen to read.

use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use super::client::Client;
use super::poll_until;

const CONFIG: &str = "set -g status off\nset -g default-terminal xterm-256color\nset -g escape-time 0\n\
                      set -g remain-on-exit on\nset -g history-limit 10000\n";
/// For any text to show up on the screen; the first has to wait for a container.
const PATIENCE: Duration = Duration::from_mins(1);

/// One client in one terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    folder: TempDir,
}

impl Terminal {
    /// Runs `client` in a terminal; when it ends the screen says `[status N]`.
    pub(crate) async fn open(client: &Client) -> Self {
        let folder = TempDir::with_prefix("coracle-it-tmux-").expect("a temporary folder");
        std::fs::write(folder.path().join("tmux.conf"), CONFIG).expect("a writable folder");
        let line = format!("{}; echo \"[status $?]\"; exec sleep 600", client.line());
        let terminal = Self { folder };
        terminal.tmux(&["new-session", "-d", "-x", "100", "-y", "40", "/bin/sh", "-c", &line]).await;
        terminal
    }

    /// Types text and then Enter.
    pub(crate) async fn enter(&self, line: &str) {
        self.text(line).await;
        self.keys(&["Enter"]).await;
    }

    /// Types text as it is.
    pub(crate) async fn text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]).await;
    }

    /// Presses keys by their tmux names: `C-c`, `Up`, `Enter`.
    pub(crate) async fn keys(&self, keys: &[&str]) {
        let mut arguments = vec!["send-keys"];
        arguments.extend(keys);
        self.tmux(&arguments).await;
    }

    pub(crate) async fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]).await;
    }

    /// The screen as it is now.
    pub(crate) async fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).await
    }

    /// Waits for `text` on the screen and gives the screen.
    pub(crate) async fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |screen| screen.contains(text)).await
    }

    /// Waits for a screen that satisfies `condition`.
    pub(crate) async fn wait_until(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let search = poll_until(what, Duration::MAX, async || {
            last = self.screen().await;
            condition(&last).then(|| last.clone())
        });
        let found = tokio::time::timeout(PATIENCE, search).await;
        found.unwrap_or_else(|_| panic!("no `{what}` on the screen:\n{}", last.trim_end()))
    }

    async fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(self.folder.path().join("socket"))
            .arg("-f")
            .arg(self.folder.path().join("tmux.conf"))
            .args(arguments)
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .await
            .expect("tmux is installed");
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut command = std::process::Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("socket")).arg("kill-server");
        // Gone already is as good.
        drop(command.output());
    }
}
