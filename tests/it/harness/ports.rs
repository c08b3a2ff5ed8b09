//! Ports for those who have to be told one.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
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
        let is_free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
            && TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok();
        is_free.then_some(port)
    });
    free.expect("a free port")
}
