//! Prometheus itself, with the configuration and the rules that are given away: what it makes of a server's numbers, and
//! whether the dashboard has something to show.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Client, Running, TestServer, free_port, poll_until};
use crate::metrics::{LISTEN, PATIENCE, endpoint, expressions, top_level};

/// What has no value on a good day: a mark where the configuration has just changed, and what the engine refused.
const OFTEN_EMPTY: [&str; 2] = [
    "changes(coracle_config_last_good_time_seconds[1m]) > 0",
    "sum by (operation, result) (rate(coracle_engine_requests_total{instance=~\"$instance\", result!=\"ok\"}[$__rate_interval]))",
];

/// A Prometheus that asks one server. It ends when it is dropped.
struct Prometheus {
    address: String,
    curl: Client,
    _running: Running,
    _folder: TempDir,
}

impl Prometheus {
    fn start(server: &TestServer) -> Self {
        let folder = TempDir::with_prefix("coracle-it-prometheus-").unwrap();
        let config = top_level("packaging/prometheus/prometheus.yml");
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus/alerts.yml");
        let mut changed = config.clone();
        for (ours, tests) in [
            ("127.0.0.1:9122", endpoint(server).to_string().as_str()),
            ("/etc/prometheus/alerts.yml", &rules.display().to_string()),
            ("_interval: 15s", "_interval: 2s"),
        ] {
            assert!(changed.contains(ours), "{ours} in {config}");
            changed = changed.replace(ours, tests);
        }
        std::fs::write(folder.path().join("prometheus.yml"), changed).unwrap();

        let address = format!("127.0.0.1:{}", free_port());
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let running = server
            .program(program())
            .arg(flag("config.file", &folder.path().join("prometheus.yml").display().to_string()))
            .arg(flag("storage.tsdb.path", &folder.path().join("data").display().to_string()))
            .arg(flag("web.listen-address", &address))
            .spawn();
        Self {
            address,
            curl: server.program("curl").args(["-sG", "--max-time", "20"]),
            _running: running,
            _folder: folder,
        }
    }

    /// What its API says to a question, once it does.
    async fn api(&self, path: &str, question: &[(&str, &str)]) -> Option<Value> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let asked = question
            .iter()
            .flat_map(|(name, value)| ["--data-urlencode".to_owned(), format!("{name}={value}")]);
        let answer = self.curl.clone().args(asked).arg(url).output().await;
        let said: Value = serde_json::from_str(&answer.stdout()).ok()?;
        assert_eq!(said["status"], "success", "{question:?}: {said}");
        Some(said["data"].clone())
    }

    /// The values that an expression has now.
    async fn values(&self, expression: &str) -> Vec<f64> {
        let Some(data) = self.api("query", &[("query", expression)]).await else { return Vec::new() };
        let series = data["result"].as_array().unwrap().iter();
        series.map(|series| series["value"][1].as_str().unwrap().parse().unwrap()).collect()
    }

    async fn wait_until(&self, expression: &str, holds: impl Fn(&[f64]) -> bool) {
        poll_until(expression, PATIENCE, async || holds(&self.values(expression).await).then_some(())).await;
    }
}

/// Where `script/bootstrap --test` puts it, else the machine's own.
fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_coracle")).ancestors().nth(2).unwrap();
    let unpacked = target.join("prometheus/usr/bin/prometheus");
    if unpacked.exists() { unpacked } else { "prometheus".into() }
}

/// As Grafana asks: for all servers, over its usual time.
fn asked(expression: &str) -> String {
    expression.replace("$instance", ".*").replace("$__rate_interval", "5m")
}

#[tokio::test]
async fn the_dashboard_has_data_and_the_alerts_are_understood() {
    let server = TestServer::builder().forwarding().section(LISTEN).start().await;
    let prometheus = Prometheus::start(&server);
    prometheus.wait_until(r#"up{job="coracle"}"#, |up| up == [1.0]).await;

    // What happens now is between two looks.
    prometheus.wait_until("coracle_logins_total", |logins| logins == [0.0]).await;
    server.ssh(&["echo something"]).output().await.assert_success();
    server.assert_all_gone_within(PATIENCE).await;

    // A rate is made of two looks.
    prometheus
        .wait_until("increase(coracle_logins_total[5m])", |logins| logins.iter().any(|logins| *logins > 0.0))
        .await;
    let dashboard: Value = serde_json::from_str(&top_level("docs/grafana.json")).unwrap();
    let mut queries = Vec::new();
    expressions(&dashboard, &mut queries);
    assert!(OFTEN_EMPTY.iter().all(|query| queries.iter().any(|other| other == query)), "{queries:#?}");
    for query in queries.iter().filter(|query| !OFTEN_EMPTY.contains(&query.as_str())) {
        prometheus.wait_until(&asked(query), |values| !values.is_empty()).await;
    }
    for shown in ["logins_total", "sessions_ended_total", "container_removals_total"] {
        let rate = format!("sum(rate(coracle_{shown}[5m]))");
        prometheus.wait_until(&rate, |rate| rate.iter().any(|rate| *rate > 0.0)).await;
    }
    for times in ["login_duration", "launch_duration", "session_first_output"] {
        let median =
            format!("histogram_quantile(0.5, sum by (le) (rate(coracle_{times}_seconds_bucket[5m])))");
        let within = |times: &[f64]| times.iter().any(|time| *time > 0.0 && *time < PATIENCE.as_secs_f64());
        prometheus.wait_until(&median, within).await;
    }

    let groups = prometheus.api("rules", &[]).await.unwrap()["groups"].clone();
    assert!(groups[0]["rules"].as_array().unwrap().len() > 5, "{groups}");
    poll_until("every rule was tried", PATIENCE, async || {
        let groups = prometheus.api("rules", &[]).await?["groups"].clone();
        let rules = groups[0]["rules"].as_array()?.clone();
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{groups}");
        rules.iter().all(|rule| rule["health"] == "ok").then_some(())
    })
    .await;
    server.stop().await;
}
