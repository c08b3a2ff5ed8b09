//! Permits that a reload of the configuration takes away.

use super::shared::Shared;
use crate::events::Happening;
use crate::identity::Identity;
use crate::policy::{Denied, Rules};

/// Waits until the configuration, read again, does not permit what was permitted: what `decide` decides.
pub(super) async fn permit_lost(
    shared: &Shared,
    identity: &Identity,
    decide: impl Fn(&Rules) -> Result<(), Denied>,
) {
    let mut current = shared.current.clone();
    while current.changed().await.is_ok() {
        let rules = current.borrow_and_update().profiles.rules(identity);
        let Some(rules) = rules else { continue };
        if let Err(denied) = decide(&rules) {
            shared.teller.tell(&Happening::PermitWithdrawn { reason: denied.to_string() });
            return;
        }
    }
    std::future::pending::<()>().await;
}
