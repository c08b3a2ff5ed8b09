//! A log file, which others rename, remove and fill the disk of.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::queue::Sink;

/// Its owner writes, its group reads: such as `adm`, where its folder says so.
const MODE: u32 = 0o640;

/// How often it is looked whether the file is still there: one that was removed takes lines and loses them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A log file.
pub(super) struct LogFile {
    path: PathBuf,
    /// Absent after it could not be opened.
    file: Option<File>,
    looked: Instant,
    /// Whether the last line may have been written in part.
    is_torn: bool,
}

impl LogFile {
    /// Opens it, or makes it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = Some(append_to(path)?);
        Ok(Self { path: path.to_owned(), file, looked: Instant::now(), is_torn: false })
    }

    /// Whether what is open is what has the name.
    fn is_in_place(&self) -> bool {
        let key = |found: std::fs::Metadata| (found.dev(), found.ino());
        let open = self.file.as_ref().and_then(|file| file.metadata().ok()).map(key);
        open.is_some() && open == std::fs::metadata(&self.path).ok().map(key)
    }

    fn current(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() || self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            if !self.is_in_place() {
                self.reopen()?;
            }
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Sink for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let is_torn = self.is_torn;
        let file = self.current()?;
        let written = if is_torn { file.write_all(b"\n") } else { Ok(()) };
        let written = written.and_then(|()| file.write_all(line));
        self.is_torn = written.is_err();
        written
    }

    fn reopen(&mut self) -> io::Result<()> {
        // Where it cannot be opened, what is written to the old one would be lost as well, and nobody would know.
        self.file = None;
        self.is_torn = false;
        self.looked = Instant::now();
        self.file = Some(append_to(&self.path)?);
        Ok(())
    }

    fn name(&self) -> String {
        format!("`{}`", self.path.display())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_renamed_file_gets_lines_until_it_is_opened_again_and_a_removed_one_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogFile::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);

        log.write(b"one\n").unwrap();
        std::fs::rename(&path, folder.path().join("log.1")).unwrap();
        log.write(b"two\n").unwrap();
        log.reopen().unwrap();
        log.write(b"three\n").unwrap();

        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!((read("log.1").as_str(), read("log").as_str()), ("one\ntwo\n", "three\n"));
        std::fs::remove_file(&path).unwrap();
        log.looked -= LOOK_EVERY;
        log.write(b"four\n").unwrap();
        assert_eq!(read("log"), "four\n");
    }

    #[test]
    fn a_folder_that_vanishes_is_an_error_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/log");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let mut log = LogFile::open(&path).unwrap();

        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        log.looked -= LOOK_EVERY;
        assert!(log.write(b"one\n").is_err());
        assert!(log.write(b"two\n").is_err());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        log.write(b"three\n").unwrap();

        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn after_a_full_disk_no_line_begins_in_the_middle_of_another() {
        let mut log = LogFile::open(Path::new("/dev/full")).unwrap();
        assert_eq!(log.write(b"one\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        let folder = tempfile::tempdir().unwrap();
        log.path = folder.path().join("log");
        log.file = Some(append_to(&log.path).unwrap());

        log.write(b"two\n").unwrap();

        assert_eq!(std::fs::read_to_string(&log.path).unwrap(), "\ntwo\n");
    }
}
