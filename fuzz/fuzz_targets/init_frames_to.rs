//! What a server says to an init: no bytes make the decoder fail, however they arrive, and what it understands is exactly
//! what was sent.

#![no_main]

use coracle_init::{FRAME_BYTES_MAX, ToInit};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else { return };
    // In pieces, whose sizes must not matter.
    assert_eq!(decode(bytes, usize::from(*size) + 1), decode(bytes, usize::MAX));
});

/// The frames, encoded anew, and what went wrong in the end.
fn decode(bytes: &[u8], size: usize) -> (Vec<u8>, Option<&'static str>) {
    let (mut received, mut taken, mut encoded) = (0_usize, 0, Vec::new());
    loop {
        received = received.saturating_add(size).min(bytes.len());
        loop {
            let waiting = &bytes[taken..received];
            match ToInit::decode(waiting) {
                Ok(Some((frame, length))) => {
                    let before = encoded.len();
                    frame.encode(&mut encoded).expect("what fits into a frame fits into one again");
                    assert_eq!(encoded[before..], waiting[..length]);
                    taken += length;
                }
                Ok(None) => {
                    assert!(waiting.len() < FRAME_BYTES_MAX, "a whole frame is there");
                    break;
                }
                Err(malformed) => return (encoded, Some(malformed.0)),
            }
        }
        if received == bytes.len() {
            return (encoded, None);
        }
    }
}
