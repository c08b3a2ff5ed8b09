//! Removes recordings that are old enough, and the oldest where there are too many.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::config::Config;
use super::name::Name;
use super::repair::read_sidecar;
use super::store::{Folder, SIDECAR};
use super::totals::Totals;

/// From one look for recordings to remove to the next. One may so be kept for this much longer than was asked for.
const INTERVAL: Duration = Duration::from_mins(10);

/// A recording that is complete.
struct Kept {
    name: Name,
    files: Vec<String>,
    bytes: u64,
}

/// Looks at the start, whenever something else is to be kept, and now and then. Never ends.
pub(super) async fn run(mut kept: watch::Receiver<Option<(Folder, Config)>>, totals: Arc<Totals>) {
    loop {
        let now = kept.borrow_and_update().clone();
        if let Some((folder, config)) = now {
            let totals = Arc::clone(&totals);
            let swept = spawn_blocking(move || sweep(&folder, &config, SystemTime::now(), &totals)).await;
            if let Err(error) = swept.unwrap_or_else(|error| Err(io::Error::other(error))) {
                tracing::warn!(%error, "old recordings cannot be removed");
            }
        }
        tokio::select! {
            () = sleep(INTERVAL) => {}
            changed = kept.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
        }
    }
}

/// Removes what is not to be kept. Only recordings of this installation: others that share the folder have their own rules.
fn sweep(folder: &Folder, config: &Config, now: SystemTime, totals: &Totals) -> io::Result<()> {
    let (age, bytes_max) = (config.retention.unless_zero(), config.max_total_bytes.bytes());
    if age.is_none() && bytes_max == 0 {
        return Ok(());
    }
    let is_old = |name: &Name| {
        let lasted = name.started().and_then(|started| now.duration_since(started).ok());
        age.zip(lasted).is_some_and(|(age, lasted)| lasted > age)
    };
    // Names tell the age: where only that counts, the others need not be read.
    let kept = list(folder, |name| bytes_max > 0 || is_old(name))?;
    let mut total: u64 = kept.iter().map(|recording| recording.bytes).sum();
    for recording in kept {
        let is_too_much = bytes_max > 0 && total > bytes_max;
        if !is_old(&recording.name) && !is_too_much {
            // Names sort by time: what follows is younger.
            break;
        }
        for file in &recording.files {
            match fs::remove_file(folder.path().join(file)) {
                // Somebody was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        total = total.saturating_sub(recording.bytes);
        totals.remove();
    }
    Ok(())
}

/// The recordings of this installation that are `wanted`, the oldest first.
fn list(folder: &Folder, wanted: impl Fn(&Name) -> bool) -> io::Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder.path())? {
        let file = entry?.file_name();
        let Some((name, SIDECAR)) = file.to_str().and_then(Name::parse_file) else { continue };
        if !wanted(&name) {
            continue;
        }
        let path = folder.file(&name, SIDECAR);
        let Ok(sidecar) = read_sidecar(&path) else { continue };
        if sidecar.instance != folder.instance().as_str() {
            continue;
        }
        // The sidecar last: what is left of a removal that fails is found again.
        let files = [name.file("cast"), name.file("jsonl"), name.file(SIDECAR)];
        let present = files.into_iter().filter_map(|file| {
            let bytes = fs::symlink_metadata(folder.path().join(&file)).ok()?.len();
            Some((file, bytes))
        });
        let (files, sizes): (Vec<_>, Vec<_>) = present.unzip();
        kept.push(Kept { name, files, bytes: sizes.into_iter().sum() });
    }
    kept.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(kept)
}
