//! Files that matter: who may read what is secret, and who may write what is believed.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Report;
use crate::config::Config;
use crate::engine::docker::{Endpoint, Proof};
use crate::hook::config::{MethodConfig, WebhookConfig};
use crate::ssh::hostkey;
use crate::value::Pem;

/// Files of one folder that are looked at.
const FILES_MAX: usize = 10_000;

/// What generated host keys are called in the state folder: this, a kind, `_key`.
const HOST_KEY_PREFIX: &str = "ssh_host_";

/// What must not be done to a file by others than its owner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// Read or written: it holds a secret.
    Entirely,
    /// Written: what is in it decides something.
    ToWriters,
}

pub(super) fn examine(config: &Config, file: Option<&Path>, report: &mut Report) {
    if let Some(file) = file {
        let closed = if has_secrets(config) { Closed::Entirely } else { Closed::ToWriters };
        one("configuration", file, closed, report);
    }
    state_folder(&config.state_dir, report);
    host_keys(config, report);
    authorized_keys(config, report);
    proofs(config, report);
    for (pem, closed) in [
        (&config.docker.cacert, Closed::ToWriters),
        (&config.docker.cert, Closed::ToWriters),
        (&config.docker.key, Closed::Entirely),
    ] {
        if let Pem::File(path) = pem {
            one("engine", path, closed, report);
        }
    }
    for login in config.docker.registries.values() {
        if let Proof::PasswordFile(path) = &login.proof {
            one("registry", path, Closed::Entirely, report);
        }
    }
    for hook in hooks(config) {
        for (pem, closed) in [
            (&hook.cacert, Closed::ToWriters),
            (&hook.cert, Closed::ToWriters),
            (&hook.key, Closed::Entirely),
        ] {
            if let Pem::File(path) = pem {
                one("web hook", path, closed, report);
            }
        }
    }
    if let Endpoint::Unix(path) = &config.docker.host {
        socket(path, report);
    }
}

/// Whether the file itself has what others must not read.
fn has_secrets(config: &Config) -> bool {
    let logins = config.docker.registries.values();
    matches!(config.docker.key, Pem::Text(_))
        || hooks(config).iter().any(|hook| matches!(hook.key, Pem::Text(_)))
        || config.auth.users.values().any(|user| user.password_hash.is_some())
        || logins.into_iter().any(|login| !matches!(login.proof, Proof::PasswordFile(_)))
}

/// The web services that are asked.
fn hooks(config: &Config) -> Vec<&WebhookConfig> {
    let auth = &config.auth;
    let of_logins =
        [&auth.password, &auth.public_key, &auth.authz].into_iter().filter_map(MethodConfig::hook);
    of_logins.chain(config.configserver.url.is_set().then_some(&config.configserver)).collect()
}

/// What decides who comes in besides keys.
fn proofs(config: &Config, report: &mut Report) {
    let certificates = &config.auth.certificates;
    for path in &certificates.trusted_cas {
        one("certificate authority", path, Closed::ToWriters, report);
    }
    if let Some(path) = &certificates.revoked_keys {
        one("revoked keys", path, Closed::ToWriters, report);
    }
    for path in config.auth.users.values().filter_map(|user| user.totp_file.as_ref()) {
        one("one-time passwords", path, Closed::Entirely, report);
    }
}

fn state_folder(folder: &Path, report: &mut Report) {
    let about = "state folder";
    match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report.ok(about, format!("`{}` is not there yet; the first start makes it", folder.display()));
        }
        Ok(found) if !found.is_dir() => {
            report.problem(about, format!("`{}` is no folder; name another in `stateDir`", folder.display()));
        }
        found => judge(about, folder, &found, Closed::ToWriters, report),
    }
}

fn host_keys(config: &Config, report: &mut Report) {
    let about = "host key";
    if !config.ssh.host_keys.is_empty() {
        match hostkey::load(&config.ssh, &config.state_dir) {
            Ok(keys) => {
                for key in &keys {
                    report.ok(about, format!("{} is closed to others", hostkey::fingerprint(key)));
                }
            }
            Err(error) => report.problem(about, error.to_string()),
        }
        return;
    }
    let generated = files_in(&config.state_dir).into_iter().filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(HOST_KEY_PREFIX) && name.ends_with("_key")
    });
    let generated: Vec<_> = generated.collect();
    if generated.is_empty() {
        report.ok(about, "none yet; the first start makes one in the state folder");
    }
    for path in generated {
        one(about, &path, Closed::Entirely, report);
    }
}

/// Whoever can write them decides who comes in.
fn authorized_keys(config: &Config, report: &mut Report) {
    let about = "authorized keys";
    let Some(pattern) = &config.auth.authorized_keys_file else { return };
    let pattern = pattern.to_string().replace("%%", "%");
    let Some((before, _)) = pattern.split_once("%u") else {
        return one(about, Path::new(&pattern), Closed::ToWriters, report);
    };
    let folder = Path::new(before.rsplit_once('/').map_or(".", |(folder, _)| folder));
    let found = fs::metadata(folder);
    let is_there = found.is_ok();
    judge(about, folder, &found, Closed::ToWriters, report);
    for path in files_in(folder).into_iter().filter(|_| is_there) {
        if let Some(complaint) = complaint(&path, &fs::metadata(&path), Closed::ToWriters) {
            report.problem(about, complaint);
        }
    }
}

fn socket(path: &Path, report: &mut Report) {
    let about = "engine socket";
    let found = match fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => found,
        Ok(_) => return report.problem(about, format!("`{}` is no socket", path.display())),
        // What is not there is told by the one who tries to use it.
        Err(_) => return,
    };
    let (path, mode) = (path.display(), found.mode() & 0o777);
    if mode & 0o002 != 0 {
        let fix = format!("`chmod 660 {path}`, and see what its service sets");
        let text = format!("`{path}` (mode {mode:04o}) makes everybody on this machine root; run {fix}");
        report.problem(about, text);
    } else if mode & 0o020 != 0 && found.gid() != 0 {
        let group = group_name(found.gid()).unwrap_or_else(|| found.gid().to_string());
        let text = format!(
            "`{path}` is open to group `{group}`: whoever is in it is as good as root on this machine"
        );
        report.ok(about, text);
    } else {
        report.ok(about, format!("`{path}` is closed to others (mode {mode:04o})"));
    }
}

fn one(about: &'static str, path: &Path, closed: Closed, report: &mut Report) {
    judge(about, path, &fs::metadata(path), closed, report);
}

fn judge(
    about: &'static str,
    path: &Path,
    found: &io::Result<Metadata>,
    closed: Closed,
    report: &mut Report,
) {
    if let Some(complaint) = complaint(path, found, closed) {
        return report.problem(about, complaint);
    }
    let what = if closed == Closed::Entirely { "closed to others" } else { "not written by others" };
    report.ok(about, format!("`{}` is {what}", path.display()));
}

/// What is wrong with a file, and what to do about it.
fn complaint(path: &Path, found: &io::Result<Metadata>, closed: Closed) -> Option<String> {
    let found = match found {
        Ok(found) => found,
        Err(error) => return Some(format!("`{}` cannot be used: {error}", path.display())),
    };
    let path = path.display();
    let (mode, owner, ours) = (found.mode() & 0o7777, found.uid(), rustix::process::geteuid().as_raw());
    if owner != 0 && owner != ours {
        let text = format!(
            "`{path}` belongs to user {owner}, who can do with it what they like; `chown root {path}`"
        );
        return Some(text);
    }
    if closed == Closed::Entirely && mode & 0o077 != 0 {
        return Some(format!(
            "`{path}` holds a secret and is open to others (mode {mode:04o}); `chmod 600 {path}`"
        ));
    }
    (mode & 0o022 != 0)
        .then(|| format!("`{path}` can be written by others (mode {mode:04o}); `chmod go-w {path}`"))
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).take(FILES_MAX).collect();
    files.sort();
    files
}

fn group_name(gid: u32) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.split(':').nth(2) == Some(&gid.to_string()))?;
    line.split(':').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_open_to_others_is_a_complaint_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "").unwrap();
        let with_mode = |mode, closed| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            complaint(&path, &fs::metadata(&path), closed)
        };

        assert_eq!(with_mode(0o600, Closed::Entirely), None);
        assert_eq!(with_mode(0o644, Closed::ToWriters), None);
        assert!(with_mode(0o640, Closed::Entirely).is_some_and(|text| text.contains("chmod 600")));
        assert!(with_mode(0o664, Closed::ToWriters).is_some_and(|text| text.contains("mode 0664")));
        let none = folder.path().join("none");
        assert!(complaint(&none, &fs::metadata(&none), Closed::ToWriters).is_some());
    }
}
