//! X11 (RFC 4254 §6.3): who may use the client's display. Programs get a cookie of our own; whoever shows it is let
//! through with the client's in its place, which no container ever sees.

mod setup;

use std::fmt;
use std::io;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::{Bytes, BytesMut};
use futures::stream::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

pub use setup::{Malformed, Order, Setup, parse, refusal, with_authorization};

use super::relay::Socket;
use crate::secret::Secret;
use setup::SETUP_BYTES_MAX;

/// The one protocol that is forwarded.
pub const PROTOCOL: &str = "MIT-MAGIC-COOKIE-1";

/// A cookie's length, in bytes.
const COOKIE_BYTES: usize = 16;

/// Longest cookie of a client, in hexadecimal digits.
const COOKIE_DIGITS_MAX: usize = 128;

/// How long whoever calls has to show a cookie.
const SETUP_DEADLINE: Duration = Duration::from_secs(10);

/// How long whoever is turned away has to take the answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// What a refused caller reads, as X servers put it.
const REASON: &str = "Authorization required, but no valid authorization protocol specified\n";

/// What a client sends of its display (`x11-req`).
#[derive(Clone)]
pub struct Credentials {
    cookie: Secret<Vec<u8>>,
}

/// Knows both cookies.
pub struct Gatekeeper {
    ours: Secret<Vec<u8>>,
    clients: Credentials,
}

impl Credentials {
    /// `None` where it is not what is forwarded here: another protocol, or no cookie.
    #[must_use]
    pub fn parse(protocol: &str, digits: &str) -> Option<Self> {
        let fits = protocol == PROTOCOL && !digits.is_empty() && digits.len() <= COOKIE_DIGITS_MAX;
        let cookie = data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok().filter(|_| fits)?;
        Some(Self { cookie: Secret::new(cookie) })
    }

    /// Whether these are the same.
    #[must_use]
    pub fn are(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.cookie.expose(), other.cookie.expose()).is_ok()
    }
}

impl Gatekeeper {
    /// With a cookie of our own for a display with these. `None` where the system has no random numbers.
    #[must_use]
    pub fn new(clients: Credentials) -> Option<Self> {
        let mut cookie = vec![0; COOKIE_BYTES];
        aws_lc_rs::rand::fill(&mut cookie).ok()?;
        Some(Self { ours: Secret::new(cookie), clients })
    }

    /// Our cookie, for the programs of the container.
    #[must_use]
    pub fn cookie(&self) -> Secret<Vec<u8>> {
        self.ours.clone()
    }

    /// The client's side of it.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.clients
    }

    /// Hears a caller's first message; whoever shows our cookie comes back with the client's. Others were told why not.
    pub(super) async fn examine(&self, mut socket: Socket) -> Option<Socket> {
        let heard = timeout(SETUP_DEADLINE, self.hear(&mut socket)).await;
        let Ok(Ok((order, admitted))) = heard else { return None };
        let Some(first) = admitted else {
            let answer = async {
                socket.stdin.write_all(&refusal(order, REASON)).await?;
                socket.stdin.shutdown().await?;
                // The caller goes once it has read that; who is cut before may not see it.
                while socket.output.next().await.is_some() {}
                socket.control.ended().await;
                Ok::<_, io::Error>(())
            };
            drop(timeout(ANSWER_DEADLINE, answer).await);
            return None;
        };
        let rest = socket.output;
        socket.output = futures::stream::iter([Ok(first)]).chain(rest).boxed();
        Some(socket)
    }

    /// The caller's byte order; and what is to be said in its place, if it may speak.
    async fn hear(&self, socket: &mut Socket) -> io::Result<(Order, Option<Bytes>)> {
        let mut heard = BytesMut::with_capacity(SETUP_BYTES_MAX);
        loop {
            let chunk = socket.output.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
            heard.extend_from_slice(&chunk);
            match parse(&heard) {
                Ok(None) => {}
                Ok(Some(setup)) => return Ok((setup.order, self.judge(&setup, &heard))),
                Err(Malformed::TooLong) if heard.first() == Some(&b'B') => {
                    return Ok((Order::MostSignificantFirst, None));
                }
                Err(Malformed::TooLong) => return Ok((Order::LeastSignificantFirst, None)),
                Err(error @ Malformed::Order) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
    }

    fn judge(&self, setup: &Setup<'_>, heard: &[u8]) -> Option<Bytes> {
        let knows = verify_slices_are_equal(setup.data, self.ours.expose()).is_ok();
        if setup.protocol != PROTOCOL.as_bytes() || !knows {
            return None;
        }
        let mut first = with_authorization(setup, PROTOCOL.as_bytes(), self.clients.cookie.expose());
        first.extend_from_slice(heard.get(setup.length..).unwrap_or_default());
        Some(first.into())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl fmt::Debug for Gatekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gatekeeper").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F7
    #[test]
    fn only_a_cookie_in_hexadecimal_is_forwarded() {
        assert!(Credentials::parse(PROTOCOL, "00112233445566778899aAbBcCdDeEfF").is_some());
        for (protocol, digits) in [
            ("XDM-AUTHORIZATION-1", "0011"),
            (PROTOCOL, ""),
            (PROTOCOL, "001"),
            (PROTOCOL, "00zz"),
            (PROTOCOL, &"00".repeat(100)),
        ] {
            assert!(Credentials::parse(protocol, digits).is_none(), "{protocol} {digits}");
        }
    }

    #[test]
    fn neither_cookie_is_shown() {
        let keeper = Gatekeeper::new(Credentials::parse(PROTOCOL, "abcdef01").unwrap()).unwrap();

        assert_eq!(format!("{keeper:?} {:?}", keeper.cookie()), "Gatekeeper { .. } ***");
    }
}
