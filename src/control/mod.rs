//! How whoever runs the server looks at it.

mod http;

pub use http::{Health, HttpEndpoint};
