//! Who is next to the container: its routers, those on its networks, and what machines keep at link-local addresses. A client
//! that may call anybody may still not call these.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Where clouds have what tells a machine its secrets, besides link-local addresses.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Flags of a route (`linux/route.h`, `linux/ipv6_route.h`).
const UP: u32 = 0x1;
const GATEWAY: u32 = 0x2;
const REJECT: u32 = 0x200;
const LOCAL: u32 = 0x8000_0000;

/// A route as far as it says who is near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Near {
    /// A router.
    Router(IpAddr),
    /// All of a network, by its first address and the bits that count.
    Network(IpAddr, u32),
}

/// What the routes say; `None` where they cannot be read.
#[derive(Debug)]
pub(crate) struct Neighbours {
    v4: Option<Vec<Near>>,
    v6: Option<Vec<Near>>,
}

impl Neighbours {
    /// Of this container, now.
    pub(crate) fn read() -> Self {
        let read = |path, parse: fn(&str) -> Option<Vec<Near>>| parse(&fs::read_to_string(path).ok()?);
        Self { v4: read("/proc/net/route", parse_v4), v6: read("/proc/net/ipv6_route", parse_v6) }
    }

    /// Whether somebody at this address is not to be called. `is_own` says which addresses are the container's.
    pub(crate) fn include(&self, address: IpAddr, is_own: impl Fn(IpAddr) -> bool) -> bool {
        let address = address.to_canonical();
        // To dial nobody in particular is to dial oneself.
        if address.is_loopback() || address.is_unspecified() {
            return false;
        }
        if is_special(address) {
            return true;
        }
        let near = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let is_near = near.as_ref().is_none_or(|near| near.iter().any(|near| near.is(address)));
        is_near && !is_own(address)
    }
}

impl Near {
    fn is(self, address: IpAddr) -> bool {
        match self {
            Self::Router(router) => router == address,
            Self::Network(network, length) => prefix(network, length) == prefix(address, length),
        }
    }
}

/// The leading bits of an address, and its family.
fn prefix(address: IpAddr, length: u32) -> (bool, u128) {
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), Ipv4Addr::BITS),
        IpAddr::V6(address) => (address.to_bits(), Ipv6Addr::BITS),
    };
    (address.is_ipv4(), bits.checked_shr(width.saturating_sub(length)).unwrap_or_default())
}

/// Addresses that are nobody's to call, whatever the routes say.
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || address.is_multicast() || address == METADATA
        }
    }
}

/// Whether the kernel would call itself there. It answers without sending anything.
pub(crate) fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Any port does.
    let local = UdpSocket::bind(SocketAddr::new(any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(address, 9))?;
        socket.local_addr()
    });
    local.is_ok_and(|local| local.ip() == address)
}

/// `/proc/net/route`: interface, destination, gateway, flags, three more, mask; addresses as they lie in memory.
fn parse_v4(table: &str) -> Option<Vec<Near>> {
    let mut lines = table.lines();
    lines.next()?;
    let route = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, destination, gateway, flags, _, _, _, mask, ..] = fields.as_slice() else { return None };
        let number = |field: &str| u32::from_str_radix(field, 16).ok();
        let address = |field| number(field).map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
        let (flags, gateway) = (number(flags)?, address(gateway)?);
        let length = address(mask)?.to_bits().count_ones();
        Some(near(flags, gateway.into(), address(destination)?.into(), length))
    };
    collect(lines.map(route))
}

/// `/proc/net/ipv6_route`: destination, its length, source, its length, next hop, three more, flags, interface.
fn parse_v6(table: &str) -> Option<Vec<Near>> {
    let route = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [destination, length, _, _, hop, _, _, _, flags, interface] = fields.as_slice() else {
            return None;
        };
        let address = |field| u128::from_str_radix(field, 16).ok().map(Ipv6Addr::from_bits);
        let (flags, hop) = (u32::from_str_radix(flags, 16).ok()?, address(hop)?);
        let (destination, length) = (address(destination)?, u32::from_str_radix(length, 16).ok()?);
        // The container itself, and where nothing goes.
        let near = near(flags, hop.into(), destination.into(), length);
        Some(near.filter(|_| *interface != "lo" && flags & LOCAL == 0))
    };
    collect(table.lines().map(route))
}

/// Who is near by a route; nobody by one that leads nowhere.
fn near(flags: u32, gateway: IpAddr, network: IpAddr, length: u32) -> Option<Near> {
    let is_routed = flags & GATEWAY != 0 || !gateway.is_unspecified();
    let near = if is_routed { Near::Router(gateway) } else { Near::Network(network, length) };
    Some(near).filter(|_| flags & UP != 0 && flags & REJECT == 0)
}

/// All of them, unless one is not understood.
fn collect(routes: impl Iterator<Item = Option<Option<Near>>>) -> Option<Vec<Near>> {
    routes.filter(|route| !matches!(route, Some(None))).map(Option::flatten).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
        eth0\t0000640A\t0900640A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
        *\t0000000B\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0\n";

    const V6: &str = "\
        fd010000000000000000000000000000 40 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        fd020000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
        00000000000000000000000000000001 80 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 00000000 00000003 00000000 80200001       lo\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";

    fn neighbours() -> Neighbours {
        Neighbours { v4: parse_v4(V4), v6: parse_v6(V6) }
    }

    fn is_spared(neighbours: &Neighbours, address: &str) -> bool {
        let own = ["172.17.0.2", "fd01::2"].map(|own| own.parse::<IpAddr>().unwrap());
        neighbours.include(address.parse().unwrap(), |address| own.contains(&address))
    }

    #[test]
    fn routers_and_those_on_the_same_network_are_spared() {
        let neighbours = neighbours();
        // By IPv6 they are the same.
        for spared in ["172.17.0.1", "172.17.255.3", "10.100.0.9", "::ffff:172.17.0.1", "fd01::3", "fd02::1"]
        {
            assert!(is_spared(&neighbours, spared), "{spared}");
        }
        for other in ["172.18.0.1", "10.100.0.10", "11.1.1.1", "::ffff:8.8.8.8", "fd01:0:0:1::1", "fd02::2"] {
            assert!(!is_spared(&neighbours, other), "{other}");
        }
    }

    #[test]
    fn the_container_may_call_itself() {
        for own in
            ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "172.17.0.2", "fd01::2"]
        {
            assert!(!is_spared(&neighbours(), own), "{own}");
        }
    }

    #[test]
    fn link_local_addresses_are_nobodys_to_call() {
        let none = Neighbours { v4: Some(Vec::new()), v6: Some(Vec::new()) };
        for spared in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "ff02::1",
        ] {
            assert!(is_spared(&none, spared), "{spared}");
        }
        assert!(!is_spared(&none, "192.0.2.1"));
    }

    #[test]
    fn what_cannot_be_read_leaves_only_the_container_itself() {
        let unknown = Neighbours { v4: None, v6: parse_v6("what is this?") };
        for (address, spared) in
            [("192.0.2.1", true), ("2001:db8::1", true), ("127.0.0.1", false), ("172.17.0.2", false)]
        {
            assert_eq!(is_spared(&unknown, address), spared, "{address}");
        }
        assert_eq!(parse_v4(""), None);
        assert_eq!(parse_v4("Iface\neth0 0 zz 1 0 0 0 0"), None);
        // No network at all.
        assert_eq!((parse_v4("Iface\n"), parse_v6("")), (Some(Vec::new()), Some(Vec::new())));
    }

    #[test]
    fn a_route_without_a_router_makes_neighbours_of_all() {
        let all = Neighbours { v4: parse_v4("Iface\nppp0 00000000 00000000 0001 0 0 0 00000000"), v6: None };
        assert!(is_spared(&all, "192.0.2.1"));
    }

    #[test]
    fn own_addresses_are_known() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 1).into()));
        assert!(!is_own(
            Ipv6Addr::LOCALHOST.to_bits().checked_add(1).map(Ipv6Addr::from_bits).unwrap().into()
        ));
    }
}
