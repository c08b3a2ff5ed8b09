//! Records in a file that is only ever added to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::queue::Line;
use super::writer::Place;

/// Written at a time.
const BATCH_BYTES: usize = 256 << 10;

/// A file of records, for its owner alone to read where it is we who make it.
#[derive(Debug)]
pub(super) struct RecordFile {
    path: PathBuf,
    file: File,
    /// The last line in it has no end.
    is_torn: bool,
    is_dirty: bool,
}

impl RecordFile {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (file, is_torn) = open(path)?;
        Ok(Self { path: path.to_owned(), file, is_torn, is_dirty: false })
    }
}

impl Place for RecordFile {
    fn append(&mut self, lines: &[Line]) -> (usize, io::Result<()>) {
        // Half a line of a killed or failed write keeps to itself; it comes again as a whole.
        let mut bytes = if self.is_torn { b"\n".to_vec() } else { Vec::new() };
        let before = bytes.len();
        for line in lines {
            bytes.extend_from_slice(&line.text);
        }
        let mut taken = 0;
        let outcome = loop {
            let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) else { break Ok(()) };
            match self.file.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.is_dirty |= taken > 0;
        if taken > 0 {
            self.is_torn = bytes.get(taken - 1) != Some(&b'\n');
        }
        let mut end = before;
        let is_whole = |line: &&Line| {
            end += line.text.len();
            end <= taken
        };
        (lines.iter().take_while(is_whole).count(), outcome)
    }

    fn room(&self) -> usize {
        BATCH_BYTES
    }

    fn sync(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_dirty) {
            return Ok(());
        }
        match self.file.sync_data() {
            // No file of a disk: a pipe, a device.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            outcome => outcome,
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.sync()?;
        (self.file, self.is_torn) = open(&self.path)?;
        Ok(())
    }
}

/// The file, and whether its last line has no end.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let is_torn = file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 && {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        last != *b"\n"
    };
    Ok((file, is_torn))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { seq: 1, text: text.as_bytes().into() }
    }

    #[test]
    fn half_a_line_of_a_run_before_keeps_to_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "one\ntw").unwrap();

        let (count, outcome) = RecordFile::open(&path).unwrap().append(&[line("two\n"), line("three\n")]);

        assert!(outcome.is_ok() && count == 2);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "one\ntw\ntwo\nthree\n");
    }

    #[test]
    fn a_new_file_is_its_owners_and_what_was_moved_away_is_begun_anew() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.1"));
        let mut file = RecordFile::open(&path).unwrap();
        file.append(&[line("one\n")]).1.unwrap();

        std::fs::rename(&path, &aside).unwrap();
        file.reopen().unwrap();
        file.append(&[line("two\n")]).1.unwrap();

        assert_eq!(std::fs::read_to_string(&aside).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_full_disk_is_an_error_and_takes_nothing() {
        let mut file = RecordFile::open(Path::new("/dev/full")).unwrap();

        let (count, outcome) = file.append(&[line("one\n")]);

        assert_eq!((count, outcome.unwrap_err().kind()), (0, io::ErrorKind::StorageFull));
    }
}
