//! Data that looks random and is the same in every run, and how to compare it.

use std::path::Path;

use sha2::{Digest, Sha256};

/// `length` bytes that no compression or text mode leaves alone (`SplitMix64`).
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x0dd_ba11_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// In hexadecimal, as `sha256sum` prints it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The same of a file of any size.
pub(crate) fn sha256_of_file(path: &Path) -> String {
    let mut file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let count = std::io::Read::read(&mut file, &mut buffer).expect("a readable file");
        if count == 0 {
            return hex(&hasher.finalize());
        }
        hasher.update(&buffer[..count]);
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
