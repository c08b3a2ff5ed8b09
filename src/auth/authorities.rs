//! Whom we trust to vouch for users: the files behind [`judge`], read anew at each attempt so that a change takes
//! effect at once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::authorized_keys::AuthorizedKeys;
use super::certificate::{Certificate, CertificateDenied, CertificateGrant, Principal, Trust, judge};
use super::config::CertificatesConfig;
use super::file;
use super::key_lines::{AuthorizedKeyLine, Look, Reason, note};
use super::key_options::{Circumstances, KeyOptions, OptionError};
use super::revocation::RevokedKeys;
use super::wire::{base64_of, parse_key};
use crate::ids::Username;

/// Largest file of authorities, or of principals, that we read at a login, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Judges certificates by the configured authorities and by `cert-authority` lines.
#[derive(Debug)]
pub struct Authorities {
    config: CertificatesConfig,
    keys: Arc<AuthorizedKeys>,
    revoked: Arc<RevokedKeys>,
}

/// What the configuration says of the user besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account<'a> {
    /// Lines in the format of `authorized_keys`.
    pub authorized_keys: &'a [AuthorizedKeyLine],
    /// The principals that count instead of those in `principalsFile`. `None`: none are listed.
    pub principals: Option<&'a [String]>,
}

impl Authorities {
    /// `keys` has the `cert-authority` lines.
    #[must_use]
    pub fn new(config: CertificatesConfig, keys: Arc<AuthorizedKeys>, revoked: Arc<RevokedKeys>) -> Self {
        Self { config, keys, revoked }
    }

    /// Whether there is an authority that could vouch for the user. Transports ask when a key is offered, before
    /// they know whether it comes with a certificate.
    pub async fn may_vouch_for(&self, username: &Username, account: Account<'_>) -> bool {
        // Both are looked at for every user, or the time it takes would tell who has lines.
        let has_lines = self.keys.has_authorities(username, account.authorized_keys).await;
        has_lines || !self.config.trusted_cas.is_empty()
    }

    /// Judges a certificate whose signature has been checked.
    ///
    /// # Errors
    /// Why it lets nobody in, for the log.
    pub async fn judge(
        &self,
        username: &Username,
        certificate: &Certificate,
        account: Account<'_>,
        circumstances: Circumstances,
    ) -> Result<CertificateGrant, CertificateDenied> {
        let mut trusts = self.configured(username, certificate, account.principals).await;
        let lines = self.keys.authorities(username, &certificate.ca.blob, account.authorized_keys).await;
        trusts.extend(lines.into_iter().map(|(place, line)| Trust {
            place,
            ca_blob: certificate.ca.blob.clone(),
            principals: named(line.options.principals.as_deref(), username),
            options: line.options,
        }));
        let revoked = self.revoked.list().await?;
        judge(certificate, &trusts, &revoked, &circumstances)
    }

    /// The files of `trustedCAs` that have the certificate's authority.
    async fn configured(
        &self,
        username: &Username,
        certificate: &Certificate,
        listed: Option<&[String]>,
    ) -> Vec<Trust> {
        let paths = self.config.trusted_cas.clone();
        let ca_blob = certificate.ca.blob.clone();
        let wanted = certificate.principals.clone();
        let of_user = listed.map(|names| named(Some(names), username));
        let file = self.config.principals_file.clone();
        let username = username.clone();
        let trusts = file::off_loop(move || {
            let (principals, place) = match (of_user, file) {
                (Some(principals), _) => (principals, " with the principals of the user".to_owned()),
                (None, Some(file)) => match file.of(&username) {
                    Some(path) => (read_principals(&path, &wanted), format!(" with `{}`", path.display())),
                    None => (Vec::new(), " with no file of principals for such a name".to_owned()),
                },
                (None, None) => (named(None, &username), String::new()),
            };
            let trusted = paths.iter().filter(|path| has_authority(path, &ca_blob));
            let trust = |path: &PathBuf| Trust {
                place: format!("`{}`{place}", path.display()),
                ca_blob: ca_blob.clone(),
                principals: principals.clone(),
                options: KeyOptions::default(),
            };
            trusted.map(trust).collect()
        });
        trusts.await.unwrap_or_default()
    }
}

/// Names without options; without a list it is the user's own.
fn named(names: Option<&[String]>, username: &Username) -> Vec<Principal> {
    let principal = |name: &str| Principal { name: name.to_owned(), options: KeyOptions::default() };
    match names {
        Some(names) => names.iter().map(|name| principal(name)).collect(),
        None => vec![principal(username.as_str())],
    }
}

/// Whether the file has the key on a line of its own.
fn has_authority(path: &Path, ca_blob: &[u8]) -> bool {
    let text = match file::read_text(path, FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot use a file of trusted authorities");
            return false;
        }
    };
    let base64 = base64_of(ca_blob);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('#') || !line.contains(&base64) {
            continue;
        }
        if parse_key(line).is_some_and(|blob| blob == ca_blob) {
            return true;
        }
        let line = index + 1;
        tracing::warn!(path = %path.display(), line, "an authority with something in front of its key is not trusted");
    }
    false
}

fn read_principals(path: &Path, wanted: &[String]) -> Vec<Principal> {
    let text = match file::read_text(path, FILE_BYTES_MAX) {
        Ok(text) => text,
        // The usual case for users without certificates.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), "no principals");
            return Vec::new();
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot use the file of principals");
            return Vec::new();
        }
    };
    let look = find_principals(&text, wanted);
    for passed_over in look.passed_over {
        let (line, reason) = (passed_over.line, passed_over.reason);
        tracing::warn!(path = %path.display(), line, %reason, "a line with the principal lets nobody in");
    }
    look.found
}

/// The lines with one of the `wanted` names: `[options] name`, where `#` begins a comment (`sshd_config(5)`).
fn find_principals(text: &str, wanted: &[String]) -> Look<Vec<Principal>> {
    let mut look = Look { found: Vec::new(), passed_over: Vec::new() };
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        // Names have no spaces, options may: the last word is the name.
        let (options, name) = line.rsplit_once([' ', '\t']).unwrap_or(("", line));
        if name.is_empty() || !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        match KeyOptions::parse(options.trim_end()) {
            Ok(options) if !options.cert_authority => {
                look.found.push(Principal { name: name.to_owned(), options });
            }
            Ok(_) => {
                let misplaced = OptionError::Unknown("cert-authority".to_owned());
                note(&mut look.passed_over, index + 1, Reason::Options(misplaced));
            }
            Err(error) => note(&mut look.passed_over, index + 1, Reason::Options(error)),
        }
    }
    look
}

#[cfg(test)]
mod tests;
