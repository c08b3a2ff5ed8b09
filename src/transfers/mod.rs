//! What is copied to and from containers, as far as it can be seen from outside of them. Knows neither sessions nor
//! transports: bytes in, deeds out. Everything it reads is a stranger's; it keeps a bounded part of that, and whatever it
//! does not understand ends the looking and nothing else.

mod attributes;
mod command;
mod frames;
mod request;
mod sftp;

pub use command::{Copying, copying, is_sftp_server};
pub use sftp::{Observer, Unseen};

#[cfg(test)]
mod tests;
