//! What an earlier run left unfinished, since it was killed or the machine went down, is closed at the start of the next.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::about::{Sidecar, written};
use super::name::Name;
use super::store::{Folder, SIDECAR};

/// Longest sidecar that is read, in bytes; a longer one is not ours.
pub(super) const SIDECAR_BYTES_MAX: u64 = 4 << 20;

/// A file is looked at from its end in steps of so many bytes.
const STEP_BYTES: usize = 64 << 10;

/// Closes what is left of recordings of this installation, and tells how many there were. Nothing may be recorded to the
/// folder yet. What cannot be closed stays for the next time.
pub(super) fn repair(folder: &Folder) -> io::Result<u64> {
    let mut left = BTreeMap::<Name, Option<String>>::new();
    for entry in fs::read_dir(folder.path())? {
        let file = entry?.file_name();
        let Some((name, suffix)) =
            file.to_str().and_then(|file| Name::parse_partial(file, folder.instance()))
        else {
            continue;
        };
        let recording = left.entry(name).or_default();
        if suffix == "cast" || suffix == "jsonl" {
            *recording = Some(suffix.to_owned());
        }
    }
    let mut repaired = 0;
    for (name, suffix) in left {
        match close(folder, &name, suffix.as_deref()) {
            Ok(()) => repaired += 1,
            Err(error) => {
                let file = name.file(SIDECAR);
                tracing::warn!(file, %error, "a recording that was interrupted cannot be closed");
            }
        }
    }
    Ok(repaired)
}

fn close(folder: &Folder, name: &Name, suffix: Option<&str>) -> io::Result<()> {
    drop(fs::remove_file(folder.partial(name, "new")));
    let mut sidecar = read_sidecar(&folder.partial(name, SIDECAR)).unwrap_or_else(|_| of_name(folder, name));
    if let Some(suffix) = suffix {
        let path = folder.partial(name, suffix);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let whole = whole_bytes(&file)?;
        file.set_len(whole)?;
        if sidecar.ended.is_none() {
            sidecar.interrupted = true;
            sidecar.bytes.recorded = whole;
            sidecar.ended = file.metadata()?.modified().ok().map(written);
        }
        sidecar.recording = (whole > 0).then(|| name.file(suffix));
        if whole > 0 {
            return folder.complete(name, suffix, &sidecar);
        }
        fs::remove_file(&path)?;
    } else {
        // It was never begun, or only the sidecar's name has not changed yet.
        let file = ["cast", "jsonl"].map(|suffix| name.file(suffix));
        sidecar.recording = file.into_iter().find(|file| folder.path().join(file).exists());
        sidecar.interrupted |= sidecar.ended.is_none();
    }
    folder.complete_sidecar(name, &sidecar)
}

/// Reads what lies beside a recording.
pub(super) fn read_sidecar(path: &Path) -> io::Result<Sidecar> {
    let mut json = Vec::new();
    File::open(path)?.take(SIDECAR_BYTES_MAX).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// All that is known where even that was not written to its end.
fn of_name(folder: &Folder, name: &Name) -> Sidecar {
    let (connection, session) = name.session().unwrap_or_default();
    Sidecar {
        version: 1,
        instance: folder.instance().to_string(),
        connection: connection.to_owned(),
        session,
        started: name.started().map(written).unwrap_or_default(),
        ..Sidecar::default()
    }
}

/// How many bytes there are up to the end of the last line that has one.
fn whole_bytes(mut file: &File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = vec![0; STEP_BYTES];
    while end > 0 {
        let start = end.saturating_sub(STEP_BYTES as u64);
        let length = usize::try_from(end - start).unwrap_or(STEP_BYTES).min(STEP_BYTES);
        let Some(part) = block.get_mut(..length) else { break };
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
