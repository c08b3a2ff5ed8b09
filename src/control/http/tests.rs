use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bounded::{REQUEST_BYTES_MAX, REQUEST_TIME};
use super::readiness::{FRESH, LOOK_DEADLINE};
use super::*;

/// An engine that can be asked, and counts how often it is.
#[derive(Default)]
struct Engine {
    looks: AtomicUsize,
    is_away: AtomicBool,
    hangs: AtomicBool,
    drains: AtomicBool,
}

#[async_trait]
impl Health for Engine {
    fn alive(&self) -> Result<(), String> {
        Ok(())
    }

    fn draining(&self) -> bool {
        self.drains.load(Ordering::Relaxed)
    }

    async fn complaints(&self) -> Vec<String> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let away = self.is_away.load(Ordering::Relaxed);
        away.then(|| "engine: it is away".to_owned()).into_iter().collect()
    }
}

struct Served {
    engine: Arc<Engine>,
    address: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
}

async fn serve() -> Served {
    let endpoint = HttpEndpoint::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = endpoint.address().unwrap();
    let (engine, tasks, stop) = (Arc::new(Engine::default()), TaskTracker::new(), CancellationToken::new());
    let health = Arc::clone(&engine) as Arc<dyn Health>;
    tasks.spawn(endpoint.serve(Arc::default(), health, tasks.clone(), stop.clone()));
    Served { engine, address, tasks, stop }
}

impl Served {
    /// What comes for these bytes until the connection is closed.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        let mut answer = String::new();
        drop(tcp.read_to_string(&mut answer).await);
        answer
    }

    async fn get(&self, path: &str) -> String {
        self.say(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await
    }
}

#[tokio::test]
async fn there_are_three_pages_to_be_read_and_nothing_to_be_written() {
    let served = serve().await;

    let metrics = served.get("/metrics").await;
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(served.get("/livez").await.ends_with("\r\n\r\nalive\n"));
    assert!(served.get("/readyz").await.ends_with("\r\n\r\nready\n"));
    assert!(served.get("/").await.starts_with("HTTP/1.1 404 "));
    let head = served.say(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let posted = served.say(b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
}

#[tokio::test]
async fn what_is_wrong_is_said_a_line_each_and_the_end_of_the_server_first() {
    let served = serve().await;
    served.engine.is_away.store(true, Ordering::Relaxed);

    let away = served.get("/readyz").await;
    served.engine.drains.store(true, Ordering::Relaxed);
    let draining = served.get("/readyz").await;

    assert!(away.starts_with("HTTP/1.1 503 ") && away.ends_with("\r\n\r\nengine: it is away\n"), "{away}");
    assert!(draining.starts_with("HTTP/1.1 503 ") && draining.contains("draining: "), "{draining}");
    assert!(served.get("/livez").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn probes_by_the_hundred_are_one_question_to_the_engine() {
    let served = serve().await;

    let begun = Instant::now();
    futures::future::join_all((0..100).map(|_| served.get("/readyz"))).await;

    let looks = served.engine.looks.load(Ordering::Relaxed) as u128;
    assert!(looks >= 1 && looks <= 1 + begun.elapsed().as_millis() / FRESH.as_millis(), "{looks}");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_answer_is_told_in_time_also_to_who_did_not_wait() {
    let engine = Arc::new(Engine::default());
    engine.hangs.store(true, Ordering::Relaxed);
    let readiness = Readiness::new(Arc::clone(&engine) as Arc<dyn Health>, TaskTracker::new());
    for _ in 0..10 {
        assert!(tokio::time::timeout(Duration::from_millis(1), readiness.complaints()).await.is_err());
    }

    let complaints = readiness.complaints().await;

    assert_eq!(complaints, [format!("engine: no answer within {}s", LOOK_DEADLINE.as_secs())]);
    assert_eq!(engine.looks.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_request_that_has_no_end_is_not_kept() {
    let served = serve().await;

    let endless = served.say(&vec![b'x'; 2 * REQUEST_BYTES_MAX]).await;
    let header = format!("GET /livez HTTP/1.1\r\nX: {}", "y".repeat(2 * REQUEST_BYTES_MAX));
    let long = served.say(header.as_bytes()).await;

    assert!(!endless.contains(" 200 ") && !long.contains(" 200 "), "{endless}{long}");
}

#[tokio::test]
async fn who_says_nothing_is_sent_away() {
    let served = serve().await;
    let begun = Instant::now();

    let answer = served.say(b"GET /livez HTT").await;

    assert!(!answer.contains(" 200 "), "{answer}");
    assert!(begun.elapsed() + Duration::from_secs(1) >= REQUEST_TIME);
}

#[tokio::test]
async fn it_ends_with_the_server_whoever_is_connected() {
    let served = serve().await;
    let _idle = TcpStream::connect(served.address).await.unwrap();
    served.get("/livez").await;

    served.stop.cancel();
    served.tasks.close();

    tokio::time::timeout(CLOSING_TIME * 10, served.tasks.wait()).await.expect("it ends");
    assert!(TcpStream::connect(served.address).await.is_err());
}
