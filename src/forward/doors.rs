//! What programs find in their container to get at the client: a socket for its agent, a display for its screen. Made at
//! the first need, one of each for a connection.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Mutex as TurnLock;
use tokio_util::sync::CancellationToken;

use super::listen::listen_in;
use super::{Failure, Reception};
use crate::engine::Container;
use crate::ids::ConnectionId;
use crate::policy::ListenPermit;
use crate::session::{Provided, Provision};

/// The port of display 0 (X Window System Protocol, appendix B).
const DISPLAY_PORT_BASE: u16 = 6000;

/// One listener that programs are told of, and leave to make it.
#[derive(Debug, Default)]
pub struct Door {
    permit: Mutex<Option<ListenPermit>>,
    /// Whoever finds it not made makes it, and others wait.
    made: TurnLock<Option<Made>>,
}

/// Where it is.
#[derive(Clone, Debug)]
struct Made {
    path: String,
    port: u16,
    /// Cancelled when it has gone.
    over: CancellationToken,
}

/// Makes what takes callers in.
pub type MakeReception = Box<dyn Fn() -> Reception + Send + Sync>;

/// The doors that one program is to have.
pub struct Doors {
    /// Whose they are.
    pub connection: ConnectionId,
    /// To the agent; of use to all programs of a connection once one of them was granted it.
    pub agent: (Arc<Door>, MakeReception),
    /// To a screen of the client, and which.
    pub display: Option<((Arc<Door>, MakeReception), u32)>,
}

impl std::fmt::Debug for Doors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doors").finish_non_exhaustive()
    }
}

impl Door {
    /// Gives leave to make it, where that is not done.
    pub fn permit(&self, permit: ListenPermit) {
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
    }

    /// Whether it was made and has gone again. A door that is being made has not gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.made.try_lock().is_ok_and(|made| made.as_ref().is_some_and(|made| made.over.is_cancelled()))
    }

    /// Finds it, or makes it. `None` where nobody has asked for it. Cancel safe.
    async fn open(
        &self,
        container: &Arc<dyn Container>,
        reception: &MakeReception,
    ) -> Option<Result<Made, Failure>> {
        let mut made = self.made.lock().await;
        if let Some(made) = made.as_ref().filter(|made| !made.over.is_cancelled()) {
            return Some(Ok(made.clone()));
        }
        let permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let reception = reception();
        let tasks = reception.tasks.clone();
        let listener = match listen_in(Arc::clone(container), permit, &tasks).await {
            Ok(listener) => listener,
            Err(failure) => return Some(Err(failure)),
        };
        let over = CancellationToken::new();
        let door = Made { path: listener.path().to_owned(), port: listener.port(), over: over.clone() };
        *made = Some(door.clone());
        let over = over.drop_guard();
        tasks.spawn(async move {
            reception.serve(listener).await;
            drop(over);
        });
        Some(Ok(door))
    }
}

impl Doors {
    async fn open(
        &self,
        what: &str,
        door: &(Arc<Door>, MakeReception),
        container: &Arc<dyn Container>,
        provided: &mut Provided,
    ) -> Option<Made> {
        let (door, reception) = door;
        match door.open(container, reception).await? {
            Ok(made) => Some(made),
            Err(failure) => {
                tracing::warn!(connection = %self.connection, reason = ?failure.to_string(), "{what} is not forwarded");
                provided.lacks(&format!("{what} is not forwarded"), &failure);
                None
            }
        }
    }
}

#[async_trait]
impl Provision for Doors {
    async fn provide(&self, container: &Arc<dyn Container>) -> Provided {
        let mut provided = Provided::default();
        if let Some(made) = self.open("the agent", &self.agent, container, &mut provided).await {
            provided.set("SSH_AUTH_SOCK", made.path);
        }
        if let Some((door, screen)) = &self.display
            && let Some(made) = self.open("X11", door, container, &mut provided).await
        {
            provided.set("DISPLAY", display(made.port, *screen));
            provided.set("XAUTHORITY", made.path);
        }
        provided
    }
}

/// As sshd puts it, so that programs go by TCP.
fn display(port: u16, screen: u32) -> String {
    format!("localhost:{}.{screen}", port.saturating_sub(DISPLAY_PORT_BASE))
}

#[cfg(test)]
mod tests {
    use super::display;

    /// F7
    #[test]
    fn a_display_is_named_by_its_port_and_keeps_its_screen() {
        assert_eq!(display(6010, 0), "localhost:10.0");
        assert_eq!(display(6011, 3), "localhost:11.3");
    }
}
