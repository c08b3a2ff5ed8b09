//! OpenSSH certificates (PROTOCOL.certkeys) as plain data. Whether the authority's signature is right is the
//! transport's to check, before it shows anybody the certificate; whether it counts is [`judge`]'s.

mod judge;

use thiserror::Error;

use super::PublicKey;
use super::wire::Reader;

pub use judge::{CertificateDenied, CertificateGrant, Principal, Trust, judge};

/// Principals that a certificate may name, as at OpenSSH.
const PRINCIPALS_MAX: usize = 256;

/// Critical options, and extensions, that a certificate may have. There are eight that mean something.
const OPTIONS_MAX: usize = 256;

/// Each kind of certificate, the kind of key in it, and of how many strings that key consists.
const KINDS: [(&str, &str, usize); 7] = [
    ("ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519", 1),
    ("ssh-rsa-cert-v01@openssh.com", "ssh-rsa", 2),
    ("ecdsa-sha2-nistp256-cert-v01@openssh.com", "ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384-cert-v01@openssh.com", "ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521-cert-v01@openssh.com", "ecdsa-sha2-nistp521", 2),
    ("sk-ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", 3),
];

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it is for.
    pub kind: CertificateKind,
    /// The key that it is about, as a plain key.
    pub key: PublicKey,
    /// The authority's key, as a plain key.
    pub ca: PublicKey,
    /// How the authority signed: `ssh-ed25519`, `rsa-sha2-512` …
    pub signature_algorithm: String,
    /// The authority's number for it; 0 if it does not number them.
    pub serial: u64,
    /// The authority's name for it.
    pub key_id: String,
    /// The names that it may be used under.
    pub principals: Vec<String>,
    /// The first second in which it is valid, since 1970.
    pub valid_after: u64,
    /// The first second in which it is no longer valid, since 1970. [`u64::MAX`]: never.
    pub valid_before: u64,
    /// Each has to be understood. Name and data, as encoded.
    pub critical_options: Vec<(String, Vec<u8>)>,
    /// Those that are not understood do not matter. Name and data, as encoded.
    pub extensions: Vec<(String, Vec<u8>)>,
}

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateKind {
    /// A user's.
    User,
    /// A server's.
    Host,
}

/// Why some bytes are no certificate that we know.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// The algorithm's name is none of a certificate's.
    #[error("it is no certificate of a kind that is known here")]
    Kind,
    /// It ends too early or too late, or text in it is not UTF-8.
    #[error("its {0} cannot be read")]
    Field(&'static str),
    /// More than OpenSSH puts into one.
    #[error("it has too many {0}")]
    TooMany(&'static str),
}

impl Certificate {
    /// Reads the encoding of PROTOCOL.certkeys, to the last byte. Does not check the signature.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(blob: &[u8]) -> Result<Self, CertificateError> {
        use CertificateError::Field;
        let mut reader = Reader::new(blob);
        let algorithm = reader.text().ok_or(CertificateError::Kind)?;
        let (_, plain, strings) =
            KINDS.into_iter().find(|(name, ..)| *name == algorithm).ok_or(CertificateError::Kind)?;
        reader.string().ok_or(Field("nonce"))?;
        let key = read_key(&mut reader, plain, strings).ok_or(Field("key"))?;
        let serial = reader.uint64().ok_or(Field("serial number"))?;
        let kind = match reader.uint32().ok_or(Field("type"))? {
            1 => CertificateKind::User,
            2 => CertificateKind::Host,
            _ => return Err(Field("type")),
        };
        let key_id = reader.text().ok_or(Field("key id"))?.to_owned();
        let principals = read_principals(reader.string().ok_or(Field("principals"))?)?;
        let valid_after = reader.uint64().ok_or(Field("validity"))?;
        let valid_before = reader.uint64().ok_or(Field("validity"))?;
        let critical_options = reader.string().ok_or(Field("critical options"))?;
        let critical_options = read_options(critical_options, "critical options")?;
        let extensions = read_options(reader.string().ok_or(Field("extensions"))?, "extensions")?;
        reader.string().ok_or(Field("reserved field"))?;
        let ca = reader.string().ok_or(Field("authority's key"))?;
        let signature = reader.string().ok_or(Field("signature"))?;
        let signature_algorithm = Reader::new(signature).text().ok_or(Field("signature"))?.to_owned();
        if !reader.is_empty() {
            return Err(Field("end"));
        }
        Ok(Self {
            kind,
            key: PublicKey::from_blob(key),
            ca: PublicKey::from_blob(ca.to_owned()),
            signature_algorithm,
            serial,
            key_id,
            principals,
            valid_after,
            valid_before,
            critical_options,
            extensions,
        })
    }
}

/// The key's strings in the form of a plain key: with its own name in front.
fn read_key(reader: &mut Reader<'_>, plain: &str, strings: usize) -> Option<Vec<u8>> {
    let mut blob = Vec::new();
    put_string(&mut blob, plain.as_bytes())?;
    for _ in 0..strings {
        put_string(&mut blob, reader.string()?)?;
    }
    Some(blob)
}

fn put_string(blob: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    blob.extend(u32::try_from(bytes.len()).ok()?.to_be_bytes());
    blob.extend(bytes);
    Some(())
}

fn read_principals(bytes: &[u8]) -> Result<Vec<String>, CertificateError> {
    let mut reader = Reader::new(bytes);
    let mut principals = Vec::new();
    while !reader.is_empty() {
        if principals.len() == PRINCIPALS_MAX {
            return Err(CertificateError::TooMany("principals"));
        }
        principals.push(reader.text().ok_or(CertificateError::Field("principals"))?.to_owned());
    }
    Ok(principals)
}

fn read_options(bytes: &[u8], what: &'static str) -> Result<Vec<(String, Vec<u8>)>, CertificateError> {
    let mut reader = Reader::new(bytes);
    let mut options: Vec<(String, Vec<u8>)> = Vec::new();
    while !reader.is_empty() {
        if options.len() == OPTIONS_MAX {
            return Err(CertificateError::TooMany(what));
        }
        let name = reader.text().ok_or(CertificateError::Field(what))?;
        let data = reader.string().ok_or(CertificateError::Field(what))?;
        // "Each named option may only appear once in a certificate": which of two would count?
        if options.iter().any(|(known, _)| known == name) {
            return Err(CertificateError::Field(what));
        }
        options.push((name.to_owned(), data.to_owned()));
    }
    Ok(options)
}

#[cfg(test)]
mod tests;
