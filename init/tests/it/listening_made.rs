//! Listeners for which something is made in the file system.

use std::fs;
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use coracle_init::{DISPLAY_MIN, DISPLAY_PORT, Listen};

use crate::forwarding::{COOKIE, assert_connected, display, unix};
use crate::network;
use crate::peer::Peer;
use crate::server::{Init, until};

/// One more may call at a socket of the file system, and is heard.
fn assert_answers(peer: &mut Peer, listener: u32, process: u32, path: &str) {
    let caller = UnixStream::connect(path).unwrap();
    peer.expect_knock(listener);
    let mut socket = peer.accept(process, listener);
    assert_eq!(peer.expect_accepted(process), (String::new(), 0));
    assert_connected(peer, (process, &mut socket), &caller, || caller.shutdown(Shutdown::Write).unwrap());
}

/// The entries of an authority file: family, address, number, name and data.
fn authority(path: &Path) -> Vec<(u16, [Vec<u8>; 4])> {
    let (bytes, mut entries) = (fs::read(path).unwrap(), Vec::new());
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let mut number = || {
            let (number, more) = rest.split_first_chunk().unwrap();
            rest = more;
            u16::from_be_bytes(*number)
        };
        let family = number();
        let fields = [(); 4].map(|()| {
            let (length, more) = rest.split_first_chunk().unwrap();
            let (field, more) = more.split_at(u16::from_be_bytes(*length).into());
            rest = more;
            field.to_vec()
        });
        entries.push((family, fields));
    }
    entries
}

#[test]
fn a_socket_of_the_file_system_is_its_users_alone_and_goes_away() {
    network::of_its_own();
    let init = Init::start();
    let mut peer = init.serve();
    let path = init.folder.path().join("there");
    peer.listen(1, Listen::At(unix(&path)));
    assert_eq!(peer.expect_listening(1), (0, path.to_str().unwrap().to_owned()));

    let metadata = fs::metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert_answers(&mut peer, 1, 2, path.to_str().unwrap());

    peer.unlisten(1);
    until("it is gone", || !path.exists());
    // Another one may be made there.
    peer.listen(1, Listen::At(unix(&path)));
    peer.expect_listening(1);
}

#[test]
fn an_agent_has_a_folder_that_nobody_else_may_enter() {
    network::of_its_own();
    let init = Init::start();
    let mut peer = init.serve();
    let mut folders = Vec::new();
    for listener in [1, 2] {
        peer.listen(listener, Listen::Agent);
        let (port, path) = peer.expect_listening(listener);
        let path = PathBuf::from(path);
        let folder = path.parent().unwrap().to_owned();
        assert_eq!(port, 0);
        assert!(folder.to_str().unwrap().starts_with("/tmp/ssh-"), "{}", folder.display());
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("agent."));
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_answers(&mut peer, listener, 10 + listener, path.to_str().unwrap());
        folders.push(folder);
    }

    assert_ne!(folders[0], folders[1]);
    peer.unlisten(1);
    until("it is gone", || !folders[0].exists());
    assert!(folders[1].exists());
    drop(peer);
    until("it is gone, too", || !folders[1].exists());
}

#[test]
fn a_display_is_the_first_free_one_and_has_a_cookie() {
    network::of_its_own();
    let init = Init::start();
    let mut peer = init.serve();
    peer.listen(1, display());
    let (port, path) = peer.expect_listening(1);
    peer.listen(2, display());
    let (next_port, next_path) = peer.expect_listening(2);
    assert!(port >= DISPLAY_PORT + DISPLAY_MIN && next_port > port, "{port} {next_port}");

    for (port, path) in [(port, &path), (next_port, &next_path)] {
        let number = (port - DISPLAY_PORT).to_string().into_bytes();
        let fields = [Vec::new(), number, b"MIT-MAGIC-COOKIE-1".to_vec(), COOKIE.to_vec()];
        assert_eq!(authority(path.as_ref()), [(0xffff, fields)]);
        let path = Path::new(path);
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    }
    for (process, host) in [(3, "127.0.0.1"), (4, "::1")] {
        let caller = TcpStream::connect((host, port)).unwrap();
        peer.expect_knock(1);
        let mut socket = peer.accept(process, 1);
        assert_eq!(peer.expect_accepted(process).0, host);
        let half_close = || caller.shutdown(Shutdown::Write).unwrap();
        assert_connected(&mut peer, (process, &mut socket), &caller, half_close);
    }
    peer.unlisten(1);
    until("it is gone", || !Path::new(&path).parent().unwrap().exists());
}
