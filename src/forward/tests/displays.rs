//! X11: who may use the client's display.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::callers::{Answer, Asked, House};
use super::{DEADLINE, until};
use crate::engine::ListenSpec;
use crate::forward::x11::{Credentials, Gatekeeper, Order, PROTOCOL, Setup, parse, with_authorization};
use crate::forward::{End, Manner, Refused};

const CLIENTS_COOKIE: &str = "00112233445566778899aabbccddeeff0011";

async fn display(only_one: bool) -> (Arc<Asked>, Arc<Gatekeeper>, House) {
    let credentials = Credentials::parse(PROTOCOL, CLIENTS_COOKIE).unwrap();
    let gatekeeper = Arc::new(Gatekeeper::new(credentials).unwrap());
    let spec = ListenSpec::Display { protocol: PROTOCOL.to_owned(), cookie: gatekeeper.cookie() };
    let client = Asked::who(Answer::Takes);
    let manner = Manner::Display { gatekeeper: Arc::clone(&gatekeeper), only_one };
    let house = House::of(spec, &client, manner).await;
    (client, gatekeeper, house)
}

/// What an X11 client begins with.
fn greeting(order: Order, cookie: &[u8]) -> Vec<u8> {
    let empty = Setup { order, version: (11, 0), protocol: &[], data: &[], length: 12 };
    with_authorization(&empty, PROTOCOL.as_bytes(), cookie)
}

/// F7
#[tokio::test]
async fn who_shows_our_cookie_is_let_through_with_the_clients() {
    let (client, gatekeeper, house) = display(false).await;
    let mut caller = house.engine.call(&house.at).unwrap();
    let greeting = greeting(Order::LeastSignificantFirst, gatekeeper.cookie().expose());
    let (first, rest) = greeting.split_at(20);

    caller.write_all(first).await.unwrap();
    caller.write_all(rest).await.unwrap();
    caller.write_all(b"and more").await.unwrap();

    until(|| client.channels.lock().unwrap().len() == 1, || "no channel".to_owned()).await;
    let channel = client.channel();
    until(|| channel.seen().ends_with("and more"), || channel.seen()).await;
    let seen = channel.client.seen.lock().unwrap().clone();
    let setup = parse(&seen).unwrap().unwrap();
    assert_eq!((setup.order, setup.version), (Order::LeastSignificantFirst, (11, 0)));
    assert_eq!(setup.protocol, PROTOCOL.as_bytes());
    assert_eq!(setup.data, data_encoding::HEXLOWER.decode(CLIENTS_COOKIE.as_bytes()).unwrap());
    assert_eq!(&seen[setup.length..], b"and more");
    channel.close();
    assert_eq!(client.noted().await.unwrap().end, End::Closed);
    house.end().await;
}

/// F7
#[tokio::test]
async fn who_does_not_is_refused_as_an_x_server_would_and_the_client_never_hears_of_it() {
    let (client, _gatekeeper, house) = display(false).await;
    let clients = data_encoding::HEXLOWER.decode(CLIENTS_COOKIE.as_bytes()).unwrap();
    let attempts = [
        greeting(Order::MostSignificantFirst, &[0; 16]),
        greeting(Order::MostSignificantFirst, b""),
        greeting(Order::MostSignificantFirst, &clients),
        vec![b'B', 0, 0, 11, 0, 0, 255, 255, 0, 0, 0, 0],
    ];

    for attempt in attempts {
        let mut caller = house.engine.call(&house.at).unwrap();
        caller.write_all(&attempt).await.unwrap();
        let mut answer = Vec::new();
        timeout(DEADLINE, caller.read_to_end(&mut answer)).await.unwrap().unwrap();
        drop(caller);
        assert!(answer.starts_with(&[0, 70, 0, 11, 0, 0, 0, 18]), "{answer:?}");
        assert!(String::from_utf8_lossy(&answer).contains("Authorization required"), "{answer:?}");
        assert_eq!(client.noted().await, Err(Refused::Unauthorized));
    }

    assert!(client.from.lock().unwrap().is_empty(), "the client was asked");
    house.end().await;
}

/// F7
#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_something_else_is_cut() {
    let (client, _gatekeeper, house) = display(false).await;
    for words in ["", "l", "GET / HTTP/1.1\r\n\r\n"] {
        let mut caller = house.engine.call(&house.at).unwrap();
        caller.write_all(words.as_bytes()).await.unwrap();

        let heard = timeout(DEADLINE, caller.read(&mut [0; 8])).await.expect("a deadline").unwrap();

        assert_eq!(heard, 0);
        assert_eq!(client.noted().await, Err(Refused::Unauthorized));
    }
    house.end().await;
}

/// F7
#[tokio::test]
async fn a_display_for_one_goes_with_the_first_who_comes_in() {
    let (client, gatekeeper, house) = display(true).await;
    let mut stranger = house.engine.call(&house.at).unwrap();
    stranger.write_all(&greeting(Order::MostSignificantFirst, &[9; 16])).await.unwrap();
    let mut caller = house.engine.call(&house.at).unwrap();
    let mut late = house.engine.call(&house.at).unwrap();
    for one in [&mut caller, &mut late] {
        let greeting = greeting(Order::MostSignificantFirst, gatekeeper.cookie().expose());
        one.write_all(&greeting).await.unwrap();
    }
    drop(stranger);

    client.was_asked(1).await;
    until(|| house.engine.listening().is_empty(), || "still listening".to_owned()).await;

    assert_eq!(client.from.lock().unwrap().len(), 1);
    until(|| client.channels.lock().unwrap().len() == 1, || "no channel".to_owned()).await;
    client.channel().close();
    house.end().await;
}
