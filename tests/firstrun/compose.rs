//! The compose file, as far as it can be tried without a registry: `server_image.rs` brings its server up.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{assert_succeeds, text, top_level};

fn docker_compose(args: &[&str]) -> Output {
    let plugin = Command::new("docker").args(["compose", "version"]).output();
    let has_plugin = plugin.is_ok_and(|output| output.status.success());
    let mut command = Command::new(if has_plugin { "docker" } else { "docker-compose" });
    command.args(has_plugin.then_some("compose")).arg("-f").arg(top_level("docker-compose.yml")).args(args);
    command.output().expect("docker compose, or docker-compose as script/bootstrap --test installs it")
}

/// The services of the compose file as it is understood.
fn services(args: &[&str]) -> Value {
    let output = docker_compose(&[args, &["config"]].concat());
    assert_succeeds(&output);
    let config: Value = serde_saphyr::from_str(&text(&output.stdout)).unwrap();
    config["services"].clone()
}

fn command_of(service: &Value) -> String {
    service["command"].to_string()
}

#[test]
fn the_profile_with_prometheus_and_grafana_has_all_that_it_mounts_and_listens_on_loopback_only() {
    let services = services(&["--profile", "observability"]);

    for name in ["server", "prometheus", "grafana"] {
        let service = services.get(name).unwrap_or_else(|| panic!("no {name} in {services}"));
        assert_eq!(
            service["network_mode"], "host",
            "{name}: the server's numbers are on the host's loopback"
        );
        for volume in service["volumes"].as_array().unwrap() {
            // `docker-compose` of old writes them as it reads them.
            let source = volume["source"].as_str().or_else(|| volume.as_str()?.split(':').next()).unwrap();
            let is_file = source.starts_with('/') || source.starts_with('.');
            assert!(!is_file || top_level(source).exists(), "{name} mounts {source}");
        }
    }
    assert!(command_of(&services["server"]).contains("127.0.0.1:9122"));
    assert!(command_of(&services["prometheus"]).contains("--web.listen-address=127.0.0.1:9090"));
    assert!(services["grafana"]["environment"].to_string().contains("127.0.0.1"));
    let scraped = std::fs::read_to_string(top_level("packaging/prometheus/prometheus.yml")).unwrap();
    assert!(scraped.contains("127.0.0.1:9122"), "{scraped}");
    let source = std::fs::read_to_string(top_level("packaging/grafana/datasources/prometheus.yml")).unwrap();
    assert!(source.contains("http://127.0.0.1:9090"), "{source}");
}
