//! Where a client may come from: the pattern lists of `from=` (`ssh_config(5)`, PATTERNS) and the networks of a
//! certificate's `source-address`. Knows addresses alone: names are never looked up, as at an sshd without `UseDNS`.

use std::net::IpAddr;

use thiserror::Error;

/// A list of addresses, networks and patterns, separated by commas, each with `!` in front if it shuts out.
///
/// A host name, or a pattern for host names, never fits. IPv4 addresses that are written as IPv6 count as IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceList(Vec<Source>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    shuts_out: bool,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Network(Network),
    /// For the address as text, with `*` and `?`.
    Pattern(String),
}

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

/// What is wrong with a list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SourceError {
    /// Two commas in a row, or nothing at all.
    #[error("an entry is empty")]
    Empty,
    /// A slash, but no network.
    #[error("`{0}` is not a network; write `10.0.0.0/8` or `2001:db8::/32`")]
    NoNetwork(String),
    /// `10.1.2.3/8`: is the address meant, or the network?
    #[error("`{0}` has bits set past its prefix; name the network's first address")]
    HostBits(String),
    /// Where only addresses and networks may stand.
    #[error("`{0}` is neither an address nor a network")]
    NoAddress(String),
}

impl SourceList {
    /// Reads a pattern list.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        text.split(',').map(Source::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Reads a list of addresses and networks (`source-address` of a certificate): no patterns, nothing shut out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_networks(text: &str) -> Result<Self, SourceError> {
        let networks = text.split(',').map(|entry| match Network::parse(entry)? {
            Some(network) => Ok(Source { shuts_out: false, place: Place::Network(network) }),
            None if entry.is_empty() => Err(SourceError::Empty),
            None => Err(SourceError::NoAddress(entry.to_owned())),
        });
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a client may come from there: something fits, and nothing that shuts out does.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let text = address.to_string();
        let mut fitting = self.0.iter().filter(|source| source.fits(address, &text)).peekable();
        fitting.peek().is_some() && fitting.all(|source| !source.shuts_out)
    }
}

impl Source {
    fn parse(entry: &str) -> Result<Self, SourceError> {
        let (shuts_out, place) = match entry.strip_prefix('!') {
            Some(place) => (true, place),
            None => (false, entry),
        };
        if place.is_empty() {
            return Err(SourceError::Empty);
        }
        let place = match Network::parse(place)? {
            Some(network) => Place::Network(network),
            None => Place::Pattern(place.to_ascii_lowercase()),
        };
        Ok(Self { shuts_out, place })
    }

    fn fits(&self, address: IpAddr, text: &str) -> bool {
        match &self.place {
            Place::Network(network) => network.contains(address),
            Place::Pattern(pattern) => fits(pattern.as_bytes(), text.as_bytes()),
        }
    }
}

impl Network {
    /// `None` for what may be a pattern.
    fn parse(entry: &str) -> Result<Option<Self>, SourceError> {
        let (address, bits) = match entry.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (entry, None),
        };
        let no_network = || SourceError::NoNetwork(entry.to_owned());
        let Ok(written) = address.parse::<IpAddr>() else {
            return if bits.is_some() { Err(no_network()) } else { Ok(None) };
        };
        let width = if written.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|digit| digit.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= width).ok_or_else(no_network)?
            }
            Some(_) => return Err(no_network()),
            None => width,
        };
        let network = match (written.to_canonical(), bits) {
            (address, bits) if address.is_ipv4() == written.is_ipv4() => Self { address, bits },
            (address, 96..) => Self { address, bits: bits - 96 },
            // Wider than all of IPv4: a network of IPv6 that no canonical address of IPv4 is in.
            _ => Self { address: written, bits },
        };
        if network.first() == network.number() {
            Ok(Some(network))
        } else {
            Err(SourceError::HostBits(entry.to_owned()))
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let other = Self { address, bits: self.bits };
        address.is_ipv4() == self.address.is_ipv4() && other.first() == self.first()
    }

    /// The address at the high end of 128 bits.
    fn number(&self) -> u128 {
        match self.address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        }
    }

    fn first(&self) -> u128 {
        let past = 128_u32.saturating_sub(u32::from(self.bits));
        // A shift by all 128 bits is none in Rust.
        let mask = u128::MAX.checked_shl(past).unwrap_or(0);
        self.number() & mask
    }
}

/// `*` stands for any characters and `?` for one. Takes time in proportion to pattern × text at most.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    // The places in the pattern that can have been reached with what was read of the text.
    let mut reached = vec![false; pattern.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    pass_stars(pattern, &mut reached);
    for letter in text {
        let mut next = vec![false; reached.len()];
        for (at, wanted) in pattern.iter().enumerate() {
            if !reached.get(at).is_some_and(|reached| *reached) {
                continue;
            }
            let to = match wanted {
                b'*' => at,
                b'?' => at + 1,
                wanted if wanted == letter => at + 1,
                _ => continue,
            };
            if let Some(place) = next.get_mut(to) {
                *place = true;
            }
        }
        pass_stars(pattern, &mut next);
        reached = next;
    }
    reached.last().is_some_and(|end| *end)
}

/// A star may stand for nothing.
fn pass_stars(pattern: &[u8], reached: &mut [bool]) {
    let mut before = false;
    for (at, place) in reached.iter_mut().enumerate() {
        let star = at.checked_sub(1).and_then(|at| pattern.get(at)) == Some(&b'*');
        *place |= before && star;
        before = *place;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admits(list: &str, address: &str) -> bool {
        SourceList::parse(list).unwrap().admits(address.parse().unwrap())
    }

    /// A2
    #[test]
    fn addresses_networks_and_patterns_say_where_a_client_may_come_from() {
        assert!(admits("192.0.2.7", "192.0.2.7"));
        assert!(admits("10.0.0.0/8,192.0.2.*", "192.0.2.7"));
        assert!(admits("10.0.0.0/8", "10.255.0.1"));
        assert!(admits("0.0.0.0/0", "203.0.113.9"));
        assert!(admits("*", "2001:db8::1"));
        assert!(admits("2001:DB8::/32", "2001:db8:1::1"));
        assert!(admits("2001:DB8::?", "2001:db8::1"));
        assert!(!admits("192.0.2.7", "192.0.2.70"));
        assert!(!admits("192.0.2.?", "192.0.2.70"));
        assert!(!admits("10.0.0.0/8", "11.0.0.1"));
        assert!(!admits("0.0.0.0/0", "2001:db8::1"));
        assert!(!admits("client.example.com,*.example.com", "192.0.2.7"));
    }

    /// A2
    #[test]
    fn what_is_shut_out_stays_out_wherever_it_stands_in_the_list() {
        assert!(!admits("!10.0.0.9,10.0.0.0/8", "10.0.0.9"));
        assert!(!admits("10.0.0.0/8,!10.0.0.9", "10.0.0.9"));
        assert!(admits("10.0.0.0/8,!10.0.0.9", "10.0.0.8"));
        assert!(!admits("!10.0.0.9", "10.0.0.8"), "nothing fits");
    }

    /// A2
    #[test]
    fn an_ipv4_address_may_be_written_as_ipv6() {
        assert!(admits("192.0.2.0/24", "::ffff:192.0.2.7"));
        assert!(admits("192.0.2.*", "::ffff:192.0.2.7"));
        assert!(admits("::ffff:192.0.2.0/120", "192.0.2.7"));
        assert!(!admits("::/0", "::ffff:192.0.2.7"));
    }

    #[test]
    fn a_list_that_means_nothing_is_refused() {
        let error = |list| SourceList::parse(list).unwrap_err();

        assert_eq!(error(""), SourceError::Empty);
        assert_eq!(error("10.0.0.1,"), SourceError::Empty);
        assert_eq!(error("!"), SourceError::Empty);
        assert_eq!(error("10.0.0.1/8"), SourceError::HostBits("10.0.0.1/8".to_owned()));
        for list in
            ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "host/24", "::/129", "10.0.0.0/-1"]
        {
            assert_eq!(error(list), SourceError::NoNetwork(list.to_owned()));
        }
    }

    /// A4
    #[test]
    fn a_certificate_names_addresses_and_networks_only() {
        assert!(SourceList::parse_networks("10.0.0.0/8,2001:db8::1").is_ok());
        for list in ["10.0.0.*", "!10.0.0.1", "host", "", "10.0.0.1,"] {
            assert!(SourceList::parse_networks(list).is_err(), "{list:?}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_time() {
        assert!(!fits(&b"*a".repeat(2_000), &b"a".repeat(45)));
    }

    proptest! {
        #[test]
        fn no_list_makes_us_fail(list: String, address: IpAddr) {
            if let Ok(list) = SourceList::parse(&list) {
                let admitted = list.admits(address);
                prop_assert!(!admitted || list.admits(address.to_canonical()));
            }
        }

        #[test]
        fn every_address_is_in_each_of_its_networks(address: IpAddr, bits in 0_u8..=128) {
            let bits = if address.is_ipv4() { bits.min(32) } else { bits };
            let written = Network { address, bits };
            let first = match address {
                IpAddr::V4(_) => IpAddr::V4(((written.first() >> 96) as u32).into()),
                IpAddr::V6(_) => IpAddr::V6(written.first().into()),
            };

            let text = format!("{first}/{bits}");
            prop_assume!(address.to_canonical() == address && first.to_canonical() == first);
            prop_assert!(Network::parse(&text).unwrap().unwrap().contains(address), "{}", text);
        }
    }
}
