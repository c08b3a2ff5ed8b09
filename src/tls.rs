//! TLS to a server that the configuration names: whom we trust and who we are, from PEM text or files.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::secret::Secret;
use crate::value::Pem;

/// A certificate or key of the configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` cannot be used: {reason}")]
pub struct CertificateError {
    /// `cacert`, `cert` or `key`.
    pub key: &'static str,
    /// What is wrong with it. Never shows the text itself.
    pub reason: String,
}

/// Trusts who is signed by `cacert`, or whom the system trusts where that is not set; proves itself with `cert` and
/// `key` where both are set.
pub(crate) fn client_config(cacert: &Pem, cert: &Pem, key: &Pem) -> Result<ClientConfig, CertificateError> {
    let mut roots = RootCertStore::empty();
    match read("cacert", cacert)? {
        Some(pem) => {
            for certificate in certificates("cacert", &pem)? {
                roots.add(certificate).map_err(|error| bad("cacert", &error))?;
            }
        }
        // Some certificates of the system may be odd; what matters is whether the server's is signed by one.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("cacert", &error))?
        .with_root_certificates(roots);
    match (read("cert", cert)?, read("key", key)?) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|error| bad("key", &error))?;
            client
                .with_client_auth_cert(certificates("cert", &cert)?, key)
                .map_err(|error| bad("cert", &error))
        }
        // One without the other does not get through the configuration.
        _ => Ok(client.with_no_client_auth()),
    }
}

fn read(key: &'static str, pem: &Pem) -> Result<Option<Secret<Vec<u8>>>, CertificateError> {
    pem.read().map_err(|error| bad(key, &error))
}

fn certificates(
    key: &'static str,
    pem: &Secret<Vec<u8>>,
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(pem.expose())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(key, &error))?;
    if certificates.is_empty() { Err(bad(key, &"there is no certificate in it")) } else { Ok(certificates) }
}

fn bad(key: &'static str, reason: &dyn fmt::Display) -> CertificateError {
    CertificateError { key, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named_and_never_shown() {
        let garbled = "-----BEGIN CERTIFICATE-----\nSECRET!\n-----END CERTIFICATE-----\n";
        for (cacert, words) in [
            ("/nowhere/ca.pem", "`/nowhere/ca.pem` cannot be read"),
            (garbled, ""),
            ("SECRET\nwithout its armour\n", "no certificate"),
        ] {
            let cacert = Pem::from(cacert.to_owned());

            let error =
                client_config(&cacert, &Pem::Unset, &Pem::Unset).expect_err("no certificate").to_string();

            assert!(error.starts_with("`cacert` cannot be used: ") && error.contains(words), "{error}");
            assert!(!error.contains("SECRET"), "{error}");
        }
    }
}
