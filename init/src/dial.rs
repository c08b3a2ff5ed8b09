//! In a child: somebody is looked up, judged and called.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::panic;
use std::path::Path;
use std::str;
use std::time::{Duration, Instant};

use coracle_init::{Address, Dial, Failure};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::stdio::{dup2_stderr, stderr};

use crate::neighbours::{self, Neighbours};
use crate::verdict::{Failed, tell, too_late};
use crate::{bridge, disposition};

/// A call that is to be made.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) dial: Box<Dial>,
    pub(crate) until: Instant,
}

impl Call {
    /// In a child whose standard error is where its verdict goes. Returns its exit status.
    pub(crate) fn run(&self) -> u8 {
        prepare();
        let called = self.connect();
        let told = called.as_ref().map(|_| ()).map_err(Clone::clone);
        tell(&told, stderr());
        match called {
            // From here on the verdict has no end of ours.
            Ok(socket) if dup2_stderr(&socket).is_ok() => {
                drop(socket);
                bridge::run()
            }
            _ => 1,
        }
    }

    fn connect(&self) -> Result<OwnedFd, Failed> {
        match &self.dial.to {
            Address::Unix { path } => self.connect_unix(path),
            Address::Tcp { host, port } => self.connect_tcp(host, *port),
        }
    }

    fn connect_tcp(&self, host: &[u8], port: u16) -> Result<OwnedFd, Failed> {
        let mut addresses = resolve(host, port)?;
        if self.dial.spares_neighbours {
            let near = Neighbours::read();
            addresses.retain(|address| !near.include(address.ip(), neighbours::is_own));
            if addresses.is_empty() {
                let why = "that is an address next to the container, or of the machine it runs on";
                return Err(Failed::new(Failure::Forbidden, why));
            }
        }
        let mut failed = too_late();
        for (at, address) in addresses.iter().enumerate() {
            let share = self.time_left() / u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
            if share.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(address, share) {
                Ok(stream) => {
                    // It is slower without, and works.
                    stream.set_nodelay(true).unwrap_or_default();
                    return Ok(stream.into());
                }
                Err(error) => failed = why(&error),
            }
        }
        Err(failed)
    }

    fn connect_unix(&self, path: &[u8]) -> Result<OwnedFd, Failed> {
        let address = unix_address(path)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Where many wait already one waits to wait: there is nothing to poll for.
        let left = self.time_left().max(Duration::from_millis(1));
        set_socket_timeout(&socket, Timeout::Send, Some(left))?;
        match connect(&socket, &address) {
            Ok(()) => Ok(socket),
            Err(Errno::AGAIN) => Err(too_late()),
            Err(error) => Err(why(&error.into())),
        }
    }

    fn time_left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// Makes a child ready for a socket. Nothing may be said on its standard error but what is meant for there.
pub(crate) fn prepare() {
    disposition::ignore_broken_pipes();
    panic::set_hook(Box::new(|_| ()));
}

/// The address of a socket of the file system.
pub(crate) fn unix_address(path: &[u8]) -> Result<SocketAddrUnix, Failed> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let path = Path::new(OsStr::from_bytes(path));
    if !path.is_absolute() {
        return Err(Failed::new(Failure::Other, "the path of a socket has to be absolute"));
    }
    SocketAddrUnix::new(path).map_err(|_| Failed::new(Failure::Other, "the path is too long for a socket"))
}

fn resolve(host: &[u8], port: u16) -> Result<Vec<SocketAddr>, Failed> {
    let name = str::from_utf8(host).ok().filter(|name| !name.is_empty()).ok_or_else(unknown)?;
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let mut found: Vec<_> = (name, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    if name.eq_ignore_ascii_case("localhost") {
        // Whatever the image's files say of it (RFC 6761 §6.3).
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let missing = loopback.map(|address| SocketAddr::new(address, port));
        found.extend(missing.into_iter().filter(|address| !found.contains(address)).collect::<Vec<_>>());
    }
    if found.is_empty() { Err(unknown()) } else { Ok(found) }
}

fn unknown() -> Failed {
    Failed::new(Failure::Unknown, "no such name is known in the container")
}

/// Why nobody answers.
fn why(error: &io::Error) -> Failed {
    let failure = match error.kind() {
        ErrorKind::TimedOut => return too_late(),
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable
        | ErrorKind::NotFound
        | ErrorKind::NotADirectory
        | ErrorKind::PermissionDenied => Failure::Unreachable,
        _ if Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT) => Failure::Unreachable,
        _ => return Failed::from(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or_default())),
    };
    Failed::new(failure, text(error))
}

/// The system's words, without its number.
fn text(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text.get(..end).unwrap_or_default().to_lowercase()
}
