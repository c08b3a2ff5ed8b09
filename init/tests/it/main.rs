//! The real binary, with a server of a few lines at the other end.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

mod connections;
mod endings;
mod frames;
mod logins;
mod pair;
mod peer;
mod server;
mod signals;
mod socket;
mod terminals;
