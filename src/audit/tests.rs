use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use super::config::{HttpConfig, SpoolConfig};
use super::*;
use crate::events::{Events, Happening, Teller};
use crate::value::{ByteSize, Timeout};

const SPOOL_BYTES: u64 = 1 << 20;

/// Takes one batch, and says so.
fn take(stream: &mut TcpStream, taken: &Mutex<Vec<u8>>) -> Option<()> {
    let mut reader = BufReader::new(&mut *stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    taken.lock().unwrap().extend(body);
    stream.write_all(b"HTTP/1.1 204 -\r\nconnection: close\r\n\r\n").ok()
}

/// Waits until `condition` holds, and tells something now and then.
async fn until(teller: &Teller, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_mins(1), "in vain");
        teller.tell(&Happening::Ending { reason: "once more".to_owned() });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_bounds_nobody_comes_in_and_what_is_lost_is_confessed_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", service.local_addr().unwrap()).parse().unwrap();
    let config = Config {
        http: HttpConfig { url, timeout: Timeout::from_seconds(30), ..HttpConfig::default() },
        spool: SpoolConfig {
            dir: Some(folder.path().join("spool")),
            max_bytes: ByteSize::from_bytes(SPOOL_BYTES),
        },
        on_failure: OnFailure::Refuse,
        ..Config::default()
    };
    let audit = Audit::start(&config, &InstanceId::random(), folder.path()).unwrap();
    let (events, counters) = (Events::new(audit.witness().into_iter().collect()), audit.counters());
    let teller = events.of_connection(ConnectionId::random(), "192.0.2.1:5".parse().unwrap());
    assert_eq!(events.objection(), None);

    // Nobody answers: it fills the spool, and then the queue.
    while counters.lost.load(Ordering::Relaxed) < 100 {
        teller.tell(&Happening::Ending { reason: "enough".to_owned() });
    }
    assert!(events.objection().is_some());
    let spooled = || {
        let files = std::fs::read_dir(folder.path().join("spool")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    until(&teller, || spooled() > SPOOL_BYTES / 2).await;
    assert!(spooled() <= SPOOL_BYTES && events.objection().is_some());

    let taken = Arc::<Mutex<Vec<u8>>>::default();
    let taking = Arc::clone(&taken);
    std::thread::spawn(move || {
        for stream in service.incoming() {
            take(&mut stream.unwrap(), &taking).unwrap_or_default();
        }
    });
    let has = |text: &str| String::from_utf8_lossy(&taken.lock().unwrap()).contains(text);
    until(&teller, || has("\"lost\"")).await;
    until(&teller, || events.objection().is_none()).await;
    audit.finish().await;

    let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
    let (mut before, mut lost) = (0, 0);
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let seq = record["seq"].as_u64().unwrap();
        if record["event"] == "lost" {
            let count = record["count"].as_u64().unwrap();
            assert_eq!(seq, before + count, "{record}");
            lost += count;
        } else if seq > before {
            assert_eq!(seq, before + 1, "a gap that nobody confesses: {record}");
        }
        before = before.max(seq);
    }
    assert_eq!(lost, counters.lost.load(Ordering::Relaxed));
    assert!(text.trim_end().ends_with(r#""event":"stopped"}"#));
}
