//! Both sides of SFTP, from a client and from whatever runs in a container.
#![no_main]

use coracle::transfers::{Observer, copying};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    drop(copying(bytes));
    let mut observer = Observer::default();
    let mut told = 0;
    // The first of each piece says whose it is and how long.
    let mut rest = bytes;
    drop(observer.request(&[0, 0, 0, 5, 1, 0, 0, 0, 3]));
    while let Some((first, after)) = rest.split_first() {
        let (piece, left) = after.split_at(after.len().min(usize::from(first >> 1)));
        if first & 1 == 0 {
            drop(observer.request(piece));
        } else {
            drop(observer.answer(piece, &mut |_| told += 1));
        }
        rest = left;
    }
    drop(observer.end(&mut |_| told += 1));
    // Each takes a packet at least.
    assert!(told <= bytes.len());
});
