//! The oracle: OpenSSH's server in a container of the guest image.

use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::docker::{docker, docker_blocking};
use super::keys::{Keys, keygen};
use super::ports::free_port;
use super::target::Target;
use super::turn::Turn;
use super::{WORKBENCH, poll_until};

const IMAGE: &str = "coracle/guest-sshd:latest";

/// A running sshd. Derefs to the [`Target`] that clients connect to.
#[derive(Debug)]
pub(crate) struct Sshd {
    target: Target,
    container: String,
    _folder: TempDir,
    _turn: Turn,
}

impl Sshd {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[], Turn::shared().await).await
    }

    /// While no other test runs: for what is measured in milliseconds.
    pub(crate) async fn start_alone() -> Self {
        Self::start_with(&[], Turn::alone().await).await
    }

    /// Where everything may be forwarded.
    pub(crate) async fn start_forwarding() -> Self {
        Self::start_with(&["X11Forwarding=yes"], Turn::shared().await).await
    }

    /// With `-o` options of `sshd_config`.
    pub(crate) async fn start_with(options: &[&str], turn: Turn) -> Self {
        Self::start_in(IMAGE, &[], options, turn).await
    }

    /// In the image with everything that recipes need; `docker_options` are those of `docker run`.
    pub(crate) async fn start_at_workbench(docker_options: &[&str]) -> Self {
        Self::start_in(WORKBENCH, docker_options, &[], Turn::shared().await).await
    }

    async fn start_in(image: &str, docker_options: &[&str], options: &[&str], turn: Turn) -> Self {
        let folder = TempDir::with_prefix("coracle-it-sshd-").expect("a temporary folder");
        let keys = Keys::generate(folder.path());
        keygen(&folder.path().join("host"));
        // sshd reads the keys of a user as that user.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).expect("a folder of our own");
        let mount = format!("{}:/oracle:ro", folder.path().display());
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free_port());
        let port = address.port().to_string();
        // On the host's own loopback, as the server under test: no bridge in between.
        let mut arguments =
            vec!["run", "-d", "--init", "--network", "host", "--label", "coracle.oracle=1", "-v", &mount];
        arguments.extend(docker_options);
        // Without the file sshd complains on the user's terminal.
        let start = "mkdir -p /run/sshd; touch /var/log/lastlog /var/log/wtmp; exec /usr/sbin/sshd \"$@\"";
        arguments.extend(["--entrypoint", "/bin/sh", "--user", "0", image, "-c", start, "sh", "-D", "-e"]);
        arguments.extend(["-h", "/oracle/host", "-f", "/dev/null", "-p", &port]);
        let fixed = [
            "AuthorizedKeysFile=/oracle/authorized_keys",
            "ListenAddress=127.0.0.1",
            // On the machine's own network its forwards would get a port that is free by IPv6, and do without IPv4 where
            // another test has the same one.
            "AddressFamily=inet",
            "StrictModes=no",
            "AcceptEnv=LANG LC_* COLORTERM FOO",
            "Subsystem=sftp /usr/lib/openssh/sftp-server",
            "MaxStartups=200",
            "MaxSessions=100",
            "UsePAM=no",
            "PrintLastLog=no",
            "PrintMotd=no",
            "UseDNS=no",
        ];
        // Of two values sshd takes the first.
        for option in options.iter().chain(&fixed) {
            arguments.extend(["-o", option]);
        }
        let container = docker(&arguments).await;
        let target = Target::oracle(folder.path(), address, keys);
        let sshd = Self { target, container, _folder: folder, _turn: turn };
        poll_until("sshd listens", Duration::from_secs(10), async || TcpStream::connect(address).await.ok())
            .await;
        sshd
    }

    pub(crate) async fn stop(self) {
        docker(&["rm", "-fv", &self.container]).await;
    }
}

impl Deref for Sshd {
    type Target = Target;

    fn deref(&self) -> &Target {
        &self.target
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::process::Command::new("docker").args(["logs", &self.container]).output();
            let log = log.map(|log| String::from_utf8_lossy(&log.stderr).into_owned()).unwrap_or_default();
            eprintln!("-- log of sshd --\n{log}");
        }
        // Gone already when the test stopped it.
        drop(docker_blocking(&["rm", "-fv", &self.container]));
    }
}
