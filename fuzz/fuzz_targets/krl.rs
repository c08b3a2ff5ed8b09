//! Lists of revoked keys, binary and text, and certificates: nothing in them makes us fail.

#![no_main]

use coracle::auth::{Certificate, RevocationList};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let certificate = Certificate::parse(bytes);
    let header = [b"SSHKRL\n\0\0\0\0\x01".as_slice(), &[0; 32]].concat();
    for bytes in [bytes, &[&header, bytes].concat()] {
        if let Ok(list) = RevocationList::parse(bytes) {
            drop(list.check_key(bytes));
            if let Ok(certificate) = &certificate {
                drop(list.check_certificate(certificate));
            }
        }
    }
});
