//! Where no traces are built in.

use std::sync::Arc;

use super::Config;
use crate::events::{Event, Witness};
use crate::ids::InstanceId;

/// There are none.
#[derive(Debug)]
pub enum Traces {}

impl Traces {
    /// Nothing: the configuration cannot ask for it.
    ///
    /// # Errors
    /// None.
    pub fn start(_: &Config, _: &InstanceId) -> Result<Option<Arc<Self>>, String> {
        Ok(None)
    }

    /// Never called.
    #[expect(clippy::unused_async, reason = "as where traces are built in")]
    pub async fn end(&self) {
        match *self {}
    }
}

impl Witness for Traces {
    fn hear(&self, _: &Event<'_>) {
        match *self {}
    }
}
