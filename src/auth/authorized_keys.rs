//! Public keys from files in the format of sshd's `authorized_keys` (sshd(8)), read anew at each attempt so that a
//! change takes effect at once.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::config::AuthorizedKeysFile;
use super::file;
use super::key_lines::{
    AuthorityLine, AuthorizedKeyLine, Look, Reason, find_authorities, find_key, has_authorities,
};
use super::key_options::{Circumstances, KeyOptions};
use super::revocation::RevokedKeys;
use crate::ids::Username;

/// Largest file that we read at a login, in bytes; a larger one denies everybody and says so.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the log calls the lines of the configuration.
const INLINE: &str = "`authorizedKeys` in the configuration";

/// Looks keys up in a file, and in lines of the configuration.
#[derive(Debug)]
pub struct AuthorizedKeys {
    file: Option<AuthorizedKeysFile>,
    revoked: Arc<RevokedKeys>,
}

impl AuthorizedKeys {
    /// Without a file only lines of the configuration let anybody in.
    #[must_use]
    pub fn new(file: Option<AuthorizedKeysFile>) -> Self {
        Self { file, revoked: Arc::default() }
    }

    /// Keeps out the keys that are revoked, wherever they are listed.
    #[must_use]
    pub fn without(self, revoked: Arc<RevokedKeys>) -> Self {
        Self { revoked, ..self }
    }

    /// What this key is granted: the options of the first line that counts, of `inline` before the file. `None`: the
    /// key lets nobody in, because no line has it, it is weak, or it is revoked. The log says why.
    pub async fn find(
        &self,
        username: &Username,
        blob: &[u8],
        inline: &[AuthorizedKeyLine],
        circumstances: Circumstances,
    ) -> Option<KeyOptions> {
        let key = blob.to_owned();
        let look = move |lines: &[&str]| find_key(lines.iter().copied(), &key, &circumstances);
        let looks = self.look(username, inline, look).await;
        let granted = looks.into_iter().find_map(|(_, look)| look.found)?;
        if let Err(weak) = super::wire::check_strength(blob) {
            tracing::warn!(%username, %weak, "a key that is listed does not count");
            return None;
        }
        match self.revoked.check_key(blob).await {
            Ok(()) => Some(granted),
            Err(denied) => {
                tracing::warn!(%username, %denied, "a key that is listed does not count");
                None
            }
        }
    }

    /// Where this key is made an authority over the user's certificates, each with the place for the log.
    pub async fn authorities(
        &self,
        username: &Username,
        ca_blob: &[u8],
        inline: &[AuthorizedKeyLine],
    ) -> Vec<(String, AuthorityLine)> {
        let ca = ca_blob.to_owned();
        let looks = self
            .look(username, inline, move |lines: &[&str]| find_authorities(lines.iter().copied(), &ca))
            .await;
        let named = looks.into_iter().flat_map(|(place, look)| {
            look.found.into_iter().map(move |line| (format!("{place}:{}", line.line), line))
        });
        named.collect()
    }

    /// Whether the user's lines name any authority at all.
    pub async fn has_authorities(&self, username: &Username, inline: &[AuthorizedKeyLine]) -> bool {
        let look =
            |lines: &[&str]| Look { found: has_authorities(lines.iter().copied()), passed_over: Vec::new() };
        self.look(username, inline, look).await.iter().any(|(_, look)| look.found)
    }

    /// Looks through the lines of the configuration and then the user's file, off the event loop.
    async fn look<T: Send + 'static>(
        &self,
        username: &Username,
        inline: &[AuthorizedKeyLine],
        look: impl Fn(&[&str]) -> Look<T> + Send + 'static,
    ) -> Vec<(String, Look<T>)> {
        let path = self.file.as_ref().and_then(|file| file.of(username));
        let inline = inline.to_vec();
        let looks = file::off_loop(move || {
            let lines: Vec<_> = inline.iter().map(AuthorizedKeyLine::as_str).collect();
            let mut looks = vec![(INLINE.to_owned(), look(&lines))];
            if let Some(path) = path
                && let Some(text) = read(&path)
            {
                let lines: Vec<_> = text.lines().collect();
                looks.push((path.display().to_string(), look(&lines)));
            }
            looks
        });
        let looks = looks.await.unwrap_or_default();
        for (place, look) in &looks {
            tell(place, look);
        }
        looks
    }
}

fn read(path: &Path) -> Option<String> {
    match file::read_text(path, FILE_BYTES_MAX) {
        Ok(text) => Some(text),
        // The usual case where each user has one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), "no keys");
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot use the authorized keys file");
            None
        }
    }
}

fn tell<T>(place: &str, look: &Look<T>) {
    for passed_over in &look.passed_over {
        let (line, reason) = (passed_over.line, &passed_over.reason);
        match reason {
            Reason::Refused(_) => {
                tracing::info!(file = place, line, %reason, "a line with the key does not count");
            }
            Reason::Options(_) | Reason::Unreadable => {
                tracing::warn!(file = place, line, %reason, "a line with the key lets nobody in");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    use super::*;
    use crate::auth::wire::parse_key;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOfDGk9gGFMLqYJE4R+hXGpGqQ5rj2Fq0V1rk0xDbq5o";

    async fn judge(keys: &AuthorizedKeys, user: &str) -> Option<KeyOptions> {
        let username = Username::parse(user).unwrap();
        let circumstances = Circumstances { source: "192.0.2.1".parse().unwrap(), now: SystemTime::now() };
        keys.find(&username, &parse_key(KEY).unwrap(), &[], circumstances).await
    }

    fn keys_in(path: &Path) -> AuthorizedKeys {
        AuthorizedKeys::new(path.display().to_string().parse().ok())
    }

    /// A1
    #[tokio::test]
    async fn a_file_per_user_lets_in_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("alice"), KEY).unwrap();
        let keys = keys_in(&folder.path().join("%u"));

        assert!(judge(&keys, "alice").await.is_some());
        assert!(judge(&keys, "bob").await.is_none());
        assert!(judge(&keys, "../alice").await.is_none());
    }

    /// A2
    #[tokio::test]
    async fn what_a_line_says_becomes_part_of_the_identity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, format!("no-pty,environment=\"A=1\",from=\"192.0.2.0/24\" {KEY}")).unwrap();

        let granted = judge(&keys_in(&path), "alice").await.unwrap();

        assert!(granted.restrictions.no_terminal);
        assert_eq!(granted.environment, [("A".to_owned(), "1".to_owned())]);
        std::fs::write(&path, format!("from=\"198.51.100.0/24\" {KEY}")).unwrap();
        assert!(judge(&keys_in(&path), "alice").await.is_none());
    }

    /// A2
    #[tokio::test]
    async fn lines_of_the_configuration_count_as_those_of_a_file_do() {
        let keys = AuthorizedKeys::new(None);
        let user = Username::parse("alice").unwrap();
        let circumstances = Circumstances { source: "192.0.2.1".parse().unwrap(), now: SystemTime::now() };
        let inline =
            [format!("no-pty {KEY}").parse().unwrap(), format!("cert-authority {KEY}").parse().unwrap()];
        let blob = parse_key(KEY).unwrap();

        let granted = keys.find(&user, &blob, &inline, circumstances).await.unwrap();
        let authorities = keys.authorities(&user, &blob, &inline).await;

        assert!(granted.restrictions.no_terminal);
        assert_eq!(authorities.len(), 1);
        assert_eq!(authorities[0].0, "`authorizedKeys` in the configuration:2");
    }

    /// A4
    #[tokio::test]
    async fn a_revoked_key_stays_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, KEY).unwrap();
        let keys = keys_in(&path).without(Arc::new(RevokedKeys::new(Some(path.clone()))));

        assert!(judge(&keys, "alice").await.is_none());
    }

    #[tokio::test]
    async fn a_comment_in_another_encoding_keeps_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, [b"# J\xf6rg\n", KEY.as_bytes()].concat()).unwrap();

        assert!(judge(&keys_in(&path), "alice").await.is_some());
    }

    #[tokio::test]
    async fn nobody_comes_in_without_a_file_or_by_one_that_cannot_be_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, KEY).unwrap();

        assert!(judge(&keys_in(&path), "alice").await.is_some());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(judge(&keys_in(&path), "alice").await.is_none());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let large = format!("{KEY}\n{}", "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap()));
        std::fs::write(&path, large).unwrap();
        assert!(judge(&keys_in(&path), "alice").await.is_none());
        assert!(judge(&keys_in(folder.path()), "alice").await.is_none());
        assert!(judge(&AuthorizedKeys::new(None), "alice").await.is_none());
    }
}
