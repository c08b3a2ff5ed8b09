//! The engine behind TLS that both sides prove themselves in, as a remote one should be.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use coracle::engine::EngineError;
use coracle::engine::docker::{Config, Endpoint};
use coracle::value::Pem;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::io::{copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::harness::{bench, config, on, run, shell, socket};

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate for `localhost`, and its key.
struct Signed {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    fn sign(&self) -> Signed {
        let params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
        let key = KeyPair::generate().expect("a key");
        Signed { certificate: params.signed_by(&key, &self.0).expect("a certificate"), key }
    }
}

/// An engine's front door: ends TLS, and lets in who has a certificate of its authority.
struct Door {
    address: SocketAddr,
    _accept: AbortOnDropHandle<()>,
}

impl Door {
    async fn before(engine: PathBuf, authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(Arc::new(server_config(authority)));
        let accept = async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, engine) = (acceptor.clone(), engine.clone());
                connections.spawn(async move {
                    let mut client = match acceptor.accept(client).into_fallible().await {
                        Ok(client) => client,
                        // Closing with something unread could cost the client the alert that says why.
                        Err((_, mut client)) => return copy(&mut client, &mut sink()).await.map(drop),
                    };
                    let mut engine = UnixStream::connect(&engine).await?;
                    copy_bidirectional(&mut client, &mut engine).await.map(drop)
                });
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the handle ends it")]
        let accept = AbortOnDropHandle::new(tokio::spawn(accept));
        Self { address, _accept: accept }
    }

    fn endpoint(&self, scheme: &str) -> Endpoint {
        format!("{scheme}://localhost:{}", self.address.port()).parse().expect("an endpoint")
    }
}

fn server_config(authority: &Authority) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).expect("a certificate");
    let provider = Arc::new(default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let Signed { certificate, key } = authority.sign();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(clients.build().expect("a verifier"))
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate")
}

fn with_certificates(config: Config, authority: &Authority, client: &Signed) -> Config {
    Config {
        cacert: Pem::from(authority.0.pem()),
        cert: Pem::from(client.certificate.pem()),
        key: Pem::from(client.key.serialize_pem()),
        ..config
    }
}

/// Text behind a name, in `folder`.
fn in_file(folder: &tempfile::TempDir, name: &str, text: &str) -> Pem {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file");
    Pem::File(path)
}

#[tokio::test]
async fn programs_run_on_an_engine_behind_tls() {
    let authority = Authority::new("ours");
    let local = config("coracle/tiny:latest");
    let door = Door::before(socket(&local), &authority).await;
    let client = authority.sign();
    let folder = tempfile::tempdir().expect("a folder");
    let texts = with_certificates(local, &authority, &client);
    let files = Config {
        cacert: in_file(&folder, "ca.pem", &authority.0.pem()),
        cert: in_file(&folder, "cert.pem", &client.certificate.pem()),
        key: in_file(&folder, "key.pem", &client.key.serialize_pem()),
        ..texts.clone()
    };
    for (scheme, config) in [("https", texts), ("https", files.clone()), ("tcp", files)] {
        let config = Config { host: door.endpoint(scheme), ..config };
        on(bench(&config), |bench| async move {
            let container = bench.launch().await;
            let data: Vec<u8> =
                (0..1_000_000_u32).map(|index| index.to_le_bytes()[index as usize % 3]).collect();

            let ended = run(&container, &shell("cat; exit 3"), &data).await;

            assert!(ended.stdout == data, "{} bytes came back", ended.stdout.len());
            assert_eq!(ended.code(), 3);
            container.remove().await.expect("a removal");
        })
        .await;
    }
}

#[tokio::test]
async fn an_engine_or_a_client_that_cannot_prove_itself_is_refused() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("strange"));
    let local = config("coracle/tiny:latest");
    let door = Door::before(socket(&local), &authority).await;
    let remote = Config { host: door.endpoint("https"), ..local };
    let client = authority.sign();

    let distrusting = with_certificates(remote.clone(), &stranger, &client);
    let failure = bench(&distrusting).try_launch().await.expect_err("a refusal");
    assert!(matches!(failure.error, EngineError::Unreachable { .. }) && !failure.maybe_left, "{failure:?}");
    let expected = format!(
        "the container engine at `{}` cannot be reached: no TLS with `localhost`: \
         its certificate is signed by nobody whom `docker.cacert` trusts",
        remote.host
    );
    assert_eq!(failure.error.to_string(), expected);

    let anonymous = Config { cacert: Pem::from(authority.0.pem()), ..remote.clone() };
    let distrusted = with_certificates(remote, &authority, &stranger.sign());
    for (config, words) in [(anonymous, "CertificateRequired"), (distrusted, "UnknownCA")] {
        let failure = bench(&config).try_launch().await.expect_err("a refusal");
        assert!(!failure.maybe_left && failure.error.to_string().contains(words), "{}", failure.error);
    }
}
