//! The first message of an X11 client, and the answer that turns it away (X Window System Protocol §8).

/// What comes before the protocol's name and data.
const HEAD_BYTES: usize = 12;

/// Longest name of an authorization protocol, and longest data of one, in bytes. Whatever is in use is far shorter.
const AUTHORIZATION_BYTES_MAX: usize = 256;

/// Longest first message, in bytes.
pub(super) const SETUP_BYTES_MAX: usize = HEAD_BYTES + 2 * AUTHORIZATION_BYTES_MAX;

/// The protocol's version in an answer of ours.
const MAJOR_VERSION: u16 = 11;

/// In which order a client sends the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `B`
    MostSignificantFirst,
    /// `l`
    LeastSignificantFirst,
}

/// A client's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup<'a> {
    /// In which order all its numbers are.
    pub order: Order,
    /// The protocol's version that it speaks: `11`, `0`.
    pub version: (u16, u16),
    /// The name of the authorization protocol.
    pub protocol: &'a [u8],
    /// Its data: for `MIT-MAGIC-COOKIE-1` the cookie.
    pub data: &'a [u8],
    /// How many bytes the message has.
    pub length: usize,
}

/// This is not how an X11 client begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first byte.
    #[error("it does not begin as an X11 client does")]
    Order,
    /// A length.
    #[error("its authorization is longer than any that is known")]
    TooLong,
}

impl Order {
    fn number(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::MostSignificantFirst => u16::from_be_bytes(bytes),
            Self::LeastSignificantFirst => u16::from_le_bytes(bytes),
        }
    }

    fn bytes(self, number: u16) -> [u8; 2] {
        match self {
            Self::MostSignificantFirst => number.to_be_bytes(),
            Self::LeastSignificantFirst => number.to_le_bytes(),
        }
    }
}

/// Reads a client's first message. `None` where more of it has to come.
///
/// # Errors
/// [`Malformed`] as soon as what is there cannot become one.
pub fn parse(bytes: &[u8]) -> Result<Option<Setup<'_>>, Malformed> {
    let order = match bytes.first() {
        None => return Ok(None),
        Some(b'B') => Order::MostSignificantFirst,
        Some(b'l') => Order::LeastSignificantFirst,
        Some(_) => return Err(Malformed::Order),
    };
    let number = |at: usize| Some(order.number([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (Some(major), Some(minor), Some(name_length), Some(data_length)) =
        (number(2), number(4), number(6), number(8))
    else {
        return Ok(None);
    };
    let (name_length, data_length) = (usize::from(name_length), usize::from(data_length));
    if name_length.max(data_length) > AUTHORIZATION_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    let data_at = HEAD_BYTES + padded(name_length);
    let length = data_at + padded(data_length);
    let (Some(protocol), Some(data), true) = (
        bytes.get(HEAD_BYTES..HEAD_BYTES + name_length),
        bytes.get(data_at..data_at + data_length),
        bytes.len() >= length,
    ) else {
        return Ok(None);
    };
    Ok(Some(Setup { order, version: (major, minor), protocol, data, length }))
}

/// The same message with another authorization, neither part of which is over 65,535 bytes.
#[must_use]
pub fn with_authorization(setup: &Setup<'_>, protocol: &[u8], data: &[u8]) -> Vec<u8> {
    let (order, (major, minor)) = (setup.order, setup.version);
    let length = |part: &[u8]| u16::try_from(part.len()).unwrap_or(u16::MAX);
    let mut message = Vec::with_capacity(HEAD_BYTES + padded(protocol.len()) + padded(data.len()));
    message.push(if order == Order::MostSignificantFirst { b'B' } else { b'l' });
    message.push(0);
    for number in [major, minor, length(protocol), length(data), 0] {
        message.extend_from_slice(&order.bytes(number));
    }
    for part in [protocol, data] {
        let part = part.get(..usize::from(length(part))).unwrap_or(part);
        message.extend_from_slice(part);
        message.resize(message.len() + padded(part.len()) - part.len(), 0);
    }
    message
}

/// The answer "Failed", with a reason of at most 255 bytes.
#[must_use]
pub fn refusal(order: Order, reason: &str) -> Vec<u8> {
    let length = u8::try_from(reason.len()).unwrap_or(u8::MAX);
    let reason = reason.as_bytes().get(..usize::from(length)).unwrap_or_default();
    let words = u16::try_from(padded(reason.len()) / 4).unwrap_or(0);
    let mut answer = vec![0, length];
    for number in [MAJOR_VERSION, 0, words] {
        answer.extend_from_slice(&order.bytes(number));
    }
    answer.extend_from_slice(reason);
    answer.resize(8 + padded(reason.len()), 0);
    answer
}

/// All parts begin at a multiple of four.
fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COOKIE: &[u8; 16] = b"0123456789abcdef";

    /// As Xlib sends it on an x86 machine.
    fn of_xlib() -> Vec<u8> {
        let head = [b'l', 0, 11, 0, 0, 0, 18, 0, 16, 0, 0, 0];
        [&head[..], b"MIT-MAGIC-COOKIE-1\0\0", COOKIE].concat()
    }

    /// F7
    #[test]
    fn what_xlib_sends_is_understood() {
        let bytes = of_xlib();

        let setup = parse(&bytes).unwrap().unwrap();

        assert_eq!((setup.order, setup.version), (Order::LeastSignificantFirst, (11, 0)));
        assert_eq!((setup.protocol, setup.data), (&b"MIT-MAGIC-COOKIE-1"[..], &COOKIE[..]));
        assert_eq!(setup.length, bytes.len());
        assert_eq!(with_authorization(&setup, setup.protocol, setup.data), bytes);
    }

    #[test]
    fn a_client_without_an_authorization_has_an_empty_one() {
        let bytes = [b'B', 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0];

        let setup = parse(&bytes).unwrap().unwrap();

        assert_eq!((setup.protocol, setup.data, setup.length), (&b""[..], &b""[..], 12));
    }

    #[test]
    fn what_is_no_client_or_too_long_is_known_at_once() {
        assert_eq!(parse(b"GET / HTTP/1.1"), Err(Malformed::Order));
        assert_eq!(parse(&[b'l', 0, 11, 0, 0, 0, 255, 255, 0, 0]), Err(Malformed::TooLong));
        assert_eq!(parse(&[b'B', 0, 0, 11, 0, 0, 0, 1, 1, 1]), Err(Malformed::TooLong));
    }

    #[test]
    fn an_answer_that_refuses_says_so_in_the_clients_order() {
        let answer = refusal(Order::LeastSignificantFirst, "no way");

        assert_eq!(answer, b"\0\x06\x0b\0\0\0\x02\0no way\0\0");
        assert_eq!(refusal(Order::MostSignificantFirst, "").as_slice(), b"\0\0\0\x0b\0\0\0\0");
    }

    proptest! {
        #[test]
        fn another_authorization_is_all_that_changes(
            most_significant_first: bool,
            version: (u16, u16),
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..=256), 4),
            rest in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let order =
                if most_significant_first { Order::MostSignificantFirst } else { Order::LeastSignificantFirst };
            let empty = Setup { order, version, protocol: &[], data: &[], length: 12 };
            let first = with_authorization(&empty, &parts[0], &parts[1]);
            let bytes = [&first[..], &rest].concat();

            let setup = parse(&bytes).unwrap().unwrap();
            prop_assert_eq!((setup.order, setup.version, setup.length), (order, version, first.len()));
            prop_assert_eq!((setup.protocol, setup.data), (&parts[0][..], &parts[1][..]));
            prop_assert!(first.len() <= SETUP_BYTES_MAX);
            for cut in 0..first.len() {
                prop_assert_eq!(parse(&first[..cut]), Ok(None));
            }

            let second = with_authorization(&setup, &parts[2], &parts[3]);
            let again = parse(&second).unwrap().unwrap();
            prop_assert_eq!((again.order, again.version, again.length), (order, version, second.len()));
            prop_assert_eq!((again.protocol, again.data), (&parts[2][..], &parts[3][..]));
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(Some(setup)) = parse(&bytes) {
                prop_assert!(setup.length <= bytes.len().min(SETUP_BYTES_MAX));
            }
        }
    }
}
