//! What a session copies, for whoever wants to know: SFTP is followed, `scp` and `rsync` are known by their commands.

use std::sync::{Arc, Mutex, PoisonError};

use super::shared::Shared;
use crate::engine::Program;
use crate::events::{Deed, Happening};
use crate::policy::{Permit, Start};
use crate::transfers::{Observer, Unseen, copying, is_sftp_server};

/// The subsystem whose protocol is known.
const SFTP: &str = "sftp";

/// Follows what both sides of a session send.
///
/// Where it is read, and not by a task of its own: of a message of 32 KiB a few dozen bytes are looked at, which costs less than
/// to put it into a queue. The two directions have different tasks, so there is a lock, held for that long; sessions that
/// nobody follows have none.
pub(super) struct FileWatch {
    shared: Arc<Shared>,
    session: u32,
    observer: Mutex<Observer>,
}

impl FileWatch {
    /// What there is to be told at the start of a program, and what follows it, if there is something to follow.
    pub(super) fn of(
        shared: &Arc<Shared>,
        session: u32,
        start: &Start,
        permit: &Permit,
    ) -> Option<Arc<Self>> {
        if !shared.services.events.wants_files() {
            return None;
        }
        let is_sftp = match (start, permit.program()) {
            // Whatever is forced in its place: what is no SFTP is seen not to be.
            (Start::Subsystem(name), _) => name == SFTP,
            (_, Program::ShellCommand(command)) => {
                if let Some(copy) = copying(command) {
                    let (program, direction, path) = (copy.program, copy.direction, copy.path);
                    shared.teller.tell(&Happening::Transfer { session, program, direction, path });
                }
                is_sftp_server(command)
            }
            _ => false,
        };
        let (shared, observer) = (Arc::clone(shared), Mutex::default());
        is_sftp.then(|| Arc::new(Self { shared, session, observer }))
    }

    /// The client has sent this; to be called before the program can answer.
    pub(super) fn request(&self, bytes: &[u8]) {
        self.follow(|observer| observer.request(bytes));
    }

    /// The program has said this; to be called before the client can hear of it.
    pub(super) fn answer(&self, bytes: &[u8]) {
        self.follow(|observer| observer.answer(bytes, &mut |deed| self.tell(deed)));
    }

    /// The session is over.
    pub(super) fn end(&self) {
        self.follow(|observer| observer.end(&mut |deed| self.tell(deed)));
    }

    fn tell(&self, deed: Deed) {
        self.shared.teller.tell(&Happening::File { session: self.session, deed });
    }

    fn follow(&self, step: impl FnOnce(&mut Observer) -> Result<(), Unseen>) {
        let mut observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(unseen) = step(&mut observer) {
            drop(observer);
            let (session, reason) = (self.session, unseen.label());
            self.shared.teller.tell(&Happening::FilesUnseen { session, reason });
        }
    }
}

impl std::fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileWatch({})", self.session)
    }
}
