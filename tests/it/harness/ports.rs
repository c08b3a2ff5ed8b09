//! Ports for those who have to be told one.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the kernel gives to whoever asks for any (`ip_local_port_range`): nobody comes in between.
const PORTS: Range<u16> = 16_384..32_768;

/// A port that nobody listens on, and that no other test is given.
pub(crate) fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    // Not where another run of the tests has just begun.
    let next = NEXT.get_or_init(|| AtomicU16::new(rand::random()));
    let free = (0..PORTS.len()).find_map(|_| {
        let port = PORTS.start + next.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        let anywhere = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        // A machine without IPv6 has nobody there.
        let is_taken = |address| {
            TcpListener::bind((address, port)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
        };
        (!anywhere.into_iter().any(is_taken)).then_some(port)
    });
    free.expect("a free port")
}
