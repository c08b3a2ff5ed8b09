//! Coracle: an SSH front end that gives every connection a container of its own.

pub mod engine;
pub mod ids;
pub mod secret;
