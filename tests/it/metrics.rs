//! What whoever runs the server reads of it at `/metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::{TestServer, poll_until, python};

/// A loaded machine takes its time.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) const LISTEN: &str = "metrics: {listen: \"127.0.0.1:0\"}";

/// Where the server answers, as its log tells.
pub(crate) fn endpoint(server: &TestServer) -> SocketAddr {
    let lines = server.log.lines();
    let found = lines.iter().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let says_so = line.get("message")?.as_str()?.starts_with("answering /metrics");
        line.get("address")?.as_str()?.parse().ok().filter(|_| says_so)
    });
    found.expect("the log says where")
}

/// The status and the body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let exchange = async {
        let mut tcp = TcpStream::connect(address).await.expect("somebody listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    let answer = timeout(PATIENCE, exchange).await.expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

/// Samples by name and labels as they are written: `coracle_sessions{kind="exec"}`.
pub(crate) async fn samples(server: &TestServer) -> BTreeMap<String, String> {
    let (status, text) = get(endpoint(server), "/metrics").await;
    assert_eq!(status, 200, "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.to_owned())
    });
    samples.collect()
}

/// Waits until a sample has this value.
pub(crate) async fn wait_for(server: &TestServer, name: &str, value: &str) {
    poll_until(&format!("{name} {value}"), PATIENCE, async || {
        samples(server).await.get(name).filter(|now| *now == value).map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_session_is_counted_from_its_connection_to_its_containers_removal() {
    let server = TestServer::builder().section(LISTEN).start().await;

    let output = server.ssh(&["printf 12345; cat >&2; exit 3"]).stdin("abc").output().await;
    output.assert_code(3);

    wait_for(&server, r#"coracle_container_removals_total{result="ok"}"#, "1").await;
    // The last to change.
    wait_for(&server, r#"coracle_connections_ended_total{stage="logged-in"}"#, "1").await;
    let samples = samples(&server).await;
    for (name, value) in [
        ("coracle_connections_accepted_total", "1"),
        ("coracle_connections", "0"),
        (r#"coracle_handshakes_total{result="ok"}"#, "1"),
        (r#"coracle_auth_proofs_total{method="publicKey",outcome="accepted"}"#, "1"),
        ("coracle_logins_total", "1"),
        (r#"coracle_sessions_started_total{kind="exec"}"#, "1"),
        (r#"coracle_sessions_ended_total{kind="exec",outcome="exited"}"#, "1"),
        (r#"coracle_sessions{kind="exec"}"#, "0"),
        (r#"coracle_session_traffic_bytes_total{direction="received"}"#, "3"),
        (r#"coracle_session_traffic_bytes_total{direction="sent"}"#, "8"),
        ("coracle_session_first_output_seconds_count", "1"),
        (r#"coracle_launches_total{way="cold",outcome="ready"}"#, "1"),
        (r#"coracle_launch_phase_duration_seconds_count{phase="create"}"#, "1"),
        (r#"coracle_launch_phase_duration_seconds_count{phase="start"}"#, "1"),
        (r#"coracle_engine_requests_total{operation="container-create",result="ok"}"#, "1"),
        (r#"coracle_engine_requests_total{operation="container-remove",result="ok"}"#, "1"),
        (r#"coracle_containers{state="live"}"#, "0"),
        (r#"coracle_connections_ended_total{stage="logged-in"}"#, "1"),
    ] {
        assert_eq!(samples.get(name).map(String::as_str), Some(value), "{name} in {samples:#?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_lives_is_shown_while_it_lives() {
    let server = TestServer::builder().section(LISTEN).start().await;
    let mut running = server.ssh(&["echo here; sleep 100"]).spawn();
    running.wait_for("here").await;

    wait_for(&server, r#"coracle_containers{state="live"}"#, "1").await;
    wait_for(&server, r#"coracle_sessions{kind="exec"}"#, "1").await;
    wait_for(&server, "coracle_connections", "1").await;

    running.kill();
    wait_for(&server, r#"coracle_containers{state="live"}"#, "0").await;
    wait_for(&server, "coracle_connections", "0").await;
    server.stop().await;
}

#[tokio::test]
async fn containers_that_wait_are_told_from_those_that_are_launched_for_somebody() {
    let server = TestServer::builder().section(LISTEN).section("pool: {warm: 1}").start().await;
    wait_for(&server, r#"coracle_containers{state="waiting"}"#, "1").await;

    server.ssh(&["true"]).output().await.assert_success();

    wait_for(&server, r#"coracle_launches_total{way="warm",outcome="ready"}"#, "1").await;
    wait_for(&server, r#"coracle_launches_total{way="refill",outcome="ready"}"#, "2").await;
    wait_for(&server, r#"coracle_containers{state="waiting"}"#, "1").await;
    let samples = samples(&server).await;
    assert_eq!(samples[r#"coracle_launches_total{way="cold",outcome="ready"}"#], "0");
    assert_eq!(samples["coracle_pool_wanted"], "1");
    // The one that waits goes when the server does.
    server.terminate();
    let mut server = server;
    server.assert_ends_within(PATIENCE).await;
}

/// What a metric is said to be.
#[derive(Debug, Default, PartialEq)]
struct Kind {
    of: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// The tables of `docs/metrics.md`.
fn written() -> BTreeMap<String, Kind> {
    let page = top_level("docs/metrics.md");
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, name, of, labels, _, _] = cells[..] else { return None };
        let name = name.trim_matches('`').to_owned();
        let labels = labels.split(';').filter_map(|label| label.split_once(':')).map(|(label, values)| {
            let values = values.split_whitespace().map(|value| value.trim_matches('`').to_owned());
            (label.trim().trim_matches('`').to_owned(), values.collect())
        });
        name.starts_with("coracle_").then(|| (name, Kind { of: of.to_owned(), labels: labels.collect() }))
    });
    rows.collect()
}

/// What an exposition has: names as they are asked for, a histogram without its suffixes.
fn exposed(text: &str) -> BTreeMap<String, Kind> {
    let mut found = BTreeMap::<String, Kind>::new();
    for line in text.lines() {
        if let Some((name, of)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            let name = match of {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            };
            assert!(text.contains(&format!("# HELP {}", line.split(' ').nth(2).unwrap())), "{line}");
            found.insert(name, Kind { of: of.to_owned(), ..Kind::default() });
        } else if !line.starts_with('#') {
            let (series, _value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let name = if found.contains_key(name) { name } else { base.unwrap_or(name) };
            let kind = found.get_mut(name).unwrap_or_else(|| panic!("no type before {line}"));
            for (_, [label, value]) in label_pairs().captures_iter(labels).map(|pair| pair.extract()) {
                if label != "le" {
                    kind.labels.entry(label.to_owned()).or_default().insert(value.to_owned());
                }
            }
        }
    }
    found
}

fn label_pairs() -> regex::Regex {
    regex::Regex::new(r#"([a-z_]+)="((?:[^"\\]|\\.)*)""#).unwrap()
}

pub(crate) fn top_level(name: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Fails where the server exposes something that the page does not have: a name, a label, or a label's value.
fn assert_as_written(text: &str) {
    let written = written();
    for (name, kind) in exposed(text) {
        let Some(page) = written.get(&name) else { panic!("`{name}` is not in docs/metrics.md") };
        assert_eq!(page.of, kind.of, "{name}");
        for (label, values) in &kind.labels {
            let allowed = page.labels.get(label).unwrap_or_else(|| panic!("{name} has a label {label}"));
            let strange: Vec<_> = values.difference(allowed).collect();
            assert!(strange.is_empty() || allowed.contains("any"), "{name}: {label} is {strange:?}");
        }
    }
}

/// A server that was used in every way there is to be counted.
async fn used() -> TestServer {
    let server = TestServer::builder().forwarding().section(LISTEN).start().await;
    let master = server.master(&[]).await;
    master.ssh(&["echo exec"]).output().await.assert_success();
    server.sftp().stdin("ls\n").output().await;
    server.ssh(&[]).stdin("exit 3\n").output().await.assert_code(3);
    drop(master);
    server.assert_all_gone_within(PATIENCE).await;
    server
}

#[tokio::test]
async fn the_page_has_what_the_server_exposes_and_nothing_else() {
    let server = used().await;

    let (_, text) = get(endpoint(&server), "/metrics").await;

    assert_as_written(&text);
    let exposed = exposed(&text);
    for (name, kind) in written() {
        let Some(real) = exposed.get(&name) else { panic!("`{name}` is in docs/metrics.md alone") };
        let (page, real): (Vec<_>, Vec<_>) = (kind.labels.keys().collect(), real.labels.keys().collect());
        assert_eq!(page, real, "{name}");
    }
    server.stop().await;
}

/// Metrics, and what is asked of their labels: `coracle_x{a="b|c"}` and the labels of `by (…)`.
fn assert_can_be_asked(expression: &str, metrics: &BTreeMap<String, Kind>, written: &BTreeMap<String, Kind>) {
    let selector = regex::Regex::new(r"(coracle_[a-z_]+)(?:\{([^}]*)\})?").unwrap();
    let matcher = regex::Regex::new(r#"([a-z_]+)\s*(?:=~|!=|!~|=)\s*"([^"]*)""#).unwrap();
    // Prometheus adds these.
    let mut labels = BTreeSet::from(["instance".to_owned(), "job".to_owned()]);
    let mut count = 0;
    for found in selector.captures_iter(expression) {
        count += 1;
        let name = &found[1];
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let histogram = base.filter(|base| metrics.get(*base).is_some_and(|kind| kind.of == "histogram"));
        let name = histogram.unwrap_or(name);
        let Some(kind) = metrics.get(name) else { panic!("there is no `{name}`: {expression}") };
        assert_eq!(histogram.is_some(), kind.of == "histogram", "{expression}");
        labels.extend(histogram.map(|_| "le".to_owned()));
        labels.extend(kind.labels.keys().cloned());
        for asked in matcher.captures_iter(found.get(2).map_or("", |asked| asked.as_str())) {
            if &asked[1] == "instance" {
                continue;
            }
            let Some(page) = written[name].labels.get(&asked[1]) else {
                panic!("{expression}: {}", &asked[1])
            };
            for value in asked[2].split('|') {
                assert!(page.contains(value), "{name} is never {value}: {expression}");
            }
        }
    }
    assert!(count > 0 || expression.starts_with("up{"), "nothing of ours in {expression}");
    let by = regex::Regex::new(r"\b(?:by|on) \(([^)]*)\)").unwrap();
    for found in by.captures_iter(expression) {
        for label in found[1].split(',').map(str::trim) {
            assert!(labels.contains(label), "nothing has a label {label}: {expression}");
        }
    }
}

pub(crate) fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "expr" => found.push(text.to_owned()),
                    _ => expressions(value, found),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_query_of_the_dashboard_and_of_the_alerts_finds_something() {
    let server = used().await;
    let (_, text) = get(endpoint(&server), "/metrics").await;
    let (metrics, written) = (exposed(&text), written());
    let dashboard: serde_json::Value = serde_json::from_str(&top_level("docs/grafana.json")).unwrap();
    let alerts: serde_json::Value =
        serde_saphyr::from_str(&top_level("packaging/prometheus/alerts.yml")).unwrap();

    let (mut asked, mut alerting) = (Vec::new(), Vec::new());
    expressions(&dashboard, &mut asked);
    expressions(&alerts, &mut alerting);

    assert!(asked.len() > 30 && alerting.len() > 5, "{asked:?} {alerting:?}");
    for expression in asked.iter().chain(&alerting) {
        assert_can_be_asked(expression, &metrics, &written);
    }
    // What is offered to look at is looked at, but for what the annotation and the build say.
    let unseen: Vec<_> =
        metrics.keys().filter(|name| !asked.iter().any(|asked| asked.contains(name.as_str()))).collect();
    assert!(unseen.len() < metrics.len() / 2, "{unseen:?}");
    server.stop().await;
}

#[tokio::test]
async fn nothing_that_a_client_says_becomes_a_label() {
    let server = TestServer::builder().section(LISTEN).start().await;
    let odd = "x\"} 1\ncoracle_pwned{a=\"b";
    for user in [odd, "root\n"] {
        let name = user.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        python(&server, "logins.py", &["named_on_stdin"]).stdin(name).output().await;
    }
    for user in ["evil/user:x", "evil\u{1f980}"] {
        server.ssh_to(user, &["true"]).output().await.assert_success();
    }
    server.ssh(&[&format!("true '{odd}'")]).output().await.assert_success();
    server.ssh(&["-s", "no-such-subsystem"]).output().await;
    server.ssh(&["true"]).option("SetEnv=EVIL_NAME=evil").output().await.assert_success();
    server.ssh(&["true"]).arg("-L").arg("0:evil.example:1").output().await;
    let mut stranger = TcpStream::connect(server.address).await.unwrap();
    stranger.write_all(b"SSH-2.0-evil\"} 1\r\n").await.unwrap();
    drop(stranger);

    wait_for(&server, r#"coracle_requests_refused_total{request="subsystem"}"#, "1").await;

    let (_, text) = get(endpoint(&server), "/metrics").await;
    assert_as_written(&text);
    for word in ["evil", "pwned", "no-such", "root", "coracle/guest", "127.0.0.1"] {
        assert!(!text.contains(word), "{word} in\n{text}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_address_that_is_taken_keeps_the_server_from_starting() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = TempDir::with_prefix("coracle-it-taken-").unwrap();
    std::fs::write(folder.path().join("keys"), "").unwrap();
    std::fs::write(
        folder.path().join("config.yaml"),
        "stateDir: state\nssh: {listen: \"127.0.0.1:0\"}\nmetrics: {listen: \"127.0.0.1:0\"}\n",
    )
    .unwrap();

    let server = Command::new(env!("CARGO_BIN_EXE_coracle"))
        .args(["serve", "--metrics-listen", &address, "--config", "config.yaml"])
        .current_dir(folder.path())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, server).await.expect("it ends").unwrap();

    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&address) && said.contains("`metrics.listen`"), "{said}");
}

#[tokio::test]
async fn a_reload_is_counted_and_what_it_cannot_change_is_told() {
    let server = TestServer::builder().section(LISTEN).start().await;
    let file = server.path("config.yaml");
    let text = std::fs::read_to_string(&file).unwrap();

    std::fs::write(&file, text.replace(LISTEN, "metrics: {listen: null}")).unwrap();
    server.reload("configuration read again").await;
    std::fs::write(&file, "no: such section\n").unwrap();
    server.reload("the configuration is not right").await;

    wait_for(&server, r#"coracle_config_reloads_total{result="ok"}"#, "1").await;
    wait_for(&server, r#"coracle_config_reloads_total{result="failed"}"#, "1").await;
    assert!(server.log.text().contains(r#""key":"metrics.listen""#), "{}", server.log.text());
    server.stop().await;
}
