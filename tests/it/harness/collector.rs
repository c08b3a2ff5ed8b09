//! A web service that audit records are sent to, and the ways in which such a service may misbehave.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// Nobody is there: the connection is closed at once.
    Away,
    /// It is answered with this status.
    Status(u16),
    /// It is taken, and never answered.
    Silence,
    /// The connection breaks in the middle of it.
    BreakWithin,
    /// It is taken, and the connection breaks before the answer.
    BreakAfter,
    /// It is taken.
    Take,
}

/// Takes batches on a port of its own.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    manners: Vec<Manner>,
    taken: Vec<Value>,
    requests: usize,
    headers: Vec<String>,
}

impl Collector {
    /// Its manners, one for each request, and then the last one again and again.
    pub(crate) async fn start(manners: &[Manner]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let (manners, taken) = (manners.to_vec(), Vec::new());
        let state = Arc::new(Mutex::new(State { manners, taken, requests: 0, headers: Vec::new() }));
        let collector = Self { address, state };
        let serving = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        collector
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/audit", self.address)
    }

    /// From now on.
    pub(crate) fn behaves(&self, manner: Manner) {
        self.state.lock().unwrap().manners = vec![manner];
    }

    /// What came so far, in its order, without what came twice.
    pub(crate) fn records(&self) -> Vec<Value> {
        let mut seen = std::collections::BTreeSet::new();
        let taken = self.state.lock().unwrap().taken.clone();
        let id = |record: &Value| (record["run"].to_string(), record["seq"].as_u64());
        taken.into_iter().filter(|record| seen.insert(id(record))).collect()
    }

    /// How often it was called.
    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    /// The headers of the last request, in lower case.
    pub(crate) fn headers(&self) -> Vec<String> {
        self.state.lock().unwrap().headers.clone()
    }

    fn next_manner(&self) -> Manner {
        let mut state = self.state.lock().unwrap();
        state.requests += 1;
        if state.manners.len() > 1 { state.manners.remove(0) } else { state.manners[0] }
    }

    fn take(&self, body: &[u8]) {
        let lines = std::str::from_utf8(body).expect("JSON is UTF-8").lines();
        let records = lines.map(|line| serde_json::from_str::<Value>(line).expect("one object per line"));
        self.state.lock().unwrap().taken.extend(records);
    }

    /// Until the client closes.
    async fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut headers = Vec::new();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
                if line.trim_end().is_empty() {
                    break;
                }
                headers.push(line.trim_end().to_owned());
            }
            let manner = self.next_manner();
            let length = headers.iter().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
            })?;
            self.state.lock().unwrap().headers = headers;
            match manner {
                Manner::Away => return None,
                Manner::BreakWithin => {
                    stream.read_exact(&mut vec![0; length / 2]).await.ok()?;
                    return None;
                }
                _ => {}
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
            let status = match manner {
                Manner::Status(status) => status,
                Manner::Silence => {
                    self.take(&body);
                    std::future::pending().await
                }
                Manner::BreakAfter => {
                    self.take(&body);
                    return None;
                }
                _ => {
                    self.take(&body);
                    204
                }
            };
            let answer = format!("HTTP/1.1 {status} -\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.ok()?;
            stream.flush().await.ok()?;
        }
    }
}
