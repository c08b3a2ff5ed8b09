//! What is made in the container's file system for a listener, until it is removed again.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::BuildHasher as _;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::{env, iter};

/// Where a private folder may be: a root file system need not be writable. After these, the home folder.
const PARENTS: [&str; 3] = ["/tmp", "/dev/shm", "/run"];

/// Names that are tried in each.
const TRIES_MAX: usize = 10;

/// Characters of a name that nobody can guess, as OpenSSH has it.
const RANDOM_CHARACTERS: usize = 10;

/// A file, as it was made. It is removed when this is dropped, unless somebody has put another in its place.
#[derive(Debug)]
pub(crate) struct MadeFile {
    pub(crate) path: PathBuf,
    /// Device and number.
    inode: (u64, u64),
    /// It goes after the file.
    folder: Option<MadeFolder>,
}

/// A folder that only our user may enter. It is removed when this is dropped, if it is empty.
#[derive(Debug)]
pub(crate) struct MadeFolder(PathBuf);

impl MadeFile {
    /// Takes note of a file that was just made.
    pub(crate) fn new(path: PathBuf, folder: Option<MadeFolder>) -> io::Result<Self> {
        let inode = inode(&path)?;
        Ok(Self { path, inode, folder })
    }

    /// Writes a file that only our user may read.
    pub(crate) fn write(path: PathBuf, folder: MadeFolder, contents: &[u8]) -> io::Result<Self> {
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let made = Self::new(path, Some(folder))?;
        file.write_all(contents)?;
        Ok(made)
    }

    /// The folder, which was made for it, goes with it.
    pub(crate) fn keep_in(mut self, folder: MadeFolder) -> Self {
        self.folder = Some(folder);
        self
    }
}

impl MadeFolder {
    /// Makes one where that can be done and `then` succeeds in it; else the first complaint.
    pub(crate) fn make<T, E: From<io::Error>>(mut then: impl FnMut(Self) -> Result<T, E>) -> Result<T, E> {
        let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let mut complaint = None;
        for parent in PARENTS.iter().map(PathBuf::from).chain(home) {
            match Self::make_in(&parent).map_err(E::from).and_then(&mut then) {
                Ok(done) => return Ok(done),
                Err(error) => complaint = complaint.or(Some(error)),
            }
        }
        Err(complaint.unwrap_or_else(|| io::Error::from(ErrorKind::NotFound).into()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        let mut made = Err(ErrorKind::AlreadyExists.into());
        for _ in 0..TRIES_MAX {
            let path = parent.join(format!("ssh-{}", random_name()));
            made = DirBuilder::new().mode(0o700).create(&path).map(|()| Self(path));
            if !made.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists) {
                break;
            }
        }
        made
    }
}

impl Drop for MadeFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // Whoever has made it impossible has to live with the file.
            fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

impl Drop for MadeFolder {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).unwrap_or_default();
    }
}

/// Where a file is, for a frame.
pub(crate) fn bytes(path: &Path) -> &[u8] {
    OsStr::as_bytes(path.as_os_str())
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn random_name() -> String {
    const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // Its keys come from the kernel.
    let mut random = RandomState::new().hash_one(std::process::id());
    let base = CHARACTERS.len() as u64;
    let character = || {
        let at = usize::try_from(random % base).unwrap_or_default();
        random /= base;
        CHARACTERS.get(at).copied().map(char::from)
    };
    iter::repeat_with(character).take(RANDOM_CHARACTERS).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_removed() {
        let made = MadeFolder::make(|folder| {
            let path = folder.path().join("file");
            MadeFile::write(path, folder, b"secret")
        })
        .unwrap();
        let path = made.path.clone();
        assert_eq!(fs::read(&path).unwrap(), b"secret");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);

        drop(made);

        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn what_somebody_else_has_made_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "ours").unwrap();
        let made = MadeFile::new(path.clone(), None).unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "theirs").unwrap();
        fs::rename(&other, &path).unwrap();

        drop(made);

        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
    }

    #[test]
    fn the_first_place_that_will_do_is_taken() {
        let mut tries = 0;
        let path = MadeFolder::make(|folder| {
            tries += 1;
            let complaint = io::Error::from(ErrorKind::ReadOnlyFilesystem);
            if tries == 1 { Err(complaint) } else { Ok(folder.path().to_owned()) }
        });

        assert!(path.unwrap().starts_with("/dev/shm"));
    }

    #[test]
    fn names_are_as_openssh_has_them() {
        let names = [random_name(), random_name()];
        assert!(names.iter().all(|name| name.len() == 10), "{names:?}");
        assert_ne!(names[0], names[1]);
    }
}
