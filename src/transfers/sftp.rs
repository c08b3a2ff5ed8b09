//! What is done to files over SFTP, version 3 (draft-ietf-secsh-filexfer-02), as OpenSSH's server has it.
//!
//! Requests are kept until they are answered, and only then is anything concluded from them: a server answers in the order
//! in which it acts, so what a handle stands for is known then even if the client has guessed it.

use std::collections::{BTreeMap, HashMap};

use super::attributes;
use super::frames::{ATTRS, DATA, EXTENDED_REPLY, Fields, Frames, NAME, NoPacket, WRITE};
use crate::events::Deed;

/// Requests that wait for an answer. OpenSSH's client has 64 of them, the eagerest a few hundred. Past it we give up.
const REQUESTS_MAX: usize = 4096;

/// What these keep, in bytes. Past it we give up.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Files that are open at a time, more than OpenSSH's server has descriptors. Past it we give up.
const HANDLES_MAX: usize = 4096;

/// Their paths and handles, in bytes. Past it we give up.
const HANDLE_PATHS_BYTES_MAX: usize = 1 << 20;

/// Longest path that is told, in bytes: Linux has none that are longer.
const PATH_BYTES_MAX: usize = 4096;

/// Longest handle (draft §6.2).
const HANDLE_BYTES_MAX: usize = 256;

/// The version that is understood.
const VERSION: u32 = 3;

const OPEN_READ: u32 = 1;
const OPEN_WRITE: u32 = 2;

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
enum Request {
    /// Whose answer is a handle.
    Open(Deed),
    /// Whose answer is its outcome.
    Act(Deed),
    /// The same to a file by its handle.
    ActOn(Box<[u8]>, Deed),
    Copy(Box<[u8]>, Box<[u8]>),
    Close(Box<[u8]>),
    Read(Box<[u8]>),
    Write(Box<[u8]>, u32),
    /// Nothing is done by it.
    Look,
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
    pub fn end(&mut self, tell: &mut dyn FnMut(Deed)) {
        let Dialogue { pending, files, .. } = std::mem::take(&mut self.dialogue);
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

impl Request {
    /// `None` where it lacks what it has to have.
    fn read(kind: u8, fields: &mut Fields<'_>) -> Option<Self> {
        let act = |action, path, to| Self::Act(Deed { action, path, to, ..Deed::default() });
        Some(match kind {
            3 => {
                let path = path(fields)?;
                let action = match fields.u32()? & (OPEN_READ | OPEN_WRITE) {
                    OPEN_READ => "open-read",
                    OPEN_WRITE => "open-write",
                    _ => "open-read-write",
                };
                Self::Open(Deed { action, path, ..Deed::default() })
            }
            4 => Self::Close(handle(fields)?),
            5 => Self::Read(handle(fields)?),
            WRITE => {
                let handle = handle(fields)?;
                fields.u64()?;
                Self::Write(handle, fields.u32()?)
            }
            9 => {
                let path = path(fields)?;
                let change = Some(attributes::shown(fields));
                Self::Act(Deed { action: "setstat", path, change, ..Deed::default() })
            }
            10 => {
                let handle = handle(fields)?;
                let change = Some(attributes::shown(fields));
                Self::ActOn(handle, Deed { action: "setstat", change, ..Deed::default() })
            }
            11 => Self::Open(Deed { action: "list", path: path(fields)?, ..Deed::default() }),
            13 => act("remove", path(fields)?, None),
            14 => act("mkdir", path(fields)?, None),
            15 => act("rmdir", path(fields)?, None),
            18 => act("rename", path(fields)?, Some(path(fields)?)),
            20 => {
                // OpenSSH has them the other way round than the draft, and so has everybody since.
                let target = path(fields)?;
                act("symlink", path(fields)?, Some(target))
            }
            200 => return Self::extended(fields),
            7 | 8 | 12 | 16 | 17 | 19 => Self::Look,
            _ => return None,
        })
    }

    fn extended(fields: &mut Fields<'_>) -> Option<Self> {
        let act = |action, path, to| Self::Act(Deed { action, path, to, ..Deed::default() });
        let name = fields.string()?;
        Some(match name {
            b"posix-rename@openssh.com" => act("rename", path(fields)?, Some(path(fields)?)),
            b"hardlink@openssh.com" => act("link", path(fields)?, Some(path(fields)?)),
            b"lsetstat@openssh.com" => {
                let path = path(fields)?;
                let change = Some(attributes::shown(fields));
                Self::Act(Deed { action: "setstat", path, change, ..Deed::default() })
            }
            b"copy-data" => {
                let from = handle(fields)?;
                fields.u64()?;
                fields.u64()?;
                Self::Copy(from, handle(fields)?)
            }
            b"statvfs@openssh.com"
            | b"fstatvfs@openssh.com"
            | b"fsync@openssh.com"
            | b"limits@openssh.com"
            | b"expand-path@openssh.com"
            | b"home-directory"
            | b"users-groups-by-id@openssh.com" => Self::Look,
            other => act("extended", text(other), None),
        })
    }

    /// What it keeps.
    fn bytes(&self) -> usize {
        let of = |deed: &Deed| {
            deed.path.len()
                + deed.to.as_ref().map_or(0, String::len)
                + deed.change.as_ref().map_or(0, String::len)
        };
        match self {
            Self::Open(deed) | Self::Act(deed) => of(deed),
            Self::ActOn(handle, deed) => handle.len() + of(deed),
            Self::Copy(from, to) => from.len() + to.len(),
            Self::Close(handle) | Self::Read(handle) | Self::Write(handle, _) => handle.len(),
            Self::Look => 0,
        }
    }
}

fn handle(fields: &mut Fields<'_>) -> Option<Box<[u8]>> {
    fields.string().filter(|handle| handle.len() <= HANDLE_BYTES_MAX).map(Into::into)
}

fn path(fields: &mut Fields<'_>) -> Option<String> {
    fields.string().map(text)
}

/// As text, and cut where no path goes on.
fn text(bytes: &[u8]) -> String {
    let (shown, more) = match bytes.get(..PATH_BYTES_MAX) {
        Some(start) if bytes.len() > PATH_BYTES_MAX => (start, "…"),
        _ => (bytes, ""),
    };
    String::from_utf8_lossy(shown).into_owned() + more
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
