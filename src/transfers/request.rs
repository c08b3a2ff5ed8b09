//! What a client of SFTP asks for (draft-ietf-secsh-filexfer-02, §6).

use super::attributes;
use super::frames::{Fields, WRITE};
use crate::events::Deed;

/// Longest path that is told, in bytes: Linux has none that are longer.
const PATH_BYTES_MAX: usize = 4096;

/// Longest handle (draft §6.2).
const HANDLE_BYTES_MAX: usize = 256;

const OPEN_READ: u32 = 1;
const OPEN_WRITE: u32 = 2;
const OPEN_APPEND: u32 = 4;
const OPEN_CREATE: u32 = 8;
const OPEN_TRUNCATE: u32 = 0x10;

#[derive(Debug)]
pub(super) enum Request {
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

impl Request {
    /// `None` where it lacks what it has to have.
    pub(super) fn read(kind: u8, fields: &mut Fields<'_>) -> Option<Self> {
        let act = |action, path, to| Self::Act(Deed { action, path, to, ..Deed::default() });
        Some(match kind {
            3 => {
                let path = path(fields)?;
                let flags = fields.u32()?;
                // A file that is emptied or made is written to, whatever else is said.
                let changes = flags & (OPEN_WRITE | OPEN_APPEND | OPEN_CREATE | OPEN_TRUNCATE) != 0;
                let action = match (flags & OPEN_READ != 0, changes) {
                    (true, true) => "open-read-write",
                    (false, true) => "open-write",
                    (_, false) => "open-read",
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
    pub(super) fn bytes(&self) -> usize {
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

pub(super) fn handle(fields: &mut Fields<'_>) -> Option<Box<[u8]>> {
    fields.string().filter(|handle| handle.len() <= HANDLE_BYTES_MAX).map(Into::into)
}

pub(super) fn path(fields: &mut Fields<'_>) -> Option<String> {
    fields.string().map(text)
}

/// As text, and cut where no path goes on.
pub(super) fn text(bytes: &[u8]) -> String {
    let (shown, more) = match bytes.get(..PATH_BYTES_MAX) {
        Some(start) if bytes.len() > PATH_BYTES_MAX => (start, "…"),
        _ => (bytes, ""),
    };
    String::from_utf8_lossy(shown).into_owned() + more
}
