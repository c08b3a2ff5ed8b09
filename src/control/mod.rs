//! What whoever runs the server sees and does while it runs.

pub mod client;
pub mod config;
mod http;
pub mod protocol;
mod register;
mod socket;

pub use config::Config;
pub use http::{Health, HttpEndpoint};
pub use register::Register;
pub use socket::{Bound, Control};
