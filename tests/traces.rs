//! Traces, as a collector gets them: `cargo test --features otel --test traces`. The real server, engine and client; the
//! collector is played.

#![cfg(feature = "otel")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by failing at once"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A loaded machine takes its time.
const PATIENCE: Duration = Duration::from_mins(1);

/// Keeps every span that it is sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    resources: Arc<Mutex<Vec<Value>>>,
}

#[derive(Clone, Debug)]
struct Span {
    name: String,
    trace: String,
    id: String,
    parent: String,
    begun: u64,
    ended: u64,
    attributes: BTreeMap<String, String>,
    events: Vec<String>,
}

impl Collector {
    fn listen() -> (Self, SocketAddr) {
        let (collector, listener) = (Self::default(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, taking) = (listener.local_addr().unwrap(), collector.clone());
        std::thread::spawn(move || listener.incoming().flatten().for_each(|tcp| taking.take(&tcp)));
        (collector, address)
    }

    fn take(&self, tcp: &TcpStream) {
        let (mut reader, mut line, mut length) = (BufReader::new(tcp), String::new(), 0);
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("POST /v1/traces "), "{line}");
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let header = line.trim().to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if header.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        for of_resource in list(&body, "resourceSpans") {
            self.resources.lock().unwrap().push(of_resource["resource"].clone());
            for of_scope in list(&of_resource, "scopeSpans") {
                let spans = list(&of_scope, "spans");
                self.spans.lock().unwrap().extend(spans.iter().map(Span::read));
            }
        }
        // Whoever hears it may end.
        let mut writer = tcp;
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
        writer.write_all(answer.as_bytes()).unwrap();
    }

    /// All spans, once there is a `connection` of each of so many traces.
    fn wait_for(&self, connections: usize) -> Vec<Span> {
        poll("the connections' spans", || {
            let spans = self.spans.lock().unwrap().clone();
            let roots = spans.iter().filter(|span| span.name == "connection").count();
            (roots >= connections).then_some(spans)
        })
    }
}

impl Span {
    fn read(span: &Value) -> Self {
        let text = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
        let nanoseconds = |name: &str| text(name).parse().unwrap();
        let attributes = list(span, "attributes").into_iter().map(|attribute| {
            let value = attribute["value"].as_object().unwrap().values().next().unwrap().clone();
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (attribute["key"].as_str().unwrap().to_owned(), value)
        });
        Self {
            name: text("name"),
            trace: text("traceId"),
            id: text("spanId"),
            parent: text("parentSpanId"),
            begun: nanoseconds("startTimeUnixNano"),
            ended: nanoseconds("endTimeUnixNano"),
            attributes: attributes.collect(),
            events: list(span, "events")
                .iter()
                .map(|event| event["name"].as_str().unwrap().to_owned())
                .collect(),
        }
    }
}

fn list(value: &Value, name: &str) -> Vec<Value> {
    value[name].as_array().cloned().unwrap_or_default()
}

/// A server that tells its traces to `collector`.
struct Server {
    process: Child,
    log: Arc<Mutex<String>>,
    address: SocketAddr,
    folder: TempDir,
}

impl Server {
    fn start(collector: &str, sample_ratio: &str) -> Self {
        let folder = TempDir::with_prefix("coracle-traces-").unwrap();
        let key = folder.path().join("key");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
        let config = format!(
            "stateDir: state\nlog: {{format: json}}\nssh: {{listen: \"127.0.0.1:0\"}}\n\
             auth: {{authorizedKeysFile: key.pub}}\ntraces: {{endpoint: \"{collector}\", sampleRatio: {sample_ratio}}}\n\
             docker: {{config: {{container: {{image: coracle/guest}}, imagePullPolicy: Never}}}}\n"
        );
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(["serve", "--config", "config.yaml"])
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (log, stderr) = (Arc::<Mutex<String>>::default(), process.stderr.take().unwrap());
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = poll("the server listens", || {
            let log = log.lock().unwrap().clone();
            said(&log, "listening").and_then(|line| line["address"].as_str().unwrap().parse().ok())
        });
        Self { process, log, address, folder }
    }

    fn ssh(&self, args: &[&str]) -> std::process::Output {
        let options = ["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"];
        let known = ["-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-v"];
        let mut ssh = Command::new("timeout");
        ssh.args(["60", "ssh"]).args(options).args(known).arg("-i").arg(self.folder.path().join("key"));
        ssh.args(["-p", &self.address.port().to_string(), "alice@127.0.0.1"]).args(args);
        ssh.stdin(Stdio::null()).output().unwrap()
    }

    fn end(mut self) -> String {
        run(Command::new("kill").arg(self.process.id().to_string()));
        let exit = poll("the server's end", || self.process.try_wait().unwrap());
        let log = self.log.lock().unwrap().clone();
        assert!(exit.success(), "{exit}\n{log}");
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            drop(self.process.kill());
            drop(self.process.wait());
            remove_containers_of(self.folder.path());
        }
    }
}

/// The last resort of a test that failed.
fn remove_containers_of(folder: &Path) {
    let Ok(instance) = std::fs::read_to_string(folder.join("state/instance-id")) else { return };
    let all = format!("docker rm -fv $(docker ps -aq --filter label=coracle.instance={})", instance.trim());
    drop(Command::new("sh").args(["-c", &all]).output());
}

fn said(log: &str, message: &str) -> Option<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.into_iter().find(|line| line["message"] == message)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn poll<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_connection_is_one_trace_from_its_first_byte_to_the_removal_of_its_container() {
    let (collector, address) = Collector::listen();
    let server = Server::start(&format!("http://{address}"), "1.0");

    let output = server.ssh(&["echo secret-command; exit 3"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");

    let spans = collector.wait_for(1);
    let root = spans.iter().find(|span| span.name == "connection").unwrap();
    assert_eq!(root.parent, "");
    assert!(spans.iter().all(|span| span.trace == root.trace), "{spans:#?}");
    let below = |parent: &Span| {
        let mut names: Vec<_> =
            spans.iter().filter(|span| span.parent == parent.id).map(|span| span.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    assert_eq!(below(root), ["auth", "handshake", "launch", "removal", "session"]);
    let launch = spans.iter().find(|span| span.name == "launch").unwrap();
    assert_eq!(below(launch), ["create", "meet", "start", "wait"]);
    let session = spans.iter().find(|span| span.name == "session").unwrap();
    assert_eq!(session.events, ["first output"]);
    assert_eq!(session.attributes["coracle.exit"], "3");
    assert_eq!(root.attributes["user.name"], "alice");
    for span in &spans {
        assert!(
            root.begun <= span.begun && span.begun <= span.ended && span.ended <= root.ended,
            "{span:#?}"
        );
    }
    assert!(!format!("{spans:?}").contains("secret-command"), "what is run is nobody's business");

    // Either leads to the other, and a user who has only `ssh -v` to both.
    let connection = &root.attributes["coracle.connection"];
    let seen = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = seen.lines().find(|line| line.contains("remote software version Coracle_")).unwrap();
    assert!(version.ends_with(connection.as_str()), "{version} {connection}");
    let log = server.end();
    let traced = said(&log, "traced").unwrap();
    assert_eq!(
        (traced["connection"].as_str(), traced["trace"].as_str()),
        (Some(connection.as_str()), Some(root.trace.as_str()))
    );
    let resource = collector.resources.lock().unwrap()[0].to_string();
    assert!(resource.contains("service.name") && resource.contains("coracle"), "{resource}");
}

#[test]
fn what_is_left_is_sent_when_the_server_ends() {
    let (collector, address) = Collector::listen();
    let server = Server::start(&format!("http://{address}"), "1.0");

    drop(TcpStream::connect(server.address).unwrap());
    server.ssh(&["true"]);
    server.end();

    let spans = collector.spans.lock().unwrap();
    let roots: Vec<_> = spans.iter().filter(|span| span.name == "connection").collect();
    assert_eq!(roots.len(), 2, "{spans:#?}");
    let failed = roots.iter().find(|span| span.attributes["coracle.stage"] == "no-ssh").unwrap();
    assert!(!spans.iter().any(|span| span.parent == failed.id));
}

#[test]
fn a_collector_that_is_away_costs_nobody_anything() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::start(&format!("http://{nobody}"), "1.0");

    let output = server.ssh(&["echo in"]);

    assert_eq!(String::from_utf8_lossy(&output.stdout), "in\n", "{output:?}");
    poll("a warning", || {
        let log = server.log.lock().unwrap().clone();
        said(&log, "the collector does not take traces; some are lost")
    });
    let begun = Instant::now();
    server.end();
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_is_not_sampled_is_not_told() {
    let (collector, address) = Collector::listen();
    let server = Server::start(&format!("http://{address}"), "0.0");
    server.ssh(&["true"]);

    let log = server.end();

    assert!(collector.spans.lock().unwrap().is_empty());
    assert!(said(&log, "traced").is_none(), "{log}");
}
