//! Public keys from files in the format of sshd's `authorized_keys` (sshd(8)).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use async_trait::async_trait;
use base64::Engine as _;
use tokio::io::AsyncReadExt;

use super::config::AuthorizedKeysFile;
use super::{Attempt, Authenticator, PublicKey, Verdict};
use crate::identity::Identity;

/// Largest file that we read at a login, in bytes; a larger one denies everybody and says so.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Looks keys up in a file, read anew at each attempt so that a change takes effect at once.
#[derive(Debug)]
pub struct AuthorizedKeys {
    file: Option<AuthorizedKeysFile>,
}

impl AuthorizedKeys {
    /// Without a file nobody comes in.
    #[must_use]
    pub fn new(file: Option<AuthorizedKeysFile>) -> Self {
        Self { file }
    }
}

#[async_trait]
impl Authenticator for AuthorizedKeys {
    async fn judge(&self, attempt: &Attempt) -> Verdict {
        let Attempt::PublicKey { username, key } = attempt;
        let Some(path) = self.file.as_ref().and_then(|file| file.of(username)) else { return Verdict::Deny };
        match read(&path).await {
            Ok(text) if find(&text, key, &path) => {
                let mut identity = Identity::proven(username.clone());
                identity.key_fingerprint = Some(key.fingerprint.clone());
                Verdict::Accept(Box::new(identity))
            }
            Ok(_) => Verdict::Deny,
            Err(error) => {
                // A missing file is the usual case where each user has one.
                if error.kind() == std::io::ErrorKind::NotFound {
                    tracing::debug!(path = %path.display(), "no keys");
                } else {
                    tracing::warn!(path = %path.display(), %error, "cannot use the authorized keys file");
                }
                Verdict::Deny
            }
        }
    }
}

async fn read(path: &Path) -> std::io::Result<String> {
    let file = tokio::fs::File::open(path).await?;
    let metadata = file.metadata().await?;
    if metadata.permissions().mode() & 0o002 != 0 {
        return Err(std::io::Error::other("everybody on this machine may write it; run `chmod o-w` on it"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).await?;
    // A comment in another encoding must not keep everybody out.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The first line with the key decides, as at sshd.
fn find(text: &str, key: &PublicKey, path: &Path) -> bool {
    let mut lines = text.lines().enumerate();
    let found = lines.find_map(|(index, line)| match parse(line) {
        Line::Key { blob, restricted } if blob == key.blob => Some((index + 1, restricted)),
        Line::Key { .. } | Line::Other => None,
    });
    match found {
        Some((line, true)) => {
            // A restriction that is not enforced must not be taken for one that is.
            tracing::warn!(path = %path.display(), line, "a key with options is not accepted yet");
            false
        }
        Some((_, false)) => true,
        None => false,
    }
}

enum Line {
    Key { blob: Vec<u8>, restricted: bool },
    Other,
}

/// `[options] type base64 [comment]`; whatever else stands there grants nothing.
fn parse(line: &str) -> Line {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Line::Other;
    }
    if let Some(blob) = parse_key(line) {
        return Line::Key { blob, restricted: false };
    }
    match parse_key(after_options(line)) {
        Some(blob) => Line::Key { blob, restricted: true },
        None => Line::Other,
    }
}

fn parse_key(text: &str) -> Option<Vec<u8>> {
    let mut words = text.split_whitespace();
    let algorithm = words.next()?;
    let blob = base64::engine::general_purpose::STANDARD.decode(words.next()?).ok()?;
    // The blob begins with the algorithm's name as an SSH string; a line that disagrees with itself is broken.
    let (length, rest) = blob.split_first_chunk::<4>()?;
    let named = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    (named == algorithm.as_bytes()).then_some(blob)
}

/// Skips the options, in which double quotes protect spaces and `\"` stands for a quote.
fn after_options(line: &str) -> &str {
    let mut quoted = false;
    let mut escaped = false;
    for (at, letter) in line.char_indices() {
        match letter {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => return line.get(at..).unwrap_or_default().trim_start(),
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Username;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOfDGk9gGFMLqYJE4R+hXGpGqQ5rj2Fq0V1rk0xDbq5o";

    fn key() -> PublicKey {
        PublicKey { blob: parse_key(KEY).unwrap(), fingerprint: "SHA256:test".to_owned() }
    }

    fn finds(text: &str) -> bool {
        find(text, &key(), Path::new("authorized_keys"))
    }

    async fn judge(keys: &AuthorizedKeys, user: &str) -> Verdict {
        let username = Username::parse(user).unwrap();
        keys.judge(&Attempt::PublicKey { username, key: key() }).await
    }

    #[test]
    fn a_key_is_found_among_comments_and_blank_lines() {
        assert!(finds(&format!("# ours\n\n{KEY} alice@laptop\n")));
        assert!(finds(&format!("  {KEY}")));
        assert!(!finds(&format!("#{KEY}\n")));
        assert!(!finds(""));
    }

    #[test]
    fn a_key_with_options_grants_nothing_while_options_are_not_enforced() {
        let restricted = format!("restrict,command=\"echo \\\"no\\\" more\" {KEY}\n");
        assert!(!finds(&restricted));
        assert!(!finds(&format!("{restricted}{KEY}\n")), "the first line decides");
    }

    #[test]
    fn a_line_that_disagrees_with_itself_grants_nothing() {
        assert!(!finds(&KEY.replacen("ssh-ed25519", "ssh-rsa", 1)));
        assert!(!finds("ssh-ed25519 !!!!"));
        assert!(!finds("ssh-ed25519"));
    }

    /// A1
    #[tokio::test]
    async fn a_file_per_user_lets_in_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("alice"), KEY).unwrap();
        let keys = AuthorizedKeys::new(format!("{}/%u", folder.path().display()).parse().ok());

        assert!(matches!(judge(&keys, "alice").await, Verdict::Accept(_)));
        assert!(matches!(judge(&keys, "bob").await, Verdict::Deny));
        assert!(matches!(judge(&keys, "../alice").await, Verdict::Deny));
    }

    #[tokio::test]
    async fn a_comment_in_another_encoding_keeps_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, [b"# J\xf6rg\n", KEY.as_bytes()].concat()).unwrap();

        let keys = AuthorizedKeys::new(path.display().to_string().parse().ok());

        assert!(matches!(judge(&keys, "alice").await, Verdict::Accept(_)));
    }

    #[tokio::test]
    async fn nobody_comes_in_without_a_file_or_by_one_that_all_may_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, KEY).unwrap();
        let keys = AuthorizedKeys::new(path.display().to_string().parse().ok());

        assert!(matches!(judge(&keys, "alice").await, Verdict::Accept(_)));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(judge(&keys, "alice").await, Verdict::Deny));
        assert!(matches!(judge(&AuthorizedKeys::new(None), "alice").await, Verdict::Deny));
    }
}
