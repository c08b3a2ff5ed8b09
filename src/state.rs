//! The state folder: what has to outlive the process, and a lock so that one process at a time uses it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context;

use crate::ids::InstanceId;

/// Holds this installation's id. Kept, so that a later run knows its predecessor's containers.
const INSTANCE_FILE: &str = "instance-id";
/// Locked while a server runs.
const LOCK_FILE: &str = "lock";

/// An opened and locked state folder.
#[derive(Debug)]
pub struct StateDir {
    instance: InstanceId,
    _lock: File,
}

impl StateDir {
    /// Opens the folder; makes it, and the id, at the first start.
    ///
    /// # Errors
    /// It cannot be made or written, another server uses it, or the id in it is not one of ours.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).context("cannot make it")?;
        let lock = File::create(folder.join(LOCK_FILE)).context("cannot write in it")?;
        lock.try_lock().context("another server uses it; give each its own `stateDir`")?;
        let instance = read_or_make_id(&folder.join(INSTANCE_FILE))?;
        Ok(Self { instance, _lock: lock })
    }

    /// This installation's id.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }
}

fn read_or_make_id(path: &Path) -> anyhow::Result<InstanceId> {
    match fs::read_to_string(path) {
        Ok(text) => InstanceId::parse(text.trim())
            .with_context(|| format!("`{}` holds no id; remove it for a new one", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = InstanceId::random();
            // Written aside and renamed: half an id would orphan the containers of this run.
            let aside = path.with_extension("new");
            let mut file = File::create(&aside).context("cannot write in it")?;
            file.write_all(format!("{id}\n").as_bytes()).context("cannot write in it")?;
            file.sync_all().context("cannot write in it")?;
            fs::rename(&aside, path).context("cannot write in it")?;
            Ok(id)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_outlives_the_process_and_only_one_server_uses_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");

        let first = StateDir::open(&path).unwrap();
        let id = first.instance().clone();
        let second = StateDir::open(&path);
        assert!(format!("{:#}", second.unwrap_err()).contains("another server"));
        drop(first);

        assert_eq!(StateDir::open(&path).unwrap().instance(), &id);
    }

    #[test]
    fn a_broken_id_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(INSTANCE_FILE), "nonsense").unwrap();

        let error = format!("{:#}", StateDir::open(folder.path()).unwrap_err());

        assert!(error.contains("remove it"), "{error}");
    }
}
