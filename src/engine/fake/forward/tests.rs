use super::*;
use crate::engine::fake::tests::container;

fn web() -> Address {
    Address::Tcp { host: "web".to_owned(), port: 80 }
}

fn dial_web() -> DialSpec {
    DialSpec { to: web(), spares_neighbours: true }
}

async fn heard(process: &mut Process) -> String {
    let mut heard = String::new();
    while let Some(Ok(Output::Stdout(piece))) = process.output.next().await {
        heard += &String::from_utf8_lossy(&piece);
    }
    heard
}

#[tokio::test]
async fn who_is_served_can_be_dialled_and_half_closed() {
    let (engine, container) = container().await;
    assert!(matches!(container.dial(&dial_web()).await, Err(ForwardError::Unreachable(_))));
    engine.serve(&web(), Service::Echo);
    let mut process = container.dial(&dial_web()).await.expect("a connection");

    process.stdin.write_all(b"hello").await.expect("to say it");
    process.stdin.shutdown().await.expect("a half-close");

    assert_eq!(heard(&mut process).await, "hello");
    assert_eq!(process.control.wait().await.ok(), Some(ExitStatus::Exited(0)));
}

#[tokio::test]
async fn a_neighbour_is_spared_or_not() {
    let (engine, container) = container().await;
    engine.serve(&web(), Service::Neighbour);

    assert!(matches!(container.dial(&dial_web()).await, Err(ForwardError::Forbidden(_))));
    assert!(container.dial(&DialSpec { to: web(), spares_neighbours: false }).await.is_ok());
}

#[tokio::test]
async fn a_caller_is_taken_in_until_nothing_listens() {
    let (engine, container) = container().await;
    let any = Address::Tcp { host: "localhost".to_owned(), port: 0 };
    let mut listener = container.listen(&ListenSpec::At(any)).await.expect("a listener");
    let at = Address::Tcp { host: "127.0.0.1".to_owned(), port: listener.port() };
    let mut caller = engine.call(&at).expect("somebody listens");

    let mut accepted = listener.accept().await.expect("a caller");
    caller.write_all(b"hello").await.expect("to say it");
    drop(caller);

    assert_eq!(heard(&mut accepted.process).await, "hello");
    drop(listener);
    assert!(engine.call(&at).is_none());
}

#[tokio::test]
async fn a_connection_ends_when_it_is_killed_or_nobody_has_it() {
    let (engine, container) = container().await;
    let (sender, mut calls) = mpsc::channel(2);
    engine.serve(&web(), Service::Played(sender));
    let killed = container.dial(&dial_web()).await.expect("a connection");
    let left = container.dial(&dial_web()).await.expect("a connection");

    killed.control.signal(Signal::Kill).await.expect("a signal");
    drop(left);

    for _ in 0..2 {
        let mut caller = calls.recv().await.expect("a call");
        assert_eq!(caller.read(&mut [0; 1]).await.expect("an end"), 0);
    }
    assert_eq!(killed.control.wait().await.ok(), Some(ExitStatus::Signaled(Signal::Kill)));
}
