//! docs/recipes/git-with-your-keys.md, with OpenSSH's agent, git, and a host for git in a container of its own.

use std::time::Duration;

use super::{Recipe, WORKBENCH};
use crate::harness::{Sshd, Target, TestServer, docker, keygen, poll_until};

/// What makes a container a host for git: a user `git`, whose one key the host has been given, and a project.
const HOST: &str = "useradd -m -s /usr/bin/git-shell -p '*' git && mkdir -p /run/sshd /home/git/team && cd /tmp && \
    git init -q -b main made && git -C made -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m first && \
    git clone -q --bare made /home/git/team/project.git && chown -R git: /home/git && \
    exec /usr/sbin/sshd -D -e -h /keys/host -o AuthorizedKeysFile=/keys/agent.pub -o StrictModes=no";

/// A host for git on the engine's network.
struct GitHost {
    container: String,
    address: String,
}

impl GitHost {
    /// With keys in `folder`: `host`, and `agent`, which alone may come in.
    async fn start(folder: &std::path::Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        for name in ["host", "agent"] {
            keygen(&folder.join(name));
        }
        let mount = format!("{}:/keys:ro", folder.display());
        let container = docker(&["run", "-d", "--init", "-v", &mount, WORKBENCH, "sh", "-c", HOST]).await;
        let format = "{{.NetworkSettings.IPAddress}}";
        let address = docker(&["inspect", "--format", format, &container]).await;
        poll_until("the host for git", Duration::from_secs(20), async || {
            tokio::net::TcpStream::connect((address.as_str(), 22)).await.ok()
        })
        .await;
        let key = std::fs::read_to_string(folder.join("host.pub")).unwrap();
        std::fs::write(folder.join("known_hosts"), format!("git.example.org {key}")).unwrap();
        Self { container, address }
    }
}

impl Drop for GitHost {
    fn drop(&mut self) {
        drop(std::process::Command::new("docker").args(["rm", "-fv", &self.container]).output());
    }
}

async fn clones_with_the_agent(target: &Target, keys: &std::path::Path) {
    let recipe = Recipe::read("git-with-your-keys");
    let desk = target.desk("");
    let agent = keys.join("agent");
    let with_agent = |script: &str| {
        let script = format!("ssh-add -q '{}'\n{script}", agent.display()).replace('\'', r"'\''");
        desk.run(&format!("exec ssh-agent sh -euc '{script}'"))
    };
    let push = "cd $(mktemp -d) && git clone -q git@git.example.org:team/project.git && cd project && git -c user.name=b -c user.email=b@example.org \
                commit -q --allow-empty -m second && git push -q origin main && git log --format=%s origin/main";

    let clone = with_agent(&recipe.commands("client")).output().await;
    let pushed = with_agent(&format!("ssh -A coracle '{push}'")).output().await;
    let without = desk.run(&format!("ssh -A coracle '{push}'")).output().await;
    let key_stays =
        with_agent("ssh -A coracle 'ssh-add -l && ls -A ~/.ssh 2>/dev/null | grep -v known_hosts || true'")
            .output()
            .await;

    let text = clone.assert_success().stdout();
    assert!(text.contains("SHA256:") && text.trim_end().ends_with(" first"), "{}", clone.report());
    pushed.assert_success().assert_stdout("second\nfirst\n");
    assert!(without.code() != 0 && without.stderr().contains("Permission denied"), "{}", without.report());
    assert_eq!(key_stays.assert_success().stdout().lines().count(), 1, "{}", key_stays.report());
    target.seen("git", "with the client's agent");
}

/// F9, F6
#[tokio::test]
async fn git_in_the_container_uses_the_keys_of_the_clients_machine() {
    let folder = tempfile::TempDir::with_prefix("coracle-it-git-").unwrap();
    let host = GitHost::start(folder.path()).await;
    let known_hosts = folder.path().join("known_hosts");
    let recipe = Recipe::read("git-with-your-keys")
        .with("/etc/coracle/known_hosts", known_hosts.display().to_string());
    let server = TestServer::builder()
        .docker_config(&format!("host: {{extraHosts: [\"git.example.org:{}\"]}}", host.address))
        .recipe(&recipe)
        .start()
        .await;

    clones_with_the_agent(&server, folder.path()).await;

    server.stop().await;
}

/// F9, F6
#[tokio::test]
async fn git_uses_the_keys_of_the_clients_machine_at_the_oracle() {
    let folder = tempfile::TempDir::with_prefix("coracle-it-git-").unwrap();
    let host = GitHost::start(folder.path()).await;
    let name = format!("git.example.org:{}", host.address);
    let mount = format!("{}:/etc/ssh/ssh_known_hosts:ro", folder.path().join("known_hosts").display());
    let sshd = Sshd::start_at_workbench(&["--add-host", &name, "-v", &mount]).await;

    clones_with_the_agent(&sshd, folder.path()).await;

    sshd.stop().await;
}
