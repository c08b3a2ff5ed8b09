//! Sockets that a service manager hands over, by one that is played: `sd_listen_fds(3)`.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;

use crate::harness::{Home, Server, TINY, poll, text};

/// `coracle serve ARGS` with these as its descriptors 3 and on.
fn serve_with(home: &Home, sockets: &[&dyn AsFd], args: &[&str]) -> Command {
    let mut moves = String::new();
    for (index, socket) in sockets.iter().enumerate() {
        fcntl_setfd(socket.as_fd(), FdFlags::empty()).unwrap();
        write!(moves, "{}<&{} ", index + 3, socket.as_fd().as_raw_fd()).unwrap();
    }
    let plain = home.command(&[&["serve"], args].concat());
    let mut shell = Command::new("bash");
    let script = format!("export LISTEN_PID=$$ LISTEN_FDS={}; exec \"$0\" \"$@\" {moves}", sockets.len());
    shell.args(["-c", &script]).arg(plain.get_program()).args(plain.get_args());
    shell.current_dir(home.folder.path()).env_clear().env("HOME", home.folder.path());
    shell.env("PATH", "/usr/bin:/bin").stdin(std::process::Stdio::null());
    shell
}

#[test]
fn a_socket_that_was_handed_over_counts_instead_of_the_configured_address() {
    let home = Home::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // It waits for the server, which is not there yet.
    let early = TcpStream::connect(address).unwrap();
    let args = ["--image", TINY, "--keys", ".ssh/id_ed25519.pub"];

    let mut server = Server::start(serve_with(&home, &[&socket], &args));

    assert_eq!(server.address(), address);
    let mut greeting = [0; 4];
    std::io::Read::read_exact(&mut &early, &mut greeting).unwrap();
    assert_eq!(&greeting, b"SSH-");
    let said = poll("a greeting", || Some(server.stdout()).filter(|said| said.contains("Ctrl-C")));
    let fingerprint = said.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap();
    let output = home.ssh(address, fingerprint, "echo in");
    assert_eq!(text(&output.stdout), "in\n", "{}\n{}", text(&output.stderr), server.stderr());
    drop(early);
    server.stop();
}

#[test]
fn what_is_no_listening_tcp_socket_is_refused_with_what_to_do() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = UnixListener::bind(home.path("socket")).unwrap();
    let file = std::fs::File::create(home.path("file")).unwrap();
    let cases: [(&[&dyn AsFd], &str); 5] = [
        (&[&connection], "a connection and not a listening socket"),
        (&[&datagrams], "cannot be served"),
        (&[&local], "cannot be served"),
        (&[&file], "cannot be served"),
        (&[&listener, &other], "2 sockets were handed over"),
    ];

    for (sockets, told) in cases {
        let output = serve_with(&home, sockets, &[]).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}: {error}");
        assert!(error.contains(told) && error.contains("ListenStream="), "{error}");
    }
}

#[test]
fn a_development_key_is_refused_on_a_socket_that_others_can_reach() {
    let home = Home::new();
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let key = crate::harness::top_level("keys-dev/ssh_host_ed25519_key");
    let config = format!("stateDir: state\nssh: {{hostKeys: [{}]}}\n", key.display());
    std::fs::write(home.path("config.yaml"), &config).unwrap();

    let output = serve_with(&home, &[&socket], &[]).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("must not serve on `0.0.0.0:"), "{}", text(&output.stderr));

    // Nor by a reload.
    std::fs::write(home.path("config.yaml"), "stateDir: state\n").unwrap();
    let mut server = Server::start(serve_with(&home, &[&socket], &[]));
    server.address();
    std::fs::write(home.path("config.yaml"), &config).unwrap();
    server.signal(Signal::HUP);
    poll("a refusal", || server.stderr().contains("must not serve on `0.0.0.0:").then_some(()));
    server.stop();
}
