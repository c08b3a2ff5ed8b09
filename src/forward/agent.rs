//! What goes to a client's agent comes in messages of bounded length (draft-ietf-sshm-ssh-agent §3): a length, then so
//! many bytes.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, Stream, StreamExt};

/// Longest message, as OpenSSH's agents take it, in bytes. Whoever says a longer one is cut.
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// Bytes of a length.
const LENGTH_BYTES: usize = 4;

/// Lets messages through as they come and ends with an error where one is too long; no part of that goes on.
pub(super) fn messages(
    output: BoxStream<'static, io::Result<Bytes>>,
) -> BoxStream<'static, io::Result<Bytes>> {
    watched(output, Framing::default()).boxed()
}

fn watched(
    output: BoxStream<'static, io::Result<Bytes>>,
    framing: Framing,
) -> impl Stream<Item = io::Result<Bytes>> {
    futures::stream::unfold(Some((output, framing)), |state| async move {
        let (mut output, mut framing) = state?;
        loop {
            match output.next().await? {
                Err(error) => return Some((Err(error), None)),
                Ok(chunk) => match framing.pass(&chunk) {
                    Err(TooLong) => {
                        let error =
                            io::Error::new(io::ErrorKind::InvalidData, "a message for the agent is too long");
                        return Some((Err(error), None));
                    }
                    // Nothing but a part of a length.
                    Ok(passed) if passed.is_empty() => {}
                    Ok(passed) => return Some((Ok(passed), Some((output, framing)))),
                },
            }
        }
    })
}

/// Where in a message we are.
#[derive(Debug, Default)]
struct Framing {
    /// Of the next length, kept until all of it is there.
    length: BytesMut,
    /// Of the message's body.
    missing: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl Framing {
    /// What may go on of that.
    fn pass(&mut self, mut chunk: &[u8]) -> Result<Bytes, TooLong> {
        let mut passed = BytesMut::with_capacity(self.length.len() + chunk.len());
        while !chunk.is_empty() {
            let wanted = if self.missing > 0 { self.missing } else { LENGTH_BYTES - self.length.len() };
            let (now, later) = chunk.split_at(wanted.min(chunk.len()));
            chunk = later;
            if self.missing > 0 {
                self.missing -= now.len();
                passed.extend_from_slice(now);
                continue;
            }
            self.length.extend_from_slice(now);
            if let Ok(length) = <[u8; LENGTH_BYTES]>::try_from(&*self.length) {
                self.missing = usize::try_from(u32::from_be_bytes(length)).map_err(|_| TooLong)?;
                if self.missing > MESSAGE_BYTES_MAX {
                    return Err(TooLong);
                }
                passed.extend_from_slice(&self.length);
                self.length.clear();
            }
        }
        Ok(passed.freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes).unwrap().to_be_bytes();
        length.into_iter().chain(std::iter::repeat_n(7, bytes)).collect()
    }

    /// F6
    #[tokio::test]
    async fn a_message_that_is_too_long_is_cut_before_any_of_it_goes_on() {
        let said = [message(3), message(MESSAGE_BYTES_MAX), message(MESSAGE_BYTES_MAX + 1)].concat();
        let chunks: Vec<_> = said.chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();

        let heard: Vec<_> = messages(futures::stream::iter(chunks).boxed()).collect().await;

        let (last, passed) = heard.split_last().unwrap();
        assert!(last.is_err());
        let passed: usize = passed.iter().map(|chunk| chunk.as_ref().unwrap().len()).sum();
        assert!(passed <= 4 + 3 + 4 + MESSAGE_BYTES_MAX, "{passed}");
        assert!(passed > MESSAGE_BYTES_MAX - 1000, "{passed}");
    }

    proptest! {
        #[test]
        fn messages_go_through_unchanged_however_they_are_cut(
            sizes in prop::collection::vec(0_usize..40, 0..20),
            cuts in prop::collection::vec(1_usize..9, 1..200),
        ) {
            let said: Vec<u8> = sizes.iter().flat_map(|size| message(*size)).collect();
            let (mut framing, mut rest, mut heard) = (Framing::default(), &said[..], Vec::new());
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                heard.extend_from_slice(&framing.pass(now).unwrap());
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(heard, said);
        }
    }
}
