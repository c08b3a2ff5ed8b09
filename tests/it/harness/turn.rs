//! Who runs beside whom: most tests share the machine, those that measure milliseconds have it to themselves.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::const_new(());

/// Held for as long as a test's server lives. One per test: a second one would wait for the first.
#[derive(Debug)]
#[expect(dead_code, reason = "the guards are held, not read")]
pub(crate) enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
    /// Within the turn of the same test's other server.
    Within,
}

impl Turn {
    pub(crate) async fn shared() -> Self {
        Self::Shared(MACHINE.read().await)
    }

    pub(crate) async fn alone() -> Self {
        Self::Alone(MACHINE.write().await)
    }
}
