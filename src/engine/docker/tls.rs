//! TLS to a remote engine: whom we trust and who we are, from PEM text or files.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Config;
use crate::secret::Secret;
use crate::value::Pem;

/// A certificate or key of the configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`docker.{key}` cannot be used: {reason}")]
pub struct CertificateError {
    /// `cacert`, `cert` or `key`.
    pub key: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// How we speak TLS to the engine.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    pub(super) fn new(config: &Config) -> Result<Self, CertificateError> {
        let mut roots = RootCertStore::empty();
        match read("cacert", &config.cacert)? {
            Some(pem) => {
                for certificate in certificates("cacert", &pem)? {
                    roots.add(certificate).map_err(|error| bad("cacert", &error))?;
                }
            }
            // Some certificates of the system may be odd; what matters is whether the engine's is signed by one.
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("cacert", &error))?
            .with_root_certificates(roots);
        let client = match (read("cert", &config.cert)?, read("key", &config.key)?) {
            (Some(cert), Some(key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|error| bad("key", &error))?;
                client
                    .with_client_auth_cert(certificates("cert", &cert)?, key)
                    .map_err(|error| bad("cert", &error))?
            }
            // One without the other does not get through the configuration.
            _ => client.with_no_client_auth(),
        };
        Ok(Self(TlsConnector::from(Arc::new(client))))
    }

    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let failed = |error: &dyn fmt::Display| io::Error::other(format!("no TLS with `{host}`: {error}"));
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
        self.0.connect(name, stream).await.map_err(|error| failed(&reason(&error)))
    }
}

/// Why a handshake failed, in the words of our configuration where it can mend that.
fn reason(error: &io::Error) -> String {
    use rustls::CertificateError::{BadSignature, UnknownIssuer};
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature)) => {
            "its certificate is signed by nobody whom `docker.cacert` trusts".to_owned()
        }
        _ => error.to_string(),
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
            let config = Config { cacert: Pem::from(cacert.to_owned()), ..Config::default() };

            let error = Tls::new(&config).expect_err("no certificate").to_string();

            assert!(
                error.starts_with("`docker.cacert` cannot be used: ") && error.contains(words),
                "{error}"
            );
            assert!(!error.contains("SECRET"), "{error}");
        }
    }
}
