//! A proxy that announces whose connection it passes on, as `HAProxy` does.

use std::net::{SocketAddr, SocketAddrV4};

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A connection to `target` from another address of this machine's own.
pub(crate) async fn connect_from(source: &str, target: SocketAddrV4) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{source}:0").parse().unwrap()).expect("an address of the loopback network");
    socket.connect(target.into()).await.expect("the server listens")
}

/// Listens on a port of its own; each of its connections to `target` comes from `source` and begins with `header`.
pub(crate) async fn announcing_proxy(
    source: &'static str,
    header: Vec<u8>,
    target: SocketAddrV4,
) -> SocketAddrV4 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let SocketAddr::V4(address) = listener.local_addr().expect("a bound socket") else { unreachable!() };
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = connect_from(source, target).await;
            let header = header.clone();
            tokio::spawn(async move {
                // In two pieces, as a slow network might.
                let (begin, end) = header.split_at(header.len() / 2);
                for piece in [begin, end] {
                    drop(server.write_all(piece).await);
                    tokio::task::yield_now().await;
                }
                drop(copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    address
}
