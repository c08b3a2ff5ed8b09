//! Whether a certificate lets its holder in (A4), and what it takes away (A5). Pure: the files are read elsewhere.

use std::time::SystemTime;

use thiserror::Error;

use super::{Certificate, CertificateKind};
use crate::auth::key_options::{Circumstances, KeyOptions, Refusal};
use crate::auth::revocation::{RevocationList, Revoked};
use crate::auth::source::{SourceError, SourceList};
use crate::auth::wire::{Reader, WeakKey};
use crate::identity::Restrictions;

/// Signatures of authorities that are no longer safe: SHA-1, with or without the right key.
const WEAK_SIGNATURES: [&str; 2] = ["ssh-rsa", "ssh-dss"];

/// An authority, and for whom it vouches.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Where that is written, for the log.
    pub place: String,
    /// The authority's key (RFC 4253 §6.6).
    pub ca_blob: Vec<u8>,
    /// One of these has to be among the certificate's principals.
    pub principals: Vec<Principal>,
    /// What the line that names the authority says besides.
    pub options: KeyOptions,
}

/// A name that a certificate may be used under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name.
    pub name: String,
    /// What the line with the name says besides.
    pub options: KeyOptions,
}

/// What a certificate grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateGrant {
    /// What the certificate, its authority's line and its principal's line take away together.
    pub restrictions: Restrictions,
    /// Variables for every program, from these lines.
    pub environment: Vec<(String, String)>,
    /// The principal that fitted.
    pub principal: String,
    /// The authority's name for the certificate.
    pub key_id: String,
    /// The authority's number for the certificate.
    pub serial: u64,
    /// `SHA256:…` of the user's key.
    pub key_fingerprint: String,
    /// `SHA256:…` of the authority's key.
    pub ca_fingerprint: String,
    /// Where the authority is trusted, for the log.
    pub place: String,
}

/// Why a certificate lets nobody in. For the log; whoever holds it is not told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateDenied {
    /// Nobody here trusts whoever signed it.
    #[error("its authority {0} is not trusted for this user")]
    UnknownAuthority(String),
    /// It is for a server.
    #[error("it is a host's certificate, not a user's")]
    Host,
    /// The key in it.
    #[error("it is for {0}")]
    WeakKey(WeakKey),
    /// The authority's key.
    #[error("its authority's key is {0}")]
    WeakAuthority(WeakKey),
    /// SHA-1.
    #[error("its authority signed it with `{}`, which is not safe", .0.escape_debug())]
    WeakSignature(String),
    /// Revoked, or nobody can tell.
    #[error("{0}")]
    Revoked(#[from] Revoked),
    /// From later on.
    #[error("it is not valid yet, but from {valid_after} on (now: {now}; seconds since 1970)")]
    NotYetValid {
        /// From when on.
        valid_after: u64,
        /// The time here.
        now: u64,
    },
    /// No longer.
    #[error("it has expired, at {valid_before} (now: {now}; seconds since 1970)")]
    Expired {
        /// Since when.
        valid_before: u64,
        /// The time here.
        now: u64,
    },
    /// At OpenSSH such a certificate was once good for everybody.
    #[error("it names no principals")]
    NoPrincipals,
    /// It is somebody else's.
    #[error("none of its principals ({}) is accepted for this user by {place}", quoted(.principals))]
    WrongPrincipal {
        /// Whose it is.
        principals: Vec<String>,
        /// Where the accepted ones are written.
        place: String,
    },
    /// It has to be understood, and is not.
    #[error("its critical option `{}` is not known here", .0.escape_debug())]
    UnknownOption(String),
    /// It is known and says nothing sensible.
    #[error("its critical option `{0}` cannot be read")]
    Unreadable(&'static str),
    /// `source-address` is no list of networks.
    #[error("its `source-address` cannot be read: {0}")]
    SourceAddress(SourceError),
    /// It may be used from elsewhere only.
    #[error("it must not be used from {0}, says its `source-address`")]
    Source(std::net::IpAddr),
    /// We could not hold it to that.
    #[error(
        "its `verify-required` cannot be enforced: what a hardware key asked of its user is not known here"
    )]
    VerifyRequired,
    /// A line that vouches for it does not count here and now.
    #[error("{place}: {refusal}")]
    Refused {
        /// The line.
        place: String,
        /// Why not.
        refusal: Refusal,
    },
    /// Nobody can obey two commands.
    #[error("it and {0} force different commands")]
    Commands(String),
}

/// Judges a certificate whose signature has been checked. The first of `trusts` by which it counts decides.
///
/// # Errors
/// Why it lets nobody in; of several reasons the one by the first of `trusts` that has its authority.
pub fn judge(
    certificate: &Certificate,
    trusts: &[Trust],
    revoked: &RevocationList,
    circumstances: &Circumstances,
) -> Result<CertificateGrant, CertificateDenied> {
    let ca = &certificate.ca;
    let mut denied = None;
    for trust in trusts.iter().filter(|trust| trust.ca_blob == ca.blob) {
        let outcome = check_itself(certificate, revoked, circumstances)
            .and_then(|own| grant(certificate, trust, own, circumstances));
        match outcome {
            Ok(granted) => return Ok(granted),
            Err(reason) => denied = denied.or(Some(reason)),
        }
    }
    Err(denied.unwrap_or_else(|| CertificateDenied::UnknownAuthority(ca.fingerprint.clone())))
}

/// What has nothing to do with where the authority is trusted.
fn check_itself(
    certificate: &Certificate,
    revoked: &RevocationList,
    circumstances: &Circumstances,
) -> Result<Restrictions, CertificateDenied> {
    if certificate.kind != CertificateKind::User {
        return Err(CertificateDenied::Host);
    }
    certificate.ca.check_strength().map_err(CertificateDenied::WeakAuthority)?;
    certificate.key.check_strength().map_err(CertificateDenied::WeakKey)?;
    if WEAK_SIGNATURES.contains(&certificate.signature_algorithm.as_str()) {
        return Err(CertificateDenied::WeakSignature(certificate.signature_algorithm.clone()));
    }
    revoked.check_certificate(certificate)?;
    let now = circumstances.now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let Certificate { valid_after, valid_before, .. } = *certificate;
    if now < valid_after {
        return Err(CertificateDenied::NotYetValid { valid_after, now });
    }
    if now >= valid_before {
        return Err(CertificateDenied::Expired { valid_before, now });
    }
    if certificate.principals.is_empty() {
        return Err(CertificateDenied::NoPrincipals);
    }
    restrictions(certificate, circumstances)
}

/// What the critical options and the extensions come to.
fn restrictions(
    certificate: &Certificate,
    circumstances: &Circumstances,
) -> Result<Restrictions, CertificateDenied> {
    let mut force_command = None;
    for (name, data) in &certificate.critical_options {
        match name.as_str() {
            "force-command" => force_command = Some(text_in(data, "force-command")?.to_owned()),
            "source-address" => {
                let list = SourceList::parse_networks(text_in(data, "source-address")?)
                    .map_err(CertificateDenied::SourceAddress)?;
                if !list.admits(circumstances.source) {
                    return Err(CertificateDenied::Source(circumstances.source.to_canonical()));
                }
            }
            "verify-required" => return Err(CertificateDenied::VerifyRequired),
            _ => return Err(CertificateDenied::UnknownOption(name.clone())),
        }
    }
    let lacks = |name: &str| !certificate.extensions.iter().any(|(known, _)| known == name);
    Ok(Restrictions {
        force_command,
        no_terminal: lacks("permit-pty"),
        no_port_forwarding: lacks("permit-port-forwarding"),
        no_agent_forwarding: lacks("permit-agent-forwarding"),
        no_x11_forwarding: lacks("permit-X11-forwarding"),
        ..Restrictions::default()
    })
}

/// The data of an option is a string within the string.
fn text_in<'a>(data: &'a [u8], name: &'static str) -> Result<&'a str, CertificateDenied> {
    let mut reader = Reader::new(data);
    let text = reader.text().filter(|text| !text.contains('\0'));
    text.filter(|_| reader.is_empty()).ok_or(CertificateDenied::Unreadable(name))
}

/// What is left where `trust` vouches for a certificate that in itself leaves `own`.
fn grant(
    certificate: &Certificate,
    trust: &Trust,
    own: Restrictions,
    circumstances: &Circumstances,
) -> Result<CertificateGrant, CertificateDenied> {
    let refused = |refusal| CertificateDenied::Refused { place: trust.place.clone(), refusal };
    trust.options.admit(circumstances).map_err(refused)?;
    let accepted = trust.principals.iter().find(|accepted| certificate.principals.contains(&accepted.name));
    let Some(principal) = accepted else {
        let (principals, place) = (certificate.principals.clone(), trust.place.clone());
        return Err(CertificateDenied::WrongPrincipal { principals, place });
    };
    principal.options.admit(circumstances).map_err(refused)?;
    let restrictions = own
        .and(trust.options.restrictions.clone())
        .and_then(|so_far| so_far.and(principal.options.restrictions.clone()))
        .ok_or_else(|| CertificateDenied::Commands(trust.place.clone()))?;
    let mut environment = trust.options.environment.clone();
    for (name, value) in &principal.options.environment {
        if !environment.iter().any(|(known, _)| known == name) {
            environment.push((name.clone(), value.clone()));
        }
    }
    Ok(CertificateGrant {
        restrictions,
        environment,
        principal: principal.name.clone(),
        key_id: certificate.key_id.clone(),
        serial: certificate.serial,
        key_fingerprint: certificate.key.fingerprint.clone(),
        ca_fingerprint: certificate.ca.fingerprint.clone(),
        place: trust.place.clone(),
    })
}

/// The first few of them, for a line of the log.
fn quoted(names: &[String]) -> String {
    const NAMES_MAX: usize = 8;
    let shown: Vec<_> =
        names.iter().take(NAMES_MAX).map(|name| format!("`{}`", name.escape_debug())).collect();
    let more = if names.len() > NAMES_MAX { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
