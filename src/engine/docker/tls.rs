//! TLS to a remote engine: whom we trust and who we are, from PEM text or files.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Settings, SettingsError};

/// How we speak TLS to the engine.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    pub(super) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let mut roots = RootCertStore::empty();
        if settings.cacert.is_empty() {
            // Some certificates of the system may be odd; what matters is whether the engine's is signed by one.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        } else {
            for certificate in certificates("cacert", &settings.cacert)? {
                roots.add(certificate).map_err(|error| bad("cacert", &error))?;
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("cacert", &error))?
            .with_root_certificates(roots);
        let config = match (settings.cert.is_empty(), settings.key.expose().is_empty()) {
            (true, true) => config.with_no_client_auth(),
            (false, false) => {
                let pem = pem_text("key", settings.key.expose())?;
                let key =
                    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| bad("key", &error))?;
                config
                    .with_client_auth_cert(certificates("cert", &settings.cert)?, key)
                    .map_err(|error| bad("cert", &error))?
            }
            (true, false) => return Err(bad("cert", &"it is missing, but `key` is given")),
            (false, true) => return Err(bad("key", &"it is missing, but `cert` is given")),
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

fn certificates(key: &'static str, source: &str) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let pem = pem_text(key, source)?;
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(key, &error))?;
    if certificates.is_empty() { Err(bad(key, &"there is no certificate in it")) } else { Ok(certificates) }
}

/// `source` itself if it is PEM, else what is in the file of that name.
fn pem_text<'a>(key: &'static str, source: &'a str) -> Result<Cow<'a, str>, SettingsError> {
    if source.contains("-----BEGIN ") {
        return Ok(Cow::Borrowed(source));
    }
    match std::fs::read_to_string(source) {
        Ok(text) => Ok(Cow::Owned(text)),
        // The name may be a secret pasted without its PEM armour: it is not repeated.
        Err(error) => Err(bad(key, &format_args!("neither PEM text nor a readable file: {error}"))),
    }
}

fn bad(key: &'static str, reason: &dyn std::fmt::Display) -> SettingsError {
    SettingsError::Tls { key, reason: reason.to_string() }
}
