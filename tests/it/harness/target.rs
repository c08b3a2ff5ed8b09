//! What a client connects to: the server under test or the oracle.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::client::Client;
use super::keys::Keys;
use super::multiplex::Master;

/// The user name every test logs in as; the user of the guest image's own.
pub(crate) const USER: &str = "root";

/// Another one in the guest image.
const UNPRIVILEGED_USER: &str = "coracle";

/// What a server wrote, for the message of a test that fails.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }
}

/// Where clients go, and what they prove themselves with.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddrV4,
    pub(crate) user: String,
    pub(crate) keys: Keys,
    pub(crate) log: Log,
    pub(crate) is_oracle: bool,
    folder: PathBuf,
}

impl Target {
    pub(crate) fn new(folder: &Path, address: SocketAddrV4, keys: Keys, log: Log) -> Self {
        Self { address, user: USER.to_owned(), keys, log, is_oracle: false, folder: folder.to_owned() }
    }

    /// OpenSSH's own server, for the few cases where a cause to differ exists.
    pub(crate) fn oracle(folder: &Path, address: SocketAddrV4, keys: Keys) -> Self {
        Self { is_oracle: true, ..Self::new(folder, address, keys, Log::default()) }
    }

    /// The same server through another door, such as a proxy.
    pub(crate) fn through(&self, address: SocketAddrV4) -> Self {
        let keys = Keys::at(&self.folder);
        Self {
            address,
            keys,
            user: self.user.clone(),
            log: self.log.clone(),
            folder: self.folder.clone(),
            ..*self
        }
    }

    /// As a user without privileges where the server runs programs as the user who logs in: for what sshd does not do
    /// for root.
    pub(crate) fn unprivileged(&self) -> Self {
        let user = if self.is_oracle { UNPRIVILEGED_USER } else { USER };
        Self { user: user.to_owned(), ..self.through(self.address) }
    }

    /// A place for files of this test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `user@host`.
    pub(crate) fn destination(&self) -> String {
        format!("{}@{}", self.user, self.address.ip())
    }

    /// OpenSSH's client with `arguments` after the destination.
    pub(crate) fn ssh(&self, arguments: &[&str]) -> Client {
        let destination = self.destination();
        self.program("ssh")
            .args(self.ssh_options())
            .arg("-p")
            .arg(self.address.port().to_string())
            .then(std::iter::once(destination.as_str()).chain(arguments.iter().copied()))
    }

    /// `ssh` as another user.
    pub(crate) fn ssh_to(&self, user: &str, arguments: &[&str]) -> Client {
        let host = self.address.ip().to_string();
        self.program("ssh")
            .args(self.ssh_options())
            .args(["-p", &self.address.port().to_string(), "-l", user])
            .then(std::iter::once(host.as_str()).chain(arguments.iter().copied()))
    }

    /// `ssh` as another user with a password, which is tried once.
    pub(crate) fn ssh_with_password(&self, user: &str, password: &str, arguments: &[&str]) -> Client {
        let askpass = self.path("askpass");
        if !askpass.exists() {
            super::write_program(&askpass, "#!/bin/sh\nprintf '%s\\n' \"$TEST_PASSWORD\"\n");
        }
        let options = self.ssh_options().into_iter();
        let host = self.address.ip().to_string();
        self.program("ssh")
            .args(options.map(|option| option.replace("BatchMode=yes", "BatchMode=no")))
            .option("PreferredAuthentications=password")
            .option("NumberOfPasswordPrompts=1")
            .env("SSH_ASKPASS", askpass)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("TEST_PASSWORD", password)
            .args(["-p", &self.address.port().to_string(), "-l", user])
            .then(std::iter::once(host.as_str()).chain(arguments.iter().copied()))
    }

    /// `true` as another user or with another key.
    pub(crate) fn ssh_as(&self, user: &str, key: &Path) -> Client {
        let options = self.ssh_options();
        let options = options.iter().filter(|option| **option != self.keys.client().display().to_string());
        let words: Vec<_> = options.filter(|option| *option != "-i").collect();
        let port = self.address.port().to_string();
        self.program("ssh")
            .args(words)
            .arg("-i")
            .arg(key)
            .args(["-p", &port, "-l", user])
            .then([self.address.ip().to_string().as_str(), "true"])
    }

    /// `sftp`, reading its commands from standard input.
    pub(crate) fn sftp(&self) -> Client {
        let port = self.address.port().to_string();
        let destination = self.destination();
        self.program("sftp")
            .args(self.ssh_options())
            .args(["-P", &port, "-b", "-"])
            .then([destination.as_str()])
    }

    /// `scp` with its own arguments; [`Target::remote`] makes the remote ones.
    pub(crate) fn scp(&self, arguments: &[&str]) -> Client {
        let port = self.address.port().to_string();
        self.program("scp").args(self.ssh_options()).args(["-P", &port]).then(arguments.iter().copied())
    }

    /// `rsync` over ssh on the connection of `master`.
    pub(crate) fn rsync_over(&self, master: &Master<'_>, arguments: &[&str]) -> Client {
        self.program("rsync").arg("-e").arg(self.ssh_command(master)).then(arguments)
    }

    /// `git` without a connection.
    pub(crate) fn git(&self, arguments: &[&str]) -> Client {
        self.program("git")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_NAME", "test")
            .env("GIT_AUTHOR_EMAIL", "test@example.org")
            .env("GIT_COMMITTER_NAME", "test")
            .env("GIT_COMMITTER_EMAIL", "test@example.org")
            .then(arguments)
    }

    /// `git` over ssh on the connection of `master`.
    pub(crate) fn git_over(&self, master: &Master<'_>, arguments: &[&str]) -> Client {
        self.git(arguments).env("GIT_SSH_COMMAND", self.ssh_command(master))
    }

    /// `user@host:path`, for scp, rsync and git.
    pub(crate) fn remote(&self, path: &str) -> String {
        format!("{}:{path}", self.destination())
    }

    /// Any program, with the time-out and the log of this target.
    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Client {
        Client::new(program.as_ref(), self.log.clone())
    }

    /// The options that keep the developer's own configuration, agent and known hosts out of a test.
    pub(crate) fn ssh_options(&self) -> Vec<String> {
        let known_hosts = self.path("known_hosts");
        let mut options = vec!["-F".to_owned(), "/dev/null".to_owned(), "-i".to_owned()];
        options.push(self.keys.client().display().to_string());
        for option in [
            "IdentitiesOnly=yes",
            "IdentityAgent=SSH_AUTH_SOCK",
            "BatchMode=yes",
            "StrictHostKeyChecking=accept-new",
            "GlobalKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            &format!("UserKnownHostsFile={}", known_hosts.display()),
        ] {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    /// One line for programs that start ssh themselves.
    fn ssh_command(&self, master: &Master<'_>) -> String {
        let options = self.ssh_options().join(" ");
        format!("ssh {options} -p {} -o {}", self.address.port(), master.control_path())
    }
}
