//! The first message of an X11 client, from whatever runs in a container.
#![no_main]

use coracle::forward::x11::{parse, with_authorization};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Read as the server reads: it asks again when more has come.
    let whole = (0..=bytes.len()).find_map(|length| parse(&bytes[..length]).transpose());
    let Some(whole) = whole else {
        // Whatever is longer than a message can be is one, or none.
        assert!(bytes.len() < 12 + 2 * 256);
        return;
    };
    assert_eq!(parse(bytes).transpose(), Some(whole), "what follows changes nothing");
    if let Ok(setup) = whole {
        let again = with_authorization(&setup, b"MIT-MAGIC-COOKIE-1", &bytes[..bytes.len().min(64)]);
        let again = parse(&again).expect("one of ours").expect("all of it");
        assert_eq!((again.order, again.version), (setup.order, setup.version));
        assert_eq!(again.protocol, b"MIT-MAGIC-COOKIE-1");
        assert_eq!(again.data, &bytes[..bytes.len().min(64)]);
    }
});
