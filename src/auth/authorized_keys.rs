//! Public keys from files in the format of sshd's `authorized_keys` (sshd(8)).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use tokio::io::AsyncReadExt;

use super::PublicKey;
use super::config::AuthorizedKeysFile;
use crate::ids::Username;

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

impl AuthorizedKeys {
    /// Whether this key lets this user in.
    pub async fn find(&self, username: &Username, key: &PublicKey) -> bool {
        let Some(path) = self.file.as_ref().and_then(|file| file.of(username)) else { return false };
        match read(&path).await {
            Ok(text) => find(&text, key, &path),
            Err(_) => false,
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
