//! The folder of recordings: files appear in it complete, by a change of their names.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::about::Sidecar;
use super::name::Name;
use crate::ids::InstanceId;

/// Suffix of what lies beside a recording.
pub(super) const SIDECAR: &str = "json";

/// Of our files: recordings are for whoever runs the server.
const FILE_MODE: u32 = 0o600;

/// Of the folder, where we make it.
const FOLDER_MODE: u32 = 0o700;

/// Where lines of a recording go. A file; a double in tests.
pub(super) trait Sink: Send {
    /// Appends whole lines, all of them or none.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Lets the recording appear, with what is known of it. Called once, at the end.
    fn complete(&mut self, sidecar: &Sidecar) -> io::Result<()>;
}

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    instance: InstanceId,
}

/// A recording that is being written.
#[derive(Debug)]
pub(super) struct Draft {
    folder: Folder,
    name: Name,
    suffix: &'static str,
    file: File,
    /// Bytes of the lines that are whole.
    whole: u64,
}

impl Folder {
    /// Takes a folder, and makes it if need be.
    pub(super) fn open(path: &Path, instance: &InstanceId) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
        let folder = Self { path: path.to_owned(), instance: instance.clone() };
        // What cannot be written is better known now than when somebody is to be recorded.
        let probe = folder.path.join(format!(".{instance}.probe"));
        // One that a killed server has left says nothing.
        drop(fs::remove_file(&probe));
        drop(create_anew(&probe)?);
        fs::remove_file(&probe)?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn instance(&self) -> &InstanceId {
        &self.instance
    }

    pub(super) fn file(&self, name: &Name, suffix: &str) -> PathBuf {
        self.path.join(name.file(suffix))
    }

    pub(super) fn partial(&self, name: &Name, suffix: &str) -> PathBuf {
        self.path.join(name.partial(&self.instance, suffix))
    }

    /// Begins a recording.
    pub(super) fn begin(&self, name: &Name, suffix: &'static str, sidecar: &Sidecar) -> io::Result<Draft> {
        self.write_sidecar(name, sidecar)?;
        let options = OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).to_owned();
        let file = options.open(self.partial(name, suffix))?;
        Ok(Draft { folder: self.clone(), name: name.clone(), suffix, file, whole: 0 })
    }

    /// Nothing came of it. What cannot be removed is completed by the next start.
    pub(super) fn discard(&self, name: &Name, suffix: &str) {
        for suffix in ["new", SIDECAR, suffix] {
            drop(fs::remove_file(self.partial(name, suffix)));
        }
    }

    /// Lets both appear. The sidecar comes last: what has one is complete.
    pub(super) fn complete(&self, name: &Name, suffix: &str, sidecar: &Sidecar) -> io::Result<()> {
        self.write_sidecar(name, sidecar)?;
        fs::rename(self.partial(name, suffix), self.file(name, suffix))?;
        fs::rename(self.partial(name, SIDECAR), self.file(name, SIDECAR))
    }

    /// The same where the recording itself is there already, or nothing of it is.
    pub(super) fn complete_sidecar(&self, name: &Name, sidecar: &Sidecar) -> io::Result<()> {
        self.write_sidecar(name, sidecar)?;
        fs::rename(self.partial(name, SIDECAR), self.file(name, SIDECAR))
    }

    /// Written aside, so that there is a whole one at any time.
    fn write_sidecar(&self, name: &Name, sidecar: &Sidecar) -> io::Result<()> {
        let aside = self.partial(name, "new");
        drop(fs::remove_file(&aside));
        let mut file = create_anew(&aside)?;
        file.write_all(&sidecar.json())?;
        file.sync_data()?;
        fs::rename(&aside, self.partial(name, SIDECAR))
    }
}

impl Sink for Draft {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match self.file.write_all(lines) {
            Ok(()) => self.whole += lines.len() as u64,
            Err(error) => {
                // A full disk may have taken the beginning of them.
                self.file.set_len(self.whole)?;
                return Err(error);
            }
        }
        Ok(())
    }

    fn complete(&mut self, sidecar: &Sidecar) -> io::Result<()> {
        self.file.sync_data()?;
        self.folder.complete(&self.name, self.suffix, sidecar)
    }
}

fn create_anew(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}
