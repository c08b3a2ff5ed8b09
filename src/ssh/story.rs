//! Which container a connection has got, or a session with one of its own, and that it is gone.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use super::services::Profile;
use super::shared::Shared;
use crate::events::Happening;
use crate::pool::LaunchState;

/// Tells of one container.
pub(super) struct Story {
    shared: Arc<Shared>,
    profile: Arc<Profile>,
    session: Option<u32>,
    container: OnceLock<String>,
}

impl Story {
    /// `session` where it is that session's alone.
    pub(super) fn new(shared: &Arc<Shared>, profile: &Arc<Profile>, session: Option<u32>) -> Self {
        let (shared, profile) = (Arc::clone(shared), Arc::clone(profile));
        Self { shared, profile, session, container: OnceLock::new() }
    }

    /// Tells when it is there, for as long as it is awaited. Never ends. Cancel safe.
    pub(super) async fn follow(&self, mut launch: watch::Receiver<LaunchState>) {
        let begun = self.shared.teller.age();
        let wanted = |state: &LaunchState| matches!(state, LaunchState::Ready(_));
        let id = launch.wait_for(wanted).await.ok().and_then(|state| match &*state {
            LaunchState::Ready(container) => Some(container.id().as_str().to_owned()),
            _ => None,
        });
        if let Some(container) = id {
            self.container.get_or_init(|| container.clone());
            let after = self.shared.teller.age().saturating_sub(begun);
            let (session, image) = (self.session, self.profile.image.clone());
            self.shared.teller.tell(&Happening::ContainerReady { container, session, image, after });
        }
        std::future::pending::<()>().await;
    }

    /// It was given back.
    pub(super) fn end(self) {
        let Self { shared, profile, session, container } = self;
        if let Some(container) = container.into_inner() {
            let stays = profile.pool.keeps_containers();
            shared.teller.tell(&Happening::ContainerReturned { container, session, stays });
        }
    }
}
