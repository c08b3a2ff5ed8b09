//! docs/recipes/vscode.md: a replay of what Remote-SSH does, with OpenSSH's client as it uses it, and a stub for its server.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Recipe, serve, stop};
use crate::harness::{Desk, MIB, Running, Sshd, Target, free_port, noise, poll_until};

const BOOTSTRAP: &str = include_str!("../clients/vscode_bootstrap.sh");
const SERVER: &str = include_str!("../clients/vscode_server.py");
const FOLDER: &str = ".vscode-server/bin/8b617bd08fd9e3fc94d14adb8d358b56e3f72314";
const END: &str = "c9de35c12409: end";

/// A window: one `ssh -D`, and what its script has said.
struct Window {
    ssh: Running,
    socks: u16,
    said: String,
}

impl Window {
    /// Connects as the extension does and sends its script.
    async fn open(desk: &Desk<'_>) -> Self {
        let socks = free_port();
        let connect = format!("exec ssh -v -T -D {socks} -o ConnectTimeout=15 coracle bash");
        let mut ssh = desk.run(&connect).spawn();
        ssh.write(b"echo \"ready: c9de35c12409\"\nuname -rsv\n").await;
        ssh.wait_for("Linux ").await;
        // It looks which shell it has, and goes on in one of its own.
        ssh.write(b"echo \"shell: $0\"\nsh\n").await;
        ssh.wait_for("shell: bash").await;
        ssh.write(BOOTSTRAP.as_bytes()).await;
        Self { ssh, socks, said: String::new() }
    }

    /// Gives it the server, where it asks for one: by scp, which is another connection.
    async fn hand_over_the_server(&mut self, desk: &Desk<'_>) {
        self.ssh.wait_for("trigger_server_download_end").await;
        desk.write("vscode-server.py", SERVER);
        let pack = "mkdir -p pack/server/bin && install -m 755 vscode-server.py pack/server/bin/code-server && \
                    tar -C pack -czf vscode-server.tar.gz server && touch vscode-server.tar.gz.done\n";
        let copy = format!(
            "scp -o ConnectTimeout=15 vscode-server.tar.gz coracle:{FOLDER}/\nscp -o ConnectTimeout=15 vscode-server.tar.gz.done coracle:{FOLDER}/\n"
        );
        desk.run(&format!("{pack}{copy}")).output().await.assert_success();
    }

    /// Waits until the script has found or started a server.
    async fn settle(&mut self) {
        self.said = self.ssh.wait_for(END).await;
    }

    /// The port in the container that the server has.
    fn port(&self) -> u16 {
        let (_, after) = self.said.split_once("listeningOn==127.0.0.1:").expect("a port");
        after.split_once("==").unwrap().0.parse().unwrap_or_else(|_| panic!("no port: {}", self.said))
    }

    /// A connection to the server through the window's ssh (SOCKS 5, RFC 1928).
    async fn dial(&self) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.socks)).await.expect("ssh listens");
        stream.write_all(&[5, 1, 0]).await.unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer[..2]).await.unwrap();
        let [high, low] = self.port().to_be_bytes();
        stream.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, high, low]).await.unwrap();
        stream.read_exact(&mut answer).await.expect("a SOCKS answer");
        assert_eq!(answer[1], 0, "the forward was refused");
        stream
    }

    /// The commit of the server, and which run of it this is.
    async fn version(&self) -> String {
        let mut stream = self.dial().await;
        stream.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        body.to_owned()
    }

    /// What a window does all day: something long-lived over an upgraded connection.
    async fn work(&self) {
        let mut stream = self.dial().await;
        stream
            .write_all(b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await
            .unwrap();
        let mut head = vec![0; 85];
        let length = stream.read(&mut head).await.unwrap();
        assert!(head[..length].starts_with(b"HTTP/1.1 101"), "no upgrade");
        let data = noise(MIB);
        let (mut reader, mut writer) = stream.split();
        let mut back = vec![0; MIB];
        let echo = async { tokio::join!(writer.write_all(&data), reader.read_exact(&mut back)) };
        let (sent, received) = tokio::time::timeout(Duration::from_secs(30), echo).await.expect("an echo");
        assert!(sent.is_ok() && received.is_ok() && back == data);
    }
}

async fn an_editor_installs_its_server_and_comes_back_to_it(target: &Target) {
    let desk = target.desk("");

    let mut first = Window::open(&desk).await;
    first.hand_over_the_server(&desk).await;
    first.settle().await;
    let version = first.version().await;
    for _ in 0..4 {
        tokio::join!(first.work(), first.work(), first.work());
    }
    // The network is gone: nobody says goodbye.
    first.ssh.kill();
    if !target.is_oracle {
        // Until its programs are hung up the server is there, and a window that comes back in that moment finds it.
        poll_until("the first window's programs are gone", Duration::from_secs(20), async || {
            let log = target.log.lines();
            log.iter()
                .any(|line| line.contains("session ended") && line.contains("closed the channel"))
                .then_some(())
        })
        .await;
    }
    let mut second = Window::open(&desk).await;
    second.settle().await;
    second.work().await;

    assert!(first.said.contains("didLocalDownload==1=="), "{}", first.said);
    assert!(second.said.contains("Found existing installation"), "{}", second.said);
    if target.is_oracle {
        assert!(second.said.contains("Found running server"), "{}", second.said);
        assert_eq!(second.version().await, version);
    } else {
        // What a program leaves in the background of its process group is hung up with it, so there is another.
        assert!(second.said.contains("Spawned remote server"), "{}", second.said);
        assert_ne!(second.version().await, version);
    }
}

/// Open Remote - SSH, the extension of free builds: its script ends, and the server is on its own.
async fn a_server_that_was_left_alone_is_found_again(target: &Target) {
    let desk = target.desk("");
    desk.write("vscode-server.py", SERVER);
    let install = format!(
        "ssh coracle 'mkdir -p {FOLDER}/bin && cat >{FOLDER}/bin/code-server && chmod +x {FOLDER}/bin/code-server' <vscode-server.py"
    );
    desk.run(&install).output().await.assert_success();
    let mut versions = Vec::new();

    for found in ["Spawned remote server", "Found running server"] {
        let script = desk.run("ssh -T coracle ONCE=1 sh").stdin(BOOTSTRAP).output().await;
        let said = script.assert_success().stdout();
        assert!(said.contains(found), "{said}");
        let socks = free_port();
        let ssh = desk.run(&format!("exec ssh -N -D {socks} coracle")).spawn();
        poll_until("ssh listens", Duration::from_secs(15), async || {
            TcpStream::connect(("127.0.0.1", socks)).await.ok()
        })
        .await;
        let window = Window { ssh, socks, said };
        window.work().await;
        versions.push(window.version().await);
    }

    assert_eq!(versions[0], versions[1]);
}

/// F9
#[tokio::test]
async fn a_server_that_was_left_alone_is_found_again_in_a_persistent_container() {
    let server = serve(&Recipe::read("vscode")).await;
    a_server_that_was_left_alone_is_found_again(&server).await;
    stop(server).await;
}

/// F9
#[tokio::test]
async fn a_server_that_was_left_alone_is_found_again_at_the_oracle() {
    let sshd = Sshd::start_at_workbench(&[]).await;
    a_server_that_was_left_alone_is_found_again(&sshd).await;
    sshd.stop().await;
}

/// F9
#[tokio::test]
async fn an_editor_installs_its_server_and_comes_back_to_it_in_a_persistent_container() {
    let server = serve(&Recipe::read("vscode")).await;
    an_editor_installs_its_server_and_comes_back_to_it(&server).await;
    stop(server).await;
}

/// F9
#[tokio::test]
async fn an_editor_installs_its_server_and_comes_back_to_it_at_the_oracle() {
    let sshd = Sshd::start_at_workbench(&[]).await;
    an_editor_installs_its_server_and_comes_back_to_it(&sshd).await;
    sshd.stop().await;
}
