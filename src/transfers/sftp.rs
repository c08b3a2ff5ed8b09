//! What is done to files over SFTP, version 3 (draft-ietf-secsh-filexfer-02), as OpenSSH's server has it.
//!
//! Requests are kept until they are answered, and only then is anything concluded from them: a server answers in the order
//! in which it acts, so what a handle stands for is known then even if the client has guessed it.

use std::collections::{BTreeMap, HashMap};

use super::frames::{ATTRS, DATA, EXTENDED_REPLY, Fields, Frames, NAME, NoPacket};
use super::request::{Request, handle};
use crate::events::Deed;

/// Requests that wait for an answer. OpenSSH's client has 64 of them, the eagerest a few hundred. Past it we give up.
const REQUESTS_MAX: usize = 4096;

/// What these keep, in bytes. Past it we give up.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Files that are open at a time, more than OpenSSH's server has descriptors. Past it we give up.
const HANDLES_MAX: usize = 4096;

/// Their paths and handles, in bytes. Past it we give up.
const HANDLE_PATHS_BYTES_MAX: usize = 1 << 20;

/// The version that is understood.
const VERSION: u32 = 3;

/// Of what is open when a session ends, so much is told. Past it that there was more.
const UNANSWERED_TOLD_MAX: usize = 256;

/// Why nothing more can be told of a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    /// It is not SFTP.
    #[error("what is sent is no SFTP")]
    NoSftp,
    /// It is another version.
    #[error("another version of SFTP is spoken")]
    OtherVersion,
    /// More is going on than is followed.
    #[error("more requests or handles are open than are followed")]
    TooMuch,
}

impl Unseen {
    /// For labels.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoSftp => "no-sftp",
            Self::OtherVersion => "version",
            Self::TooMuch => "too-much",
        }
    }
}

impl From<NoPacket> for Unseen {
    fn from(_: NoPacket) -> Self {
        Self::NoSftp
    }
}

/// Follows one session. Sees what both sides send, a request before its answer; never changes or delays it.
#[derive(Debug, Default)]
pub struct Observer {
    requests: Frames,
    answers: Frames,
    dialogue: Dialogue,
    given_up: bool,
}

#[derive(Debug, Default)]
struct Dialogue {
    greeted: bool,
    /// By their numbers.
    pending: BTreeMap<u32, Request>,
    pending_bytes: usize,
    files: HashMap<Box<[u8]>, OpenFile>,
    files_bytes: usize,
}

#[derive(Debug)]
struct OpenFile {
    path: String,
    is_folder: bool,
    read: u64,
    written: u64,
}

impl Observer {
    /// The client has sent this.
    ///
    /// # Errors
    /// From now on nothing is seen. Told once.
    pub fn request(&mut self, bytes: &[u8]) -> Result<(), Unseen> {
        if self.given_up {
            return Ok(());
        }
        let Self { requests, dialogue, .. } = self;
        let outcome = requests.take(bytes, |head| dialogue.asked(head));
        self.judge(outcome)
    }

    /// The server has answered this.
    ///
    /// # Errors
    /// From now on nothing is seen. Told once.
    pub fn answer(&mut self, bytes: &[u8], tell: &mut dyn FnMut(Deed)) -> Result<(), Unseen> {
        if self.given_up {
            return Ok(());
        }
        let Self { answers, dialogue, .. } = self;
        let outcome = answers.take(bytes, |head| dialogue.answered(head, tell));
        self.judge(outcome)
    }

    /// The session is over.
    ///
    /// # Errors
    /// More was open than is told of. Told once.
    pub fn end(&mut self, tell: &mut dyn FnMut(Deed)) -> Result<(), Unseen> {
        let Dialogue { pending, files, .. } = std::mem::take(&mut self.dialogue);
        let mut told = 0;
        let mut tell = |deed| {
            told += 1;
            if told <= UNANSWERED_TOLD_MAX {
                tell(deed);
            }
        };
        for request in pending.into_values() {
            match request {
                Request::Open(deed) | Request::Act(deed) => tell(Deed { outcome: "unanswered", ..deed }),
                Request::ActOn(handle, deed) => {
                    let path = files.get(&handle).map(|file| file.path.clone()).unwrap_or_default();
                    tell(Deed { outcome: "unanswered", path, ..deed });
                }
                _ => {}
            }
        }
        let mut open: Vec<OpenFile> = files.into_values().filter(|file| !file.is_folder).collect();
        open.sort_by(|one, other| one.path.cmp(&other.path));
        for file in open {
            tell(file.closed("unanswered"));
        }
        self.given_up = true;
        if told > UNANSWERED_TOLD_MAX { Err(Unseen::TooMuch) } else { Ok(()) }
    }

    fn judge(&mut self, outcome: Result<(), Unseen>) -> Result<(), Unseen> {
        if outcome.is_err() {
            *self = Self { given_up: true, ..Self::default() };
        }
        outcome
    }
}

impl Dialogue {
    fn asked(&mut self, head: &[u8]) -> Result<(), Unseen> {
        let mut fields = Fields(head);
        let kind = fields.byte().ok_or(Unseen::NoSftp)?;
        let number = fields.u32().ok_or(Unseen::NoSftp)?;
        if kind == 1 {
            // Once, and before all else; its number is the version.
            return if std::mem::replace(&mut self.greeted, true) { Err(Unseen::NoSftp) } else { Ok(()) };
        }
        if !self.greeted {
            return Err(Unseen::NoSftp);
        }
        let request = Request::read(kind, &mut fields).ok_or(Unseen::NoSftp)?;
        self.pending_bytes += request.bytes();
        // The draft asks for numbers that differ, and nobody could tell which of two is answered.
        if self.pending.insert(number, request).is_some() {
            return Err(Unseen::NoSftp);
        }
        if self.pending.len() > REQUESTS_MAX || self.pending_bytes > REQUEST_BYTES_MAX {
            return Err(Unseen::TooMuch);
        }
        Ok(())
    }

    fn answered(&mut self, head: &[u8], tell: &mut dyn FnMut(Deed)) -> Result<(), Unseen> {
        let mut fields = Fields(head);
        let kind = fields.byte().ok_or(Unseen::NoSftp)?;
        let number = fields.u32().ok_or(Unseen::NoSftp)?;
        if kind == 2 {
            return if number == VERSION { Ok(()) } else { Err(Unseen::OtherVersion) };
        }
        if !matches!(kind, 101..=DATA | NAME | ATTRS | EXTENDED_REPLY) {
            return Err(Unseen::NoSftp);
        }
        let request = self.pending.remove(&number).ok_or(Unseen::NoSftp)?;
        self.pending_bytes = self.pending_bytes.saturating_sub(request.bytes());
        self.conclude(request, kind, &mut fields, tell)
    }

    fn conclude(
        &mut self,
        request: Request,
        kind: u8,
        fields: &mut Fields<'_>,
        tell: &mut dyn FnMut(Deed),
    ) -> Result<(), Unseen> {
        let outcome = match kind {
            101 => outcome(fields.u32().ok_or(Unseen::NoSftp)?),
            _ => "ok",
        };
        match request {
            Request::Open(deed) => {
                if kind == 102 {
                    let handle = handle(fields).ok_or(Unseen::NoSftp)?;
                    let is_folder = deed.action == "list";
                    let file = OpenFile { path: deed.path.clone(), is_folder, read: 0, written: 0 };
                    self.files_bytes += handle.len() + file.path.len();
                    if let Some(before) = self.files.insert(handle.clone(), file) {
                        self.files_bytes -= handle.len() + before.path.len();
                    }
                    if self.files.len() > HANDLES_MAX || self.files_bytes > HANDLE_PATHS_BYTES_MAX {
                        return Err(Unseen::TooMuch);
                    }
                }
                tell(Deed { outcome, ..deed });
            }
            Request::Act(deed) => tell(Deed { outcome, ..deed }),
            Request::ActOn(handle, deed) => tell(Deed { outcome, path: self.path(&handle), ..deed }),
            Request::Copy(from, to) => {
                let (path, to) = (self.path(&from), Some(self.path(&to)));
                tell(Deed { action: "copy", path, to, outcome, ..Deed::default() });
            }
            Request::Close(handle) => {
                // A close that fails has closed all the same.
                if let Some(file) = self.files.remove(&handle) {
                    self.files_bytes -= handle.len() + file.path.len();
                    if !file.is_folder {
                        tell(file.closed(outcome));
                    }
                }
            }
            Request::Read(handle) => {
                if let (DATA, Some(file)) = (kind, self.files.get_mut(&handle)) {
                    file.read = file.read.saturating_add(u64::from(fields.u32().unwrap_or_default()));
                }
            }
            Request::Write(handle, bytes) => {
                if let ("ok", Some(file)) = (outcome, self.files.get_mut(&handle)) {
                    file.written = file.written.saturating_add(u64::from(bytes));
                }
            }
            Request::Look => {}
        }
        Ok(())
    }

    fn path(&self, handle: &[u8]) -> String {
        self.files.get(handle).map(|file| file.path.clone()).unwrap_or_default()
    }
}

impl OpenFile {
    fn closed(self, outcome: &'static str) -> Deed {
        let Self { path, read, written, .. } = self;
        Deed { action: "close", path, outcome, read: Some(read), written: Some(written), ..Deed::default() }
    }
}

/// Draft §7.
fn outcome(status: u32) -> &'static str {
    match status {
        0 => "ok",
        1 => "end-of-file",
        2 => "no-such-file",
        3 => "permission-denied",
        5 => "bad-message",
        8 => "unsupported",
        _ => "failure",
    }
}
