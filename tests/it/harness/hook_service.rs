//! A web service that hooks are asked at: it answers as a test says, and keeps what it was asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    BufReader,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What is answered to one question.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// HTTP 200 with this.
    Says(Value),
    /// This status, with a body that would let everybody in.
    Status(u16),
    /// Nothing, for ever.
    Silence,
}

/// Answers at any path, on a port of its own. Without instructions for a path it says 404.
#[derive(Clone, Debug)]
pub(crate) struct HookService {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    replies: BTreeMap<String, Vec<Reply>>,
    asked: Vec<(String, Value)>,
}

/// `{"success": true}` and nothing else.
pub(crate) fn yes() -> Reply {
    Reply::Says(json!({"success": true}))
}

/// `{"success": false}`.
pub(crate) fn no() -> Reply {
    Reply::Says(json!({"success": false}))
}

impl HookService {
    pub(crate) async fn start() -> Self {
        Self::listen(None).await
    }

    /// Speaks TLS as `localhost`, with those alone who have a certificate of the same authority.
    pub(crate) async fn start_tls(pki: &Pki) -> Self {
        Self::listen(Some(TlsAcceptor::from(Arc::new(pki.server_config())))).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let state = Arc::new(Mutex::new(State::default()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let service = Self { address, scheme, state };
        let answering = service.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (service, tls) = (answering.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => service.serve(stream).await,
                        Some(tls) => match tls.accept(stream).into_fallible().await {
                            Ok(stream) => service.serve(stream).await,
                            // Closing with something unread could cost the client the alert that says why.
                            Err((_, mut stream)) => {
                                drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
                                None
                            }
                        },
                    }
                });
            }
        });
        service
    }

    /// An address on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.address.port())
    }

    /// What is answered at `path` from now on: one after the other, and then the last one again and again.
    pub(crate) fn at(&self, path: &str, replies: impl Into<Vec<Reply>>) -> &Self {
        self.state.lock().unwrap().replies.insert(path.to_owned(), replies.into());
        self
    }

    /// [`Reply::Says`] at `path`.
    pub(crate) fn says(&self, path: &str, answer: Value) -> &Self {
        self.at(path, [Reply::Says(answer)])
    }

    /// What was asked at `path` so far.
    pub(crate) fn asked(&self, path: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|(at, _)| at == path).map(|(_, question)| question.clone()).collect()
    }

    /// The only question at `path`.
    #[track_caller]
    pub(crate) fn asked_once(&self, path: &str) -> Value {
        let asked = self.asked(path);
        let [only] = &asked[..] else { panic!("asked {} times at {path}: {asked:?}", asked.len()) };
        only.clone()
    }

    /// Until the client closes.
    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let (path, question) = read_question(&mut stream).await?;
            let reply = self.reply(path, question);
            let (status, body) = match reply {
                Reply::Says(answer) => (200, answer),
                Reply::Status(status) => (status, json!({"success": true, "config": {}})),
                Reply::Silence => std::future::pending().await,
            };
            let body = body.to_string();
            let answer = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.ok()?;
            stream.flush().await.ok()?;
        }
    }

    fn reply(&self, path: String, question: Value) -> Reply {
        let mut state = self.state.lock().unwrap();
        let replies = state.replies.get_mut(&path);
        let reply = replies.map_or(Reply::Status(404), |replies| {
            if replies.len() > 1 { replies.remove(0) } else { replies[0].clone() }
        });
        state.asked.push((path, question));
        reply
    }
}

async fn read_question(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<(String, Value)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_lowercase());
    }
    let path = lines.first()?.strip_prefix("post ")?.split(' ').next()?.to_owned();
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some((path, serde_json::from_slice(&body).expect("a question is JSON")))
}

/// An authority, and a client's certificate of it as files.
pub(crate) struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority of this test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pki = Self { authority, folder: tempfile::tempdir().expect("a temporary folder") };
        let (certificate, key) = pki.certificate();
        for (name, text) in [
            ("ca.pem", pki.authority.pem()),
            ("client.pem", certificate.pem()),
            ("client.key", key.serialize_pem()),
        ] {
            std::fs::write(pki.path(name), text).expect("a writable folder");
        }
        pki
    }

    /// `ca.pem`, `client.pem` or `client.key`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }

    fn certificate(&self) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.authority).unwrap(), key)
    }

    fn server_config(&self) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let (certificate, key) = self.certificate();
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap()
    }
}
