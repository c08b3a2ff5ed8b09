//! What a container that means harm can say to the server through its first process, and do to what the server gives it.
//!
//! A [`Guest`] plays the first process, and lies. Everything on the other side is the server's own code. Nothing here needs
//! an engine.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing at once, and its tasks end with its runtime"
)]

mod closing;
mod framed;
mod frames;
mod greeting;
mod guest;
mod programs;
mod sockets;
mod sockets_framed;
mod stage;
mod strangers;
