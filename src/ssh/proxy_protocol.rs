//! The header by which a proxy tells whose connection it passes on: the PROXY protocol of `HAProxy`, versions 1 and 2.
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. Decides nothing: who may send one is configuration.

use std::io;
use std::net::SocketAddr;

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What a header of version 1 begins with.
const TEXT_BEGIN: &[u8] = b"PROXY ";

/// The shortest of version 1: `PROXY UNKNOWN` and the end of its line.
const TEXT_BYTES_MIN: usize = 15;

/// The longest of version 1, by its specification.
const TEXT_BYTES_MAX: usize = 107;

/// Version 2 up to and including its length.
const BINARY_BYTES_MIN: usize = 16;

/// The longest of version 2 that we take; it could have 64 KiB. Proxies add a few hundred bytes about TLS.
const BINARY_BYTES_MAX: usize = 4096;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// The proxy's own (a health check), or it does not know: the addresses of the TCP connection count.
    Own,
    /// That of a client.
    Client {
        /// Where it comes from.
        client: SocketAddr,
        /// Where it went to.
        server: SocketAddr,
    },
}

/// How far the beginning of a connection is a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many more bytes, at least 1, are part of the header for sure.
    Incomplete(usize),
    /// A header of this many bytes.
    Complete(usize, Announced),
}

/// Why what came is no header.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// It begins with something else.
    #[error("it does not begin with a PROXY protocol header")]
    Missing,
    /// It would be longer than headers are.
    #[error("its PROXY protocol header is too long")]
    TooLong,
    /// Its first bytes are right and others are not.
    #[error("its PROXY protocol header is malformed: {0}")]
    Malformed(String),
    /// The connection ended, or failed, before the end of the header.
    #[error("it ended before the end of its PROXY protocol header")]
    Ended(#[source] io::Error),
}

/// Reads a header and not a byte more. Not cancel safe: what was read of a header is lost.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Announced, HeaderError> {
    let mut bytes = Vec::with_capacity(TEXT_BYTES_MAX);
    loop {
        match parse(&bytes)? {
            Progress::Complete(_, announced) => return Ok(announced),
            Progress::Incomplete(missing) => {
                let mut rest = (&mut *stream).take(missing as u64);
                let count = rest.read_buf(&mut bytes).await.map_err(HeaderError::Ended)?;
                if count == 0 {
                    return Err(HeaderError::Ended(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
    }
}

/// What the first bytes of a connection say.
///
/// # Errors
/// They are not, and will not become, a header.
pub fn parse(bytes: &[u8]) -> Result<Progress, HeaderError> {
    if begins(bytes, v2::PROTOCOL_PREFIX) && !bytes.is_empty() {
        parse_binary(bytes)
    } else if begins(bytes, TEXT_BEGIN) {
        parse_text(bytes)
    } else {
        Err(HeaderError::Missing)
    }
}

/// Whether `bytes` are the begin of `prefix`, or go on after it.
fn begins(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.iter().zip(prefix).all(|(byte, expected)| byte == expected)
}

fn parse_text(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let end = bytes.iter().position(|byte| *byte == b'\r');
    let header = match end.map(|end| (bytes.get(..end + 2), bytes.get(end + 1))) {
        Some((Some(header), Some(b'\n'))) => header,
        // The parser would take it for a space.
        Some((_, Some(_))) => return Err(HeaderError::Malformed("a line ends in CR LF".to_owned())),
        // The last two bytes may already come too late.
        _ if bytes.len() >= TEXT_BYTES_MAX => return Err(HeaderError::TooLong),
        Some(_) => return Ok(Progress::Incomplete(1)),
        None => return Ok(Progress::Incomplete(TEXT_BYTES_MIN.saturating_sub(bytes.len()).max(2))),
    };
    let parsed = v1::Header::try_from(header).map_err(|error| HeaderError::Malformed(error.to_string()))?;
    let announced = match parsed.addresses {
        v1::Addresses::Unknown => Announced::Own,
        v1::Addresses::Tcp4(tcp) => client(
            (tcp.source_address, tcp.source_port).into(),
            (tcp.destination_address, tcp.destination_port).into(),
        ),
        v1::Addresses::Tcp6(tcp) => client(
            (tcp.source_address, tcp.source_port).into(),
            (tcp.destination_address, tcp.destination_port).into(),
        ),
    };
    Ok(Progress::Complete(header.len(), announced))
}

fn parse_binary(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let Some((&[.., high, low], _)) = bytes.split_first_chunk::<BINARY_BYTES_MIN>() else {
        return Ok(Progress::Incomplete(BINARY_BYTES_MIN - bytes.len()));
    };
    let length = BINARY_BYTES_MIN + usize::from(u16::from_be_bytes([high, low]));
    if length > BINARY_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let Some(header) = bytes.get(..length) else {
        return Ok(Progress::Incomplete(length - bytes.len()));
    };
    let parsed = v2::Header::try_from(header).map_err(|error| HeaderError::Malformed(error.to_string()))?;
    let announced = match (parsed.command, parsed.protocol) {
        (v2::Command::Proxy, v2::Protocol::Stream) => match parsed.addresses {
            v2::Addresses::IPv4(tcp) => client(
                (tcp.source_address, tcp.source_port).into(),
                (tcp.destination_address, tcp.destination_port).into(),
            ),
            v2::Addresses::IPv6(tcp) => client(
                (tcp.source_address, tcp.source_port).into(),
                (tcp.destination_address, tcp.destination_port).into(),
            ),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => Announced::Own,
        },
        (v2::Command::Proxy, v2::Protocol::Datagram) => {
            return Err(HeaderError::Malformed("SSH runs over TCP".to_owned()));
        }
        (v2::Command::Local, _) | (v2::Command::Proxy, v2::Protocol::Unspecified) => Announced::Own,
    };
    Ok(Progress::Complete(length, announced))
}

fn client(client: SocketAddr, server: SocketAddr) -> Announced {
    Announced::Client { client: super::network::canonical(client), server: super::network::canonical(server) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn from(client: &str, server: &str) -> Announced {
        Announced::Client { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, payload].concat()
    }

    fn ipv4() -> Vec<u8> {
        [&[192, 0, 2, 1][..], &[198, 51, 100, 2], &[200, 10], &[0, 22]].concat()
    }

    fn headers() -> Vec<(Vec<u8>, Announced)> {
        let client = from("192.0.2.1:51210", "198.51.100.2:22");
        let ipv6: Vec<u8> = [[0x20; 16], [0x21; 16]].concat().into_iter().chain([200, 10, 0, 22]).collect();
        let with_more = [ipv4(), vec![4, 0, 1, 0]].concat();
        vec![
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 51210 22\r\n".to_vec(), client),
            (
                b"PROXY TCP6 2001:db8::1 2001:db8::2 1 22\r\n".to_vec(),
                from("[2001:db8::1]:1", "[2001:db8::2]:22"),
            ),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 22\r\n".to_vec(), from("192.0.2.1:1", "[::1]:22")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Announced::Own),
            (b"PROXY UNKNOWN ff::1 ff::2 1 2\r\n".to_vec(), Announced::Own),
            (binary(0x21, 0x11, &ipv4()), client),
            (binary(0x21, 0x11, &with_more), client),
            (
                binary(0x21, 0x21, &ipv6),
                from(
                    "[2020:2020:2020:2020:2020:2020:2020:2020]:51210",
                    "[2121:2121:2121:2121:2121:2121:2121:2121]:22",
                ),
            ),
            (binary(0x20, 0x00, &[]), Announced::Own),
            (binary(0x20, 0x11, &ipv4()), Announced::Own),
            (binary(0x21, 0x00, &[1, 2, 3]), Announced::Own),
            (binary(0x21, 0x31, &[0; 216]), Announced::Own),
        ]
    }

    /// T11
    #[tokio::test]
    async fn a_header_is_read_to_its_last_byte_and_no_further() {
        for (header, announced) in headers() {
            let whole = [&header[..], b"SSH-2.0-x\r\n"].concat();
            let mut stream = &whole[..];

            assert_eq!(read(&mut stream).await.unwrap(), announced, "{:?}", String::from_utf8_lossy(&header));
            assert_eq!(stream, b"SSH-2.0-x\r\n");
        }
    }

    /// T11
    #[tokio::test]
    async fn a_header_may_come_byte_by_byte() {
        for (header, announced) in headers() {
            let mut bytes = tokio_test_stream(&header);

            assert_eq!(read(&mut bytes).await.unwrap(), announced);
        }
    }

    /// T11
    #[tokio::test]
    async fn what_is_no_header_is_refused_as_soon_as_it_shows() {
        let too_long = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
        for wrong in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            b"PROXX",
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 51210\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 51210 99999\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1\rx",
            b"PROXY TCP4\r192.0.2.1 198.51.100.2 51210 22\r\n",
            b"PROXY UNKNOWN\r\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.1 1 2\r\n",
            b"\r\n\r\nSSH",
            &too_long,
            &binary(0x11, 0x11, &ipv4()),
            &binary(0x22, 0x11, &ipv4()),
            &binary(0x21, 0x12, &ipv4()),
            &binary(0x21, 0x11, &[1, 2, 3]),
            &binary(0x21, 0x21, &ipv4()),
            &binary(0x21, 0x11, &[0; 5000]),
        ] {
            let error = read(&mut &wrong[..]).await.unwrap_err();

            assert!(!matches!(error, HeaderError::Ended(_)), "{:?}: {error}", String::from_utf8_lossy(wrong));
        }
        assert!(matches!(read(&mut &b"PROXY TC"[..]).await, Err(HeaderError::Ended(_))));
    }

    /// A stream that hands out one byte at a time.
    fn tokio_test_stream(bytes: &[u8]) -> impl AsyncRead + Unpin + use<> {
        bytes.iter().fold(Box::new(tokio::io::empty()) as Box<dyn AsyncRead + Unpin>, |before, byte| {
            Box::new(before.chain(io::Cursor::new(vec![*byte])))
        })
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_panic_or_ask_for_too_much(
            kind in 0_usize..5, tail in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let begin = [
                &b""[..],
                TEXT_BEGIN,
                b"PROXY UNKNOWN\r\n",
                SIGNATURE,
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20",
            ][kind];
            let bytes = [begin, &tail[..]].concat();

            // As the server reads: never more than was asked for.
            let mut read = 0;
            while let Ok(Progress::Incomplete(missing)) = parse(&bytes[..read]) {
                prop_assert!((1..=BINARY_BYTES_MAX).contains(&missing));
                read += missing;
                if read > bytes.len() {
                    return Ok(());
                }
            }
            if let Ok(whole) = parse(&bytes[..read]) {
                prop_assert!(matches!(whole, Progress::Complete(length, _) if length == read));
                prop_assert_eq!(parse(&bytes).ok(), Some(whole));
            }
        }
    }
}
