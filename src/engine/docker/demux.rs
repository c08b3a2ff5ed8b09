//! Takes the engine's multiplexed output apart: frames of an 8-byte header (stream, 0, 0, 0, length in big endian)
//! and a body (Docker Engine API, "attach to a container", stream format).

use std::io;

use bytes::{Buf as _, BytesMut};

use crate::engine::Output;

const HEADER_BYTES: usize = 8;

/// An incremental decoder. It holds at most a header back, so a frame's length costs no memory, whatever it claims.
#[derive(Debug, Default)]
pub(super) struct Demultiplexer {
    /// The stream of the frame at hand.
    stream: u8,
    /// What is missing of its body.
    missing: usize,
}

impl Demultiplexer {
    /// The next piece out of `received`, which it consumes; `None` when more has to be received first.
    pub(super) fn next(&mut self, received: &mut BytesMut) -> io::Result<Option<Output>> {
        while self.missing == 0 {
            if received.len() < HEADER_BYTES {
                return Ok(None);
            }
            let header = received.get_u64();
            let [stream, zero @ .., _, _, _, _] = header.to_be_bytes();
            if zero != [0; 3] || stream > 3 {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the engine's output is not multiplexed",
                ));
            }
            self.stream = stream;
            self.missing = usize::try_from(header & u64::from(u32::MAX)).unwrap_or(usize::MAX);
        }
        if received.is_empty() {
            return Ok(None);
        }
        let piece = received.split_to(self.missing.min(received.len())).freeze();
        self.missing -= piece.len();
        // Stream 3 carries what the engine itself has to complain about.
        Ok(Some(if self.stream >= 2 { Output::Stderr(piece) } else { Output::Stdout(piece) }))
    }

    /// Whether the input may end here.
    pub(super) fn is_between_frames(&self, rest: &BytesMut) -> bool {
        self.missing == 0 && rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn frame(stream: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend(u32::try_from(body.len()).expect("a short body").to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn decode(chunks: impl IntoIterator<Item = Vec<u8>>) -> io::Result<(Vec<u8>, Vec<u8>, bool)> {
        let (mut decoder, mut received) = (Demultiplexer::default(), BytesMut::new());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        for chunk in chunks {
            received.extend_from_slice(&chunk);
            while let Some(output) = decoder.next(&mut received)? {
                match output {
                    Output::Stdout(piece) => stdout.extend(piece),
                    Output::Stderr(piece) => stderr.extend(piece),
                }
            }
            assert!(received.len() < HEADER_BYTES, "it holds {} bytes back", received.len());
        }
        let whole = decoder.is_between_frames(&received);
        Ok((stdout, stderr, whole))
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_output(
            frames in vec((1_u8..=2, vec(any::<u8>(), 0..300)), 0..20),
            cuts in vec(1_usize..50, 1..20),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(stream, body)| frame(*stream, body)).collect();
            let of = |wanted| -> Vec<u8> {
                frames.iter().filter(|(stream, _)| *stream == wanted).flat_map(|(_, body)| body.clone()).collect()
            };
            let mut chunks = Vec::new();
            let (mut rest, mut cut) = (bytes.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (chunk, left) = rest.split_at((*cut.next().unwrap_or(&1)).min(rest.len()));
                chunks.push(chunk.to_vec());
                rest = left;
            }

            prop_assert_eq!(decode(chunks).expect("sound frames"), (of(1), of(2), true));
        }

        #[test]
        fn no_input_makes_it_panic_or_hoard(bytes in vec(any::<u8>(), 0..2000)) {
            drop(decode(bytes.chunks(7).map(<[u8]>::to_vec)));
        }
    }

    #[test]
    fn a_cut_inside_a_frame_is_noticed_and_a_huge_length_costs_nothing() {
        let mut cut = vec![1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        cut.extend(b"abc");

        assert_eq!(decode([cut]).expect("sound so far"), (b"abc".to_vec(), Vec::new(), false));
    }

    #[test]
    fn what_is_not_multiplexed_is_refused() {
        assert!(decode([b"HTTP/1.1 200 OK".to_vec()]).is_err());
    }
}
