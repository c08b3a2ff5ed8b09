//! The network between a client and the server: it can reset a connection or fall silent.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Fine,
    /// Nothing passes any more, and nobody is told: a dropped route.
    Silent,
    /// The server gets a TCP reset.
    Reset,
}

/// Listens on a port of its own and passes everything on, for as long as the weather holds.
#[derive(Debug)]
pub(crate) struct TcpProxy {
    pub(crate) address: SocketAddrV4,
    weather: watch::Sender<Weather>,
}

impl TcpProxy {
    pub(crate) async fn to(target: SocketAddrV4) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let SocketAddr::V4(address) = listener.local_addr().expect("a bound socket") else { unreachable!() };
        let (weather, forecast) = watch::channel(Weather::Fine);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(target).await.expect("the server listens");
                tokio::spawn(pass(client, server, forecast.clone()));
            }
        });
        Self { address, weather }
    }

    pub(crate) fn fall_silent(&self) {
        self.weather.send_replace(Weather::Silent);
    }

    pub(crate) fn reset(&self) {
        self.weather.send_replace(Weather::Reset);
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, mut weather: watch::Receiver<Weather>) {
    let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let now = *weather.borrow_and_update();
        if now == Weather::Reset {
            // A zero linger time turns the close into a reset.
            drop(socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)));
            return;
        }
        let fine = now == Weather::Fine;
        let passed = tokio::select! {
            changed = weather.changed() => changed.is_ok(),
            read = client.read(&mut from_client), if fine => match read {
                Ok(count) if count > 0 => server.write_all(&from_client[..count]).await.is_ok(),
                _ => false,
            },
            read = server.read(&mut from_server), if fine => match read {
                Ok(count) if count > 0 => client.write_all(&from_server[..count]).await.is_ok(),
                _ => false,
            },
        };
        if !passed {
            return;
        }
    }
}
