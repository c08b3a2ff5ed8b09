//! The header of the PROXY protocol, from whoever a proxy lets through.
#![no_main]

use coracle::ssh::proxy_protocol::{Progress, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Read as the server reads: never more than was asked for.
    let mut read = 0;
    while let Ok(Progress::Incomplete(missing)) = parse(&bytes[..read]) {
        assert!(missing > 0);
        read += missing;
        if read > bytes.len() {
            return;
        }
    }
    if let Ok(whole) = parse(&bytes[..read]) {
        // It ends where reading stopped, and what follows changes nothing.
        assert!(matches!(whole, Progress::Complete(length, _) if length == read));
        assert_eq!(parse(bytes).ok(), Some(whole));
    }
});
