//! The real binary, with a server of a few lines at the other end.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

mod connections;
mod dialled_ends;
mod dialling;
mod dialling_frames;
mod endings;
mod forwarding;
mod frames;
mod listening;
mod listening_made;
mod logins;
mod neighbours;
mod network;
mod pair;
mod peer;
mod server;
mod signals;
mod socket;
mod terminals;
