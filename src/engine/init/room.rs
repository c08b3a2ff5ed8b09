//! Where an init meets us on the engine's own machine: a folder of its container's own, mounted there read-only, with the
//! init itself and a socket to connect to.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use rustix::fs::{Mode, OFlags};
use tokio::net::UnixListener;

use super::hello::aside;
use super::{Architecture, Token};

/// The file names in a room.
const BINARY: &str = "init";
const SOCKET: &str = "socket";

/// The extension of the file with a room's token. It lies next to the room, where the container does not see it.
const TOKEN: &str = "token";
const TOKEN_MODE: u32 = 0o600;

/// Everybody in the container may run and read what is in a room; on the host nobody gets there but us.
const ROOM_MODE: u32 = 0o755;
const BINARY_MODE: u32 = 0o555;
const SOCKET_MODE: u32 = 0o666;

/// A room is younger while its container is on its way: then it belongs to nobody yet.
const AGE_MIN: Duration = Duration::from_mins(10);

/// All rooms of a server.
#[derive(Clone, Debug)]
pub struct Rooms {
    folder: Arc<PathBuf>,
    /// Architectures whose init lies in the folder. Locked while one is written: nothing links to half of one, nor to one
    /// that is just being replaced.
    written: Arc<Mutex<HashSet<Architecture>>>,
}

/// One container's room. It goes when this is dropped, unless it is to stay.
#[derive(Debug)]
pub struct Room {
    name: String,
    folder: PathBuf,
    /// By which the init is known that was there first.
    token: Token,
    /// What the init has to show now: the token, or zeros when it is the first to come.
    expected: Token,
    listener: Option<UnixListener>,
    stays: bool,
}

impl Rooms {
    /// Rooms in `folder`, which is made when it is needed.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder: Arc::new(folder), written: Arc::default() }
    }

    /// Makes a room for an init of that architecture. Waits for the file system.
    ///
    /// # Errors
    /// There is no such init, or the file system refuses.
    pub fn make(&self, architecture: Architecture) -> io::Result<Room> {
        let name = format!("{:016x}", rand::rng().random::<u64>());
        let folder = self.folder.join(&name);
        let binary = self.binary(architecture)?;
        DirBuilder::new().mode(ROOM_MODE).create(&folder)?;
        let (token, expected) = (rand::rng().random(), Token::default());
        let mut room = Room { name, folder, token, expected, listener: None, stays: false };
        // The umask may have taken something away.
        fs::set_permissions(&room.folder, Permissions::from_mode(ROOM_MODE))?;
        fs::hard_link(binary, room.folder.join(BINARY))?;
        room.listen()?;
        Ok(room)
    }

    /// The room of a container that has been there before.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn find(&self, name: &str) -> io::Result<Room> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let folder = self.folder.join(name);
        let token = fs::read(folder.with_extension(TOKEN))?.try_into();
        let token: Token =
            token.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "its token is damaged"))?;
        let mut room =
            Room { name: name.to_owned(), folder, token, expected: token, listener: None, stays: true };
        room.listen()?;
        Ok(room)
    }

    /// Removes rooms of containers that are not there any more; `names` are those of containers that are.
    pub fn retain(&self, names: &[String]) {
        let Ok(entries) = fs::read_dir(self.folder.as_path()) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let is_old = entry
                .metadata()
                .and_then(|entry| entry.modified())
                .is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > AGE_MIN));
            if path.is_dir() && is_old && !names.iter().any(|known| name == known.as_str()) {
                remove(&path);
            }
        }
    }

    /// The file that rooms have a link to; written once per server and version.
    fn binary(&self, architecture: Architecture) -> io::Result<PathBuf> {
        let unbuilt = || io::Error::new(io::ErrorKind::Unsupported, "there is no init for this architecture");
        let contents = architecture.binary().ok_or_else(unbuilt)?;
        let file = self.folder.join(format!("init-{}-{}", architecture.name(), env!("CARGO_PKG_VERSION")));
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.contains(&architecture) && file.exists() {
            return Ok(file);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(self.folder.as_path())?;
        let aside = self.folder.join(format!("new-{:016x}", rand::rng().random::<u64>()));
        let mut new = File::create_new(&aside)?;
        new.write_all(contents)?;
        new.set_permissions(Permissions::from_mode(BINARY_MODE))?;
        drop(new);
        fs::rename(&aside, &file)?;
        written.insert(architecture);
        Ok(file)
    }
}

impl Room {
    /// By which it is found again.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder, as the engine's machine has it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What its init is to show when it comes back.
    pub(super) fn token(&self) -> Token {
        self.token
    }

    pub(super) fn expected(&self) -> Token {
        self.expected
    }

    /// Its container outlives us: the room stays, too.
    ///
    /// # Errors
    /// The token cannot be kept.
    pub fn keep(&mut self) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(TOKEN_MODE)
            .open(self.folder.with_extension(TOKEN))?;
        self.stays = true;
        file.write_all(&self.token)
    }

    /// Takes it away although it was to stay.
    pub fn clear(&mut self) {
        self.stays = false;
    }

    /// Whether somebody may come back to it.
    pub(super) fn stays(&self) -> bool {
        self.stays
    }

    pub(super) fn listener(&self) -> io::Result<&UnixListener> {
        self.listener.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Nobody can connect any more.
    pub(super) fn close(&mut self) {
        self.turn_away();
        if !self.stays {
            remove(&self.folder);
        }
    }

    /// Closes the socket. What those sent who were not let in goes with it, and that can take as long as they like.
    fn turn_away(&mut self) {
        if let Some(listener) = self.listener.take() {
            aside(move || drop(listener)).ok();
        }
    }

    /// Opens the socket. It may be there, left by a server that was killed.
    fn listen(&mut self) -> io::Result<()> {
        let folder: OwnedFd = rustix::fs::open(
            &self.folder,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        // A socket's path may have about a hundred bytes, and state folders have longer ones.
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.listener = Some(UnixListener::bind(&path)?);
        fs::set_permissions(&path, Permissions::from_mode(SOCKET_MODE))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.turn_away();
        if !self.stays {
            remove(&self.folder);
        }
    }
}

/// What cannot be removed now is removed by [`Rooms::retain`].
fn remove(folder: &Path) {
    drop(fs::remove_file(folder.with_extension(TOKEN)));
    drop(fs::remove_dir_all(folder));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_room_has_an_init_and_a_socket_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let rooms = Rooms::new(folder.path().join("a".repeat(120)));

        let room = rooms.make(Architecture::X86_64).unwrap();

        let path = room.folder().to_owned();
        let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(""), mode(BINARY), mode(SOCKET)), (ROOM_MODE, BINARY_MODE, SOCKET_MODE));
        drop(room);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_room_that_stays_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let rooms = Rooms::new(folder.path().join("rooms"));
        let mut room = rooms.make(Architecture::X86_64).unwrap();
        room.keep().unwrap();
        let (name, token) = (room.name().to_owned(), room.token());
        drop(room);

        let mut found = rooms.find(&name).unwrap();

        assert_eq!((found.token(), found.expected()), (token, token));
        assert!(found.folder().join(SOCKET).exists());
        assert!(rooms.find("../a").is_err());
        found.clear();
        drop(found);
        assert!(rooms.find(&name).is_err());
        assert_eq!(fs::read_dir(folder.path().join("rooms")).unwrap().count(), 1, "the init alone");
    }
}
