//! How one listens: on addresses, on a socket for the agent, on a display.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process;

use coracle_init::{Address, DISPLAY_MIN, DISPLAY_PORT, Failure, Listen};
use rustix::fs::Mode;
use rustix::io::{self, Errno};
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};
use rustix::process::umask;

use crate::dial::unix_address;
use crate::made::{MadeFile, MadeFolder, bytes};
use crate::verdict::Failed;

/// Those who may wait to be taken in, for each socket.
const BACKLOG: i32 = 128;

/// Ports that are tried until one is free by both IPv4 and IPv6.
const PORTS_MAX: usize = 10;

/// Displays that are tried, as at sshd.
const DISPLAYS_MAX: usize = 1000;

/// Nothing else may do anything with a socket of ours.
const PRIVATE: Mode = Mode::from_raw_mode(0o177);

/// What listens, and what was made for it.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) sockets: Vec<OwnedFd>,
    /// 0 for a socket of the file system.
    pub(crate) port: u16,
    pub(crate) made: Option<MadeFile>,
}

/// Begins to listen.
pub(crate) fn begin(what: &Listen) -> Result<Listening, Failed> {
    match what {
        Listen::At(Address::Tcp { host, port }) => on_host(host, *port),
        Listen::At(Address::Unix { path }) => on_path(path),
        Listen::Agent => MadeFolder::make(agent),
        Listen::Display { protocol, cookie } => display(protocol, cookie),
    }
}

fn on_host(host: &[u8], port: u16) -> Result<Listening, Failed> {
    let both: [IpAddr; 2] = match host {
        b"localhost" => [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        b"" => [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        host => {
            let address = std::str::from_utf8(host).ok().and_then(|host| host.parse().ok());
            let address = address.ok_or_else(|| {
                Failed::new(Failure::Unknown, "only addresses and `localhost` can be listened on")
            })?;
            let (socket, port) = on_address(address, port)?;
            return Ok(Listening { sockets: vec![socket], port, made: None });
        }
    };
    let mut found = Both::listen(both, port)?;
    for _ in 1..PORTS_MAX {
        if port != 0 || found.is_whole {
            break;
        }
        found = Both::listen(both, port)?;
    }
    Ok(Listening { sockets: found.sockets, port: found.port, made: None })
}

/// What listens by IPv4, and by IPv6 if it can.
#[derive(Debug)]
struct Both {
    sockets: Vec<OwnedFd>,
    port: u16,
    /// Nobody else listens on the same port.
    is_whole: bool,
}

impl Both {
    fn listen([v4, v6]: [IpAddr; 2], port: u16) -> Result<Self, Refusal> {
        let (first, port) = on_address(v4, port)?;
        let second = on_address(v6, port);
        let is_whole = !matches!(second, Err(Refusal(Errno::ADDRINUSE)));
        let sockets = [first].into_iter().chain(second.ok().map(|(second, _)| second)).collect();
        Ok(Self { sockets, port, is_whole })
    }
}

fn on_address(address: IpAddr, port: u16) -> Result<(OwnedFd, u16), Refusal> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = stream_socket(family)?;
    // What was here before us may have connections that are not quite over.
    set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, port))?;
    listen(&socket, BACKLOG)?;
    let port = SocketAddr::try_from(getsockname(&socket)?)?.port();
    Ok((socket, port))
}

fn on_path(path: &[u8]) -> Result<Listening, Failed> {
    let address = unix_address(path)?;
    let socket = stream_socket(AddressFamily::UNIX)?;
    // There is no other thread whose files could be made with it.
    let mask = umask(PRIVATE);
    let bound = bind(&socket, &address);
    umask(mask);
    bound.map_err(Refusal)?;
    let made = MadeFile::new(PathBuf::from(OsStr::from_bytes(path)), None)?;
    listen(&socket, BACKLOG)?;
    Ok(Listening { sockets: vec![socket], port: 0, made: Some(made) })
}

fn agent(folder: MadeFolder) -> Result<Listening, Failed> {
    let path = folder.path().join(format!("agent.{}", process::id()));
    let mut listening = on_path(bytes(&path))?;
    listening.made = listening.made.map(|made| made.keep_in(folder));
    Ok(listening)
}

fn display(protocol: &[u8], cookie: &[u8]) -> Result<Listening, Failed> {
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for number in (DISPLAY_MIN..).take(DISPLAYS_MAX) {
        match Both::listen(loopback, DISPLAY_PORT + number) {
            Err(Refusal(Errno::ADDRINUSE)) => {}
            Err(refusal) => return Err(refusal.into()),
            Ok(both) if !both.is_whole => {}
            Ok(Both { sockets, port, .. }) => {
                let entry = authority(number, protocol, cookie)
                    .ok_or_else(|| Failed::new(Failure::Other, "the display's cookie is too long"))?;
                let made = MadeFolder::make(|folder| {
                    MadeFile::write(folder.path().join("Xauthority"), folder, &entry).map_err(Failed::from)
                })?;
                return Ok(Listening { sockets, port, made: Some(made) });
            }
        }
    }
    Err(Failed::new(Failure::InUse, "no display is free in the container"))
}

/// An entry of an authority file, as libXau writes it: whatever the host is called, the display of this number.
fn authority(number: u16, protocol: &[u8], cookie: &[u8]) -> Option<Vec<u8>> {
    const FAMILY_WILD: u16 = 0xffff;
    let mut entry = FAMILY_WILD.to_be_bytes().to_vec();
    for field in [b"", number.to_string().as_bytes(), protocol, cookie] {
        entry.extend(u16::try_from(field.len()).ok()?.to_be_bytes());
        entry.extend(field);
    }
    Some(entry)
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// What the system says to one who wants to listen.
#[derive(Clone, Copy, Debug)]
struct Refusal(Errno);

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

impl From<Refusal> for Failed {
    fn from(Refusal(errno): Refusal) -> Self {
        match errno {
            Errno::ADDRINUSE => Self::new(Failure::InUse, "somebody else listens there, or the file exists"),
            errno => errno.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_file_is_as_libxau_has_it() {
        assert_eq!(
            authority(10, b"MIT", &[1, 0, 255]).unwrap(),
            b"\xff\xff\0\0\0\x0210\0\x03MIT\0\x03\x01\0\xff"
        );
        assert_eq!(authority(10, b"MIT", &vec![0; 0x1_0000]), None);
    }

    #[test]
    fn a_port_that_only_ipv6_has_taken_is_no_display() {
        let (_other, port) = on_address(Ipv6Addr::LOCALHOST.into(), 0).unwrap();
        let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        assert!(!Both::listen(both, port).unwrap().is_whole);
        assert!(Both::listen(both, 0).unwrap().is_whole);
    }
}
