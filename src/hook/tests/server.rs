//! A small HTTP server that behaves, well or badly, as a test wants it to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// What the server does about one request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Answers with a status and a body.
    Answer(u16, String),
    /// Sends these bytes and closes.
    Send(String),
    /// Never answers.
    Silence,
    /// Announces a body and sends it a byte at a time, without end.
    Drip,
    /// Sends a body without end, as fast as it is taken.
    Flood,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Such as `POST /password HTTP/1.1`.
    pub(super) line: String,
    /// In lower case.
    pub(super) headers: Vec<String>,
    pub(super) body: String,
    /// Counted from 0.
    pub(super) connection: usize,
}

/// Answers on a port of its own, in turn as `acts` say, the last of them from then on.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Request>>>,
    _accept: AbortOnDropHandle<()>,
}

/// Who signs certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate for `localhost` and its key, as PEM text.
pub(super) struct Signed {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Between the bytes of a drip.
const DRIP_PAUSE: Duration = Duration::from_millis(5);

impl Act {
    pub(super) fn answer(body: &str) -> Self {
        Self::Answer(200, body.to_owned())
    }

    pub(super) fn status(status: u16) -> Self {
        // A body that would let everybody in, were it looked at.
        Self::Answer(status, "{\"success\": true, \"config\": {}}".to_owned())
    }
}

impl Server {
    pub(super) async fn start(acts: impl Into<Vec<Act>>) -> Self {
        Self::listen(acts.into(), None).await
    }

    /// Speaks TLS with a certificate of `authority`, and with `clients` asks for one of theirs.
    pub(super) async fn start_tls(acts: impl Into<Vec<Act>>, authority: &Authority, clients: bool) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(authority.server_config(clients)));
        Self::listen(acts.into(), Some(acceptor)).await
    }

    async fn listen(acts: Vec<Act>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Script { acts, seen: Arc::clone(&seen) });
        let accept = async move {
            let mut connections = tokio::task::JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, tls) = (Arc::clone(&script), tls.clone());
                connections.spawn(async move {
                    let Some(tls) = tls else { return script.serve(stream, number).await };
                    match tls.accept(stream).into_fallible().await {
                        Ok(stream) => script.serve(stream, number).await,
                        // Closing with something unread could cost the client the alert that says why.
                        Err((_, mut stream)) => {
                            let copied = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                            drop(copied);
                        }
                    }
                });
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the handle ends it")]
        let accept = AbortOnDropHandle::new(tokio::spawn(accept));
        Self { address, scheme, seen, _accept: accept }
    }

    /// An address on it.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.address.port())
    }

    /// All requests so far.
    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

/// What all connections of a server have in common.
#[derive(Debug)]
struct Script {
    acts: Vec<Act>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Script {
    /// Until either side has had enough.
    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin, number: usize) {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream, number).await {
            let act = {
                let mut seen = self.seen.lock().unwrap();
                seen.push(request);
                self.acts[(seen.len() - 1).min(self.acts.len() - 1)].clone()
            };
            if perform(act, &mut stream).await.is_none() {
                break;
            }
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin), connection: usize) -> Option<Request> {
    let mut stream = BufReader::with_capacity(1, stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0);
    let headers: Vec<String> = lines.iter().map(|line| line.to_lowercase()).collect();
    let length = headers.iter().find_map(|header| header.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { line, headers, body: String::from_utf8(body).unwrap(), connection })
}

/// `None` when the connection is to be closed.
async fn perform(act: Act, stream: &mut (impl AsyncWrite + Unpin)) -> Option<()> {
    match act {
        Act::Answer(status, body) => {
            let head =
                format!("HTTP/1.1 {status} -\r\nset-cookie: a=b\r\ncontent-length: {}\r\n\r\n", body.len());
            write(stream, &(head + &body)).await
        }
        Act::Send(bytes) => write(stream, &bytes).await.and(None),
        Act::Silence => std::future::pending().await,
        Act::Drip => {
            write(stream, "HTTP/1.1 200 -\r\ncontent-length: 1000000\r\n\r\n").await?;
            loop {
                write(stream, " ").await?;
                tokio::time::sleep(DRIP_PAUSE).await;
            }
        }
        Act::Flood => {
            write(stream, "HTTP/1.1 200 -\r\nconnection: close\r\n\r\n").await?;
            let spaces = " ".repeat(16 * 1024);
            loop {
                write(stream, &spaces).await?;
            }
        }
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), text: &str) -> Option<()> {
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.flush().await.ok()
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, as PEM text.
    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn sign(&self) -> Signed {
        let (certificate, key) = self.certificate();
        Signed { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn certificate(&self) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    fn server_config(&self, clients: bool) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let (certificate, key) = self.certificate();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = if clients {
            config.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            config.with_no_client_auth()
        };
        config.with_single_cert(vec![certificate.der().clone()], key).unwrap()
    }
}
