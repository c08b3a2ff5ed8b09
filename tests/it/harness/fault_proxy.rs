//! A socket in front of the engine's own that writes down every request, and spoils those that a test names.
//!
//! The server makes one connection per request, so that a connection's first line tells which request it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::engine_proxy::{ENGINE, request};
use super::poll_until;

/// How long a request may take to show up.
const PATIENCE: Duration = Duration::from_mins(1);

/// The engine's calls by their names in the API. `*` stands for one segment of the path.
pub(crate) mod call {
    pub(crate) const ANY: &str = "* *";
    pub(crate) const PULL: &str = "POST /images/create";
    pub(crate) const IMAGE: &str = "GET /images/*/*/json";
    pub(crate) const CREATE: &str = "POST /containers/create";
    pub(crate) const START: &str = "POST /containers/*/start";
    pub(crate) const EXEC_CREATE: &str = "POST /containers/*/exec";
    pub(crate) const EXEC_START: &str = "POST /exec/*/start";
    pub(crate) const INSPECT: &str = "GET /exec/*/json";
    pub(crate) const CHANGES: &str = "GET /containers/*/changes";
    pub(crate) const REMOVE: &str = "DELETE /containers/*";
}

/// What happens to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is answered with this status and this message, and never reaches the engine.
    Fail(u16, &'static str),
    /// It reaches the engine; the answer comes this much later.
    Late(Duration),
    /// It reaches the engine; the answer ends after so many bytes.
    Cut(usize),
    /// Something that is no HTTP answers.
    Garbage,
    /// It is taken and never answered.
    Hold,
    /// The connection is closed before an answer.
    Close,
}

/// An endpoint of one test's own.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    path: PathBuf,
    engine: PathBuf,
    books: Arc<Mutex<Books>>,
    /// Holds the listener and everything that goes through it.
    open: Mutex<Option<AbortOnDropHandle<()>>>,
}

#[derive(Debug, Default)]
struct Books {
    requests: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    call: &'static str,
    fault: Fault,
    /// Spoils only the nth of them, counted from 1.
    only: Option<usize>,
    seen: usize,
}

impl FaultProxy {
    /// Before the engine that the tests use.
    pub(crate) fn listen(folder: &Path) -> Self {
        Self::before(Path::new(ENGINE), folder)
    }

    /// Before another one.
    pub(crate) fn before(engine: &Path, folder: &Path) -> Self {
        let path = folder.join("engine.sock");
        let proxy = Self { path, engine: engine.to_owned(), books: Arc::default(), open: Mutex::default() };
        proxy.come_back();
        proxy
    }

    /// As `docker.host` wants it.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// From now on all such requests go wrong.
    pub(crate) fn spoil(&self, call: &'static str, fault: Fault) {
        self.books.lock().unwrap().rules.push(Rule { call, fault, only: None, seen: 0 });
    }

    /// Of such requests from now on, only the nth goes wrong.
    pub(crate) fn spoil_nth(&self, nth: usize, call: &'static str, fault: Fault) {
        self.books.lock().unwrap().rules.push(Rule { call, fault, only: Some(nth), seen: 0 });
    }

    /// New requests pass again. What is held stays held.
    pub(crate) fn mend(&self) {
        self.books.lock().unwrap().rules.clear();
    }

    /// The engine stops: what is connected breaks, and nobody listens any more.
    pub(crate) fn go_away(&self) {
        drop(self.open.lock().unwrap().take());
        std::fs::remove_file(&self.path).expect("the socket of a proxy that listens");
    }

    /// The engine is there again.
    pub(crate) fn come_back(&self) {
        let listener = UnixListener::bind(&self.path).expect("a free path");
        let (engine, books) = (self.engine.clone(), Arc::clone(&self.books));
        let accept = async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (engine, books) = (engine.clone(), Arc::clone(&books));
                // Either side may go at any time.
                connections.spawn(async move { drop(serve(client, &engine, &books).await) });
                while connections.try_join_next().is_some() {}
            }
        };
        *self.open.lock().unwrap() = Some(AbortOnDropHandle::new(tokio::spawn(accept)));
    }

    /// All requests since the last call, as `METHOD /path` without the version prefix and the query.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.books.lock().unwrap().requests)
    }

    /// Waits until such a request has come since the last [`FaultProxy::take`].
    pub(crate) async fn wait_for(&self, call: &str) {
        self.wait_for_count(call, 1).await;
    }

    pub(crate) async fn wait_for_count(&self, call: &str, count: usize) {
        poll_until(call, PATIENCE, async || {
            let books = self.books.lock().unwrap();
            let seen = books.requests.iter().filter(|request| matches(call, request)).count();
            (seen >= count).then_some(())
        })
        .await;
    }
}

impl Books {
    /// Writes a request down, and tells what is to happen to it.
    fn note(&mut self, request: String) -> Option<Fault> {
        let mut fault = None;
        for rule in self.rules.iter_mut().filter(|rule| matches(rule.call, &request)) {
            rule.seen += 1;
            if rule.only.is_none_or(|nth| nth == rule.seen) {
                fault = fault.or(Some(rule.fault));
            }
        }
        self.requests.push(request);
        fault
    }
}

fn matches(call: &str, request: &str) -> bool {
    if call == call::ANY {
        return true;
    }
    let (mut wanted, mut given) = (call.split('/'), request.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted == "*" || wanted == given => {}
            _ => return false,
        }
    }
}

async fn serve(mut client: UnixStream, engine: &Path, books: &Mutex<Books>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head);
    let request = text.lines().next().and_then(request).unwrap_or_else(|| text.clone().into_owned());
    let fault = books.lock().unwrap().note(request);
    match fault {
        None => pass(client, engine, &head, Duration::ZERO, u64::MAX).await,
        Some(Fault::Late(delay)) => pass(client, engine, &head, delay, u64::MAX).await,
        Some(Fault::Cut(bytes)) => pass(client, engine, &head, Duration::ZERO, bytes as u64).await,
        Some(Fault::Close) => Ok(()),
        Some(Fault::Hold) => tokio::io::copy(&mut client, &mut tokio::io::sink()).await.map(drop),
        Some(Fault::Garbage) => client.write_all(b"220 mail.example.org ESMTP ready\r\n").await,
        Some(Fault::Fail(status, message)) => {
            let body = format!(r#"{{"message":"{message}"}}"#);
            let head = format!("HTTP/1.1 {status} Spoiled\r\nContent-Type: application/json");
            let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            client.write_all(answer.as_bytes()).await
        }
    }
}

/// Everything there and `limit` bytes back, the first of them not before `delay`.
async fn pass(client: UnixStream, engine: &Path, head: &[u8], delay: Duration, limit: u64) -> io::Result<()> {
    let mut engine = UnixStream::connect(engine).await?;
    engine.write_all(head).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (from_engine, mut to_engine) = engine.into_split();
    let there = async {
        tokio::io::copy(&mut from_client, &mut to_engine).await?;
        // A half-close is passed on; it does not end the answer.
        to_engine.shutdown().await?;
        std::future::pending::<io::Result<()>>().await
    };
    let back = async {
        tokio::time::sleep(delay).await;
        tokio::io::copy(&mut from_engine.take(limit), &mut to_client).await
    };
    tokio::select! {
        done = back => done.map(drop),
        gone = there => gone,
    }
}

#[test]
fn a_star_stands_for_one_segment() {
    assert!(matches(call::START, "POST /containers/f00/start"));
    assert!(!matches(call::REMOVE, "DELETE /containers/f00/x"));
    assert!(!matches(call::CREATE, "POST /containers/f00/start"));
    assert!(matches(call::ANY, "GET /version"));
}

#[test]
fn only_the_nth_is_spoiled_where_a_test_says_so() {
    let rule = Rule { call: call::CREATE, fault: Fault::Close, only: Some(2), seen: 0 };
    let mut books = Books { requests: Vec::new(), rules: vec![rule] };

    let spoiled: Vec<_> = (0..3).map(|_| books.note(call::CREATE.to_owned()).is_some()).collect();

    assert_eq!(spoiled, [false, true, false]);
    assert_eq!(books.requests.len(), 3);
}
