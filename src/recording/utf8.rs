//! Text out of chunks of bytes: characters that two chunks share become whole, what is none becomes U+FFFD.

/// Longest character, in bytes.
const CHARACTER_BYTES_MAX: usize = 4;

/// Remembers the beginning of a character that is still to come.
#[derive(Debug, Default)]
pub struct Utf8 {
    begun: Vec<u8>,
}

impl Utf8 {
    /// The text that is complete with this chunk.
    pub fn decode(&mut self, chunk: &[u8]) -> String {
        let joined;
        let bytes = if self.begun.is_empty() {
            chunk
        } else {
            self.begun.extend_from_slice(chunk);
            joined = std::mem::take(&mut self.begun);
            &joined
        };
        let mut text = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(part) = chunks.next() {
            text.push_str(part.valid());
            let rest = part.invalid();
            if chunks.peek().is_none() && is_begun(rest) {
                self.begun.extend_from_slice(rest);
            } else if !rest.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    /// What is left of a character that nothing follows.
    #[must_use]
    pub fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.begun).is_empty() { "" } else { "\u{fffd}" }
    }
}

/// Whether more bytes could make a character of these.
fn is_begun(bytes: &[u8]) -> bool {
    let due = match bytes.first() {
        Some(0xC2..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF4) => CHARACTER_BYTES_MAX,
        _ => return false,
    };
    bytes.len() < due && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_character_in_two_chunks_is_one_character() {
        let mut utf8 = Utf8::default();
        let all = "aé€😀z".as_bytes();

        let text: String = all.iter().map(|byte| utf8.decode(&[*byte])).collect();

        assert_eq!(text + utf8.finish(), "aé€😀z");
    }

    #[test]
    fn what_is_no_text_is_replaced_and_loses_nobody_else() {
        let mut utf8 = Utf8::default();

        assert_eq!(utf8.decode(b"a\xffb\xe2\x82"), "a\u{fffd}b");
        assert_eq!(utf8.decode(b"x\xf0\x9f"), "\u{fffd}x");
        assert_eq!(utf8.finish(), "\u{fffd}");
        assert_eq!(utf8.finish(), "");
    }

    proptest! {
        #[test]
        fn however_bytes_are_cut_the_text_is_the_same(bytes: Vec<u8>, at in 0..64_usize) {
            let (one, two) = bytes.split_at(at.min(bytes.len()));
            let mut utf8 = Utf8::default();

            let text = utf8.decode(one) + &utf8.decode(two) + utf8.finish();

            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
