//! Lists of revoked keys as text: public keys one per line, and lines as in the input of `ssh-keygen -k`
//! (ssh-keygen(1), KEY REVOCATION LISTS).

use super::certificate::Certificate;
use super::revocation::{RevocationError, RevocationList};
use super::wire::{Reader, parse_fingerprint, parse_key, sha1, sha256};

/// Adds what the lines of `text` revoke to `list`. Numbers and names of certificates count for every authority.
///
/// # Errors
/// The first line that means nothing. It may have been meant to revoke somebody.
pub(super) fn parse(text: &str, list: &mut RevocationList) -> Result<(), RevocationError> {
    for (above, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |problem| RevocationError::Line { line: above + 1, problem };
        let (keyword, value) = match line.split_once(':') {
            Some((keyword, value)) if !keyword.contains(char::is_whitespace) => {
                (keyword.to_ascii_lowercase(), value.trim())
            }
            _ => ("key".to_owned(), line),
        };
        match keyword.as_str() {
            "serial" => {
                let (lowest, highest) = serials(without_comment(value))
                    .ok_or_else(|| at("expected a serial number over 0, or two with `-` between them"))?;
                list.add_serials(None, lowest, highest)?;
            }
            // To ssh-keygen a `#` begins a comment. In a name it may as well be part of it.
            "id" if value.is_empty() || value.contains('#') => {
                return Err(at(
                    "expected a key id, in which `#` cannot stand here; `ssh-keygen -k` can take it",
                ));
            }
            "id" => list.add_key_id(None, value.as_bytes())?,
            "key" => list.add_key(&key(value).ok_or_else(|| at("expected a public key"))?),
            "sha1" => list.add_sha1(sha1(&key(value).ok_or_else(|| at("expected a public key"))?)),
            "sha256" | "hash" => {
                let sum = fingerprint(value).or_else(|| key(value).map(|blob| sha256(&blob)));
                list.add_sha256(sum.ok_or_else(|| at("expected `SHA256:…` or a public key"))?);
            }
            _ => {
                return Err(at(
                    "expected a public key, or `serial:`, `id:`, `key:`, `sha1:`, `sha256:` or `hash:`",
                ));
            }
        }
    }
    Ok(())
}

/// A plain key. Of a certificate its key, so that no other certificate brings it back.
fn key(text: &str) -> Option<Vec<u8>> {
    let blob = parse_key(text)?;
    let is_certificate = Reader::new(&blob).text().is_some_and(|name| name.contains("-cert-v0"));
    if is_certificate { Some(Certificate::parse(&blob).ok()?.key.blob) } else { Some(blob) }
}

fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let text = without_comment(text);
    parse_fingerprint(text.strip_prefix("SHA256:").unwrap_or(text))
}

fn serials(text: &str) -> Option<(u64, u64)> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first.trim())?, number(last.trim())?),
        None => (number(text)?, number(text)?),
    };
    (first > 0 && first <= last).then_some((first, last))
}

/// As C writes them: `0x` for sixteens, `0` for eights, else tens.
fn number(text: &str) -> Option<u64> {
    let (digits, base) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, base).ok() }
}

fn without_comment(text: &str) -> &str {
    text.split('#').next().unwrap_or_default().trim()
}
