//! Addresses written as such, in every spelling that a resolver takes for one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where Amazon's machines find their metadata by IPv6. The one of IPv4 is link-local.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Whether `host` is written as an address that no container has business with unless somebody names it: link-local ones,
/// among them those of clouds' metadata, and those of many at a time.
pub(super) fn is_out_of_reach(host: &str) -> bool {
    match parse(host) {
        Some(IpAddr::V4(address)) => {
            address.is_link_local() || address.is_multicast() || address.is_broadcast()
        }
        Some(IpAddr::V6(address)) => {
            address.is_unicast_link_local() || address.is_multicast() || address == METADATA_V6
        }
        None => false,
    }
}

fn parse(host: &str) -> Option<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<Ipv6Addr>() {
        Ok(address) => Some(IpAddr::V6(address).to_canonical()),
        Err(_) => numbers(bare).map(IpAddr::V4),
    }
}

/// One to four numbers, each decimal, octal or hexadecimal, the last one for all bytes that are left (`inet_aton(3)`).
fn numbers(text: &str) -> Option<Ipv4Addr> {
    let numbers: Option<Vec<u32>> = text.split('.').map(number).collect();
    let numbers = numbers?;
    let (last, bytes) = numbers.split_last()?;
    let room = u32::try_from(4_usize.checked_sub(bytes.len())?).ok().filter(|room| *room > 0)?;
    if bytes.iter().any(|byte| *byte > 0xff) || u64::from(*last) >= 1 << (8 * room) {
        return None;
    }
    let ahead = bytes.iter().fold(0_u64, |address, byte| address << 8 | u64::from(*byte));
    let address = ahead << (8 * room) | u64::from(*last);
    u32::try_from(address).ok().map(Ipv4Addr::from)
}

fn number(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (lower.as_str(), 8),
        None => (lower.as_str(), 10),
    };
    let sound = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    if sound { u32::from_str_radix(digits, radix).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_that_address() {
        for host in [
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0XA9.254.43518",
            "0251.0376.0251.0376",
            "169.16689662",
            "169.254.169.254.",
            "::ffff:169.254.169.254",
            "::FFFF:a9fe:a9fe",
            "0:0:0:0:0:ffff:a9fe:a9fe",
            "fe80::1",
            "FEBF::1",
            "[fe80::1]",
            "fd00:ec2::254",
            "fd00:0ec2:0:0::254",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(is_out_of_reach(host), "{host}");
        }
    }

    #[test]
    fn other_addresses_and_names_are_no_such_thing() {
        for host in [
            "",
            ".",
            "db",
            "169.254",
            "127.0.0.1",
            "0",
            "::1",
            "10.0.0.1",
            "172.17.0.1",
            "169.254.169.254.5",
            "169.254.169.256",
            "0x",
            "09.254.169.254",
            "169..254",
            "99999999999",
            "-1",
            "169.254.169.254.example",
            "fd00:ec2::255",
        ] {
            assert!(!is_out_of_reach(host), "{host}");
        }
    }
}
