//! TLS to a remote engine.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Config;
use crate::tls;

/// A certificate or key of the configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`docker.{key}` cannot be used: {reason}")]
pub struct CertificateError {
    /// `cacert`, `cert` or `key`.
    pub key: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl From<tls::CertificateError> for CertificateError {
    fn from(error: tls::CertificateError) -> Self {
        Self { key: error.key, reason: error.reason }
    }
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
        let client = tls::client_config(&config.cacert, &config.cert, &config.key)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Pem;

    #[test]
    fn what_cannot_be_used_is_named_as_in_the_configuration() {
        let config = Config { cacert: Pem::from("/nowhere/ca.pem".to_owned()), ..Config::default() };

        let error = Tls::new(&config).expect_err("no certificate").to_string();

        assert!(error.starts_with("`docker.cacert` cannot be used: `/nowhere/ca.pem`"), "{error}");
    }
}
