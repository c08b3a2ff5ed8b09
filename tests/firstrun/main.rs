//! What somebody meets who has never run Coracle: the first commands, the pages that tell them, packages and images, and
//! what the machine's own service manager is told.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing at once"
)]

mod activation;
mod beginning;
mod compose;
mod harness;
mod manual;
mod packages;
mod pages;
#[path = "../it/harness/ports.rs"]
mod ports;
mod server_image;
mod supervision;
