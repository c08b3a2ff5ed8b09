use std::time::Duration;

use super::*;
use crate::events::{Events, Happening};
use crate::ids::ConnectionId;

#[test]
fn what_is_exposed_has_a_name_of_ours_a_type_and_a_help_text() {
    let text = Metrics::default().text();

    assert!(text.ends_with("# EOF\n"));
    let named = |prefix: &str| text.lines().filter(|line| line.starts_with(prefix)).count();
    assert_eq!(named("# HELP "), named("# TYPE "));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("coracle_"), "{line}");
    }
}

#[test]
fn a_container_that_was_not_waited_for_counts_as_abandoned() {
    let metrics = Metrics::default();

    drop(metrics.containers.launch(Way::Cold));
    metrics.containers.launch(Way::Warm).ended(Outcome::Ready);

    let text = metrics.text();
    assert!(text.contains(r#"coracle_launches_total{way="cold",outcome="abandoned"} 1"#), "{text}");
    assert!(text.contains(r#"coracle_launch_duration_seconds_count{way="warm"} 1"#), "{text}");
    assert_eq!(metrics.containers.starting(), 0);
}

#[test]
fn the_pool_is_asked_whenever_somebody_wants_to_know() {
    let metrics = Metrics::default();
    metrics.containers.count_by(|| Tally { live: 3, wanted: 2, ..Tally::default() });

    let text = metrics.text();

    assert!(text.contains(r#"coracle_containers{state="live"} 3"#), "{text}");
    assert!(text.contains("coracle_pool_wanted 2"), "{text}");
}

#[test]
fn connections_count_from_their_first_to_their_last_word() {
    let metrics = std::sync::Arc::new(Metrics::default());
    let events = Events::new(vec![metrics.clone()]);
    let client = "192.0.2.1:5".parse().unwrap();
    events.tell_refusal(client, "startups");
    let teller = events.of_connection(ConnectionId::random(), client);
    teller.tell(&Happening::Connected { server: client });
    assert!(metrics.text().contains("coracle_connections 1"));

    let duration = Duration::from_secs(2);
    teller.tell(&Happening::Disconnected { stage: "no-ssh", error: None, duration });

    let text = metrics.text();
    for line in [
        "coracle_connections 0",
        r#"coracle_connections_turned_away_total{reason="startups"} 1"#,
        r#"coracle_handshakes_total{result="failed"} 1"#,
        r#"coracle_connection_duration_seconds_sum{stage="no-ssh"} 2.0"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn an_address_that_others_can_reach_is_worth_a_warning() {
    let warns = |listen: &str| Config { listen: Some(listen.parse().unwrap()) }.warning().is_some();

    assert!(!warns("127.0.0.1:9100") && !warns("[::1]:9100"));
    assert!(warns("0.0.0.0:9100"));
    assert_eq!(Config::default().warning(), None);
}
