//! Public keys that are to be let in, from where people have them: their `~/.ssh`, a file, or a file as a code host
//! gives it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::auth::AuthorizedKeyLine;

/// As the server reads at a login, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Lines that cannot be used and are told of one by one.
const TOLD_MAX: usize = 5;

/// Lines that let somebody in.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) lines: Vec<String>,
    /// Where they are from.
    pub(super) places: Vec<String>,
    /// What was there and cannot be used, one sentence each.
    pub(super) passed_over: Vec<String>,
}

/// What a line may have besides a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Options as in sshd's `authorized_keys`: whoever wrote it is whoever runs the server.
    Options,
    /// A key alone: an option such as `cert-authority` can let others in.
    KeysAlone,
}

impl Keys {
    /// Those of a file, `-` for standard input.
    pub(super) fn of_file(file: &Path, trust: Trust) -> anyhow::Result<Self> {
        let place =
            if file == Path::new("-") { "standard input".into() } else { format!("`{}`", file.display()) };
        let text = read(file).with_context(|| format!("the keys in {place} cannot be read"))?;
        ensure!(
            !(text.contains("PRIVATE KEY-----") || text.starts_with("PuTTY-User-Key-File")),
            "{place} is a private key, which stays with its owner; name its public half, mostly {}.pub",
            file.display()
        );
        let mut keys = Self { places: vec![place.clone()], ..Self::default() };
        keys.take(&place, &text, trust);
        if keys.lines.is_empty() {
            let why = keys.passed_over.first().map_or_else(|| "it has no line".to_owned(), Clone::clone);
            bail!("no key in {place} can be used: {why}");
        }
        Ok(keys)
    }

    /// Those of the user who runs this.
    pub(super) fn of_home(home: Option<PathBuf>) -> anyhow::Result<Self> {
        let remedy = "make one by `ssh-keygen -t ed25519`, or name a file with --keys";
        let home = home.with_context(|| format!("there is no $HOME to look for public keys in; {remedy}"))?;
        let folder = home.join(".ssh");
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        // A certificate counts by whoever signed it, and its key is in a file of its own.
        files.retain(|file| is_named(file, ".pub") && !is_named(file, "-cert.pub"));
        files.sort();
        let mut keys = Self::default();
        for file in files {
            let place = format!("`{}`", file.display());
            let before = keys.lines.len();
            match read(&file) {
                Ok(text) => keys.take(&place, &text, Trust::KeysAlone),
                Err(error) => keys.passed_over.push(format!("{place}: {error:#}")),
            }
            if keys.lines.len() > before {
                keys.places.push(place);
            }
        }
        ensure!(!keys.lines.is_empty(), "there is no public key in `{}`; {remedy}", folder.display());
        Ok(keys)
    }

    fn take(&mut self, place: &str, text: &str, trust: Trust) {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match usable(line, trust) {
                Ok(()) => self.lines.push(line.to_owned()),
                Err(reason) => self.passed_over.push(format!("{place}, line {}: {reason}", index + 1)),
            }
        }
    }

    /// As a file that the server reads.
    pub(super) fn to_text(&self) -> String {
        let from = self.places.join(", ").replace(['`', '\n'], "");
        format!("# Public keys that may log in, one per line (from {from}).\n{}\n", self.lines.join("\n"))
    }

    /// What was passed over, for people: the first few, and how many more.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let more = self.passed_over.len().saturating_sub(TOLD_MAX);
        let more = (more > 0).then(|| format!("warning: {more} more lines were passed over"));
        self.passed_over.iter().take(TOLD_MAX).map(|told| format!("warning: passed over: {told}")).chain(more)
    }
}

fn usable(line: &str, trust: Trust) -> Result<(), String> {
    let first = line.split_whitespace().next().unwrap_or_default();
    if first.contains("-cert-v01@openssh.com") {
        return Err("a certificate, and not a key".to_owned());
    }
    line.parse::<AuthorizedKeyLine>()?;
    let kinds = ["ssh-", "ecdsa-", "sk-"];
    if trust == Trust::KeysAlone && !kinds.iter().any(|kind| first.starts_with(kind)) {
        return Err("options in front of a key do not count here".to_owned());
    }
    Ok(())
}

fn is_named(file: &Path, ending: &str) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ending))
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file)?)
    };
    source.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= FILE_BYTES_MAX, "it is larger than a file of keys can be (1 MiB)");
    String::from_utf8(bytes).context("it is not text")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOfDGk9gGFMLqYJE4R+hXGpGqQ5rj2Fq0V1rk0xDbq5o";

    fn of_text(text: &str, trust: Trust) -> anyhow::Result<Keys> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        std::fs::write(&file, text).unwrap();
        Keys::of_file(&file, trust)
    }

    #[test]
    fn options_count_where_the_file_is_the_owners_and_nowhere_else() {
        let text = format!("# ours\n\nno-pty {KEY} a\r\ncert-authority {KEY} b\n{KEY}\n");

        let own = of_text(&text, Trust::Options).unwrap();
        let anybodys = of_text(&text, Trust::KeysAlone).unwrap();

        assert_eq!(own.lines, [format!("no-pty {KEY} a"), format!("cert-authority {KEY} b"), KEY.to_owned()]);
        assert_eq!(anybodys.lines, [KEY]);
        let told: Vec<String> = anybodys.warnings().collect();
        assert!(told.len() == 2 && told[0].contains("line 3: options"), "{told:?}");
    }

    #[test]
    fn a_file_with_nothing_to_let_in_is_an_error_that_says_why() {
        let error = |text: &str| format!("{:#}", of_text(text, Trust::Options).unwrap_err());

        assert!(error("# none\n").contains("it has no line"));
        assert!(error("ssh-ed25519 nonsense\n").contains("line 1: expected a public key"));
        assert!(error("ssh-ed25519-cert-v01@openssh.com AAAA x").contains("a certificate"));
        assert!(error("-----BEGIN OPENSSH PRIVATE KEY-----\n").contains("is a private key"));
        assert!(error(&"x".repeat(2 << 20)).contains("larger"));
        let missing = Keys::of_file(Path::new("/nonexistent/keys"), Trust::Options).unwrap_err();
        assert!(format!("{missing:#}").contains("No such file"));
    }

    #[test]
    fn ones_own_keys_are_all_public_halves_that_are_no_certificates() {
        let home = tempfile::tempdir().unwrap();
        let ssh = home.path().join(".ssh");
        let of_home = || Keys::of_home(Some(home.path().to_owned()));
        assert!(format!("{:#}", of_home().unwrap_err()).contains("ssh-keygen"));
        std::fs::create_dir(&ssh).unwrap();
        assert!(of_home().is_err());
        for (name, text) in
            [("a.pub", "junk"), ("b.pub", KEY), ("b-cert.pub", "junk"), ("b", "junk"), ("known_hosts", KEY)]
        {
            std::fs::write(ssh.join(name), text).unwrap();
        }

        let keys = of_home().unwrap();

        assert_eq!(keys.lines, [KEY]);
        assert_eq!((keys.places.len(), keys.passed_over.len()), (1, 1));
        assert!(keys.to_text().contains("b.pub)") && keys.to_text().ends_with(&format!("{KEY}\n")));
        assert!(Keys::of_home(None).is_err());
    }
}
