//! Lines of `authorized_keys`, with any options: nothing that is written there makes us fail, and a key that is found has
//! options that count.

#![no_main]

use std::time::SystemTime;

use coracle::auth::{Circumstances, KeyOptions, PublicKey, find_authorities, find_key, has_authorities};
use libfuzzer_sys::fuzz_target;

const BLOB: &[u8] = b"\0\0\0\x0bssh-ed25519\0\0\0\x20................................";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4u";

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let circumstances = Circumstances { source: [192, 0, 2, 1].into(), now: SystemTime::UNIX_EPOCH };
    let with_key: String = text.lines().map(|line| format!("{line} {KEY}\n")).collect();

    for text in [text.as_ref(), &with_key] {
        let look = find_key(text.lines(), BLOB, &circumstances);
        if let Some(options) = look.found {
            assert!(!options.cert_authority && options.admit(&circumstances).is_ok());
        }
        let authorities = find_authorities(text.lines(), BLOB);
        assert!(authorities.found.is_empty() || has_authorities(text.lines()));
    }
    drop(KeyOptions::parse(&text));
    drop(PublicKey::from_blob(bytes.to_owned()).check_strength());
});
