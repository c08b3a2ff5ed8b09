//! What a service manager is told, by one that is played: a datagram socket, as `sd_notify(3)` has it.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Home, SOON, Server, poll};

/// Somebody who waits for news.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// Starts a server that tells this manager, with an engine that is away: nobody logs in here.
    fn start(home: &Home, environment: &[(&str, String)], grace: &str) -> (Self, Server) {
        let path = home.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let config = format!(
            "stateDir: state\nssh: {{listen: '127.0.0.1:0'}}\nshutdown: {{grace: {grace}}}\n\
             docker: {{host: 'unix:///nonexistent/docker.sock'}}\n"
        );
        std::fs::write(home.path("config.yaml"), config).unwrap();
        let mut command = home.command(&["serve"]);
        command.env("NOTIFY_SOCKET", path).envs(environment.iter().cloned());
        (Self { socket }, Server::start(command))
    }

    /// The next message, its lines.
    fn next(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect()
    }
}

fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000 + u64::try_from(now.tv_nsec).unwrap() / 1000
}

#[test]
fn a_manager_hears_when_clients_can_connect_of_a_reload_and_of_the_end() {
    let home = Home::new();
    let (manager, mut server) = Manager::start(&home, &[], "7s");

    let ready = manager.next();
    let address = server.address();
    assert_eq!(ready, ["READY=1".to_owned(), format!("STATUS=listening on {address}")]);
    std::net::TcpStream::connect(address).expect("it said that it is ready");

    let asked = monotonic_micros();
    server.signal(Signal::HUP);
    let reloading = manager.next();
    assert_eq!(reloading[0], "RELOADING=1");
    let told: u64 = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
    assert!((asked..=monotonic_micros()).contains(&told), "{asked} {told}");
    assert_eq!(manager.next()[0], "READY=1");

    // Also of one that changes nothing, or the manager would wait for ever.
    std::fs::write(home.path("config.yaml"), "ssh: {listn: x}").unwrap();
    server.signal(Signal::HUP);
    assert_eq!((manager.next()[0].as_str(), manager.next()[0].as_str()), ("RELOADING=1", "READY=1"));

    server.signal(Signal::TERM);
    let stopping = manager.next();
    assert_eq!(stopping[0], "STOPPING=1");
    assert!(stopping.contains(&"EXTEND_TIMEOUT_USEC=120000000".to_owned()), "{stopping:?}");
    drop(server);
}

#[test]
fn a_watchdog_is_fed_twice_in_its_time_and_not_by_a_server_that_hangs() {
    let home = Home::new();
    let limit = Duration::from_secs(2);
    let watchdog = [("WATCHDOG_USEC", limit.as_micros().to_string())];
    let (manager, server) = Manager::start(&home, &watchdog, "1s");
    let fed = || poll("a sign of life", || Some(manager.next()).filter(|news| news == &["WATCHDOG=1"]));
    fed();
    let begun = Instant::now();

    for _ in 0..4 {
        fed();
    }

    let each = begun.elapsed() / 4;
    assert!(each > limit / 4 && each < limit, "one in {each:?}");
    server.signal(Signal::STOP);
    manager.socket.set_read_timeout(Some(limit * 2)).unwrap();
    let mut buffer = [0; 64];
    // One may have been under way.
    let heard = (0..2).filter(|_| manager.socket.recv(&mut buffer).is_ok()).count();
    assert!(heard < 2, "a server that is stopped is not alive");
    server.signal(Signal::CONT);
    manager.socket.set_read_timeout(Some(SOON)).unwrap();
    fed();
    server.stop();
}

#[test]
fn a_watchdog_of_somebody_else_is_left_alone_and_without_a_manager_nobody_is_told() {
    let home = Home::new();
    let watchdog = [("WATCHDOG_USEC", "100000".to_owned()), ("WATCHDOG_PID", "1".to_owned())];
    let (manager, mut server) = Manager::start(&home, &watchdog, "1s");
    manager.next();
    server.address();

    manager.socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();

    assert!(manager.socket.recv(&mut [0; 64]).is_err());
    server.stop();
    let mut without = home.serve(&[]);
    without.address();
    assert!(!without.stderr().contains("service manager"), "{}", without.stderr());
    without.stop();
}
