//! A way to a registry that breaks off half-way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Leads to `registry` until it has given out so many bytes; after that nothing comes through.
pub(crate) struct Faltering {
    pub(crate) address: String,
    _accept: AbortOnDropHandle<()>,
}

impl Faltering {
    pub(crate) async fn before(registry: &str, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let accept = accept(listener, registry.to_owned(), Arc::new(AtomicUsize::new(bytes)));
        #[expect(clippy::disallowed_methods, reason = "the handle owns it")]
        Self { address, _accept: AbortOnDropHandle::new(tokio::spawn(accept)) }
    }
}

async fn accept(listener: TcpListener, registry: String, left: Arc<AtomicUsize>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (registry, left) = (registry.clone(), Arc::clone(&left));
        connections.spawn(async move {
            // Either side may go at any time.
            drop(relay(client, &registry, &left).await);
        });
    }
}

async fn relay(mut client: TcpStream, registry: &str, left: &AtomicUsize) -> std::io::Result<()> {
    let mut registry = TcpStream::connect(registry).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_registry, mut to_registry) = registry.split();
    let back = async {
        let mut piece = vec![0; 16 << 10];
        loop {
            let count = from_registry.read(&mut piece).await?;
            let before = left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(count)));
            if count == 0 || before.unwrap_or_default() < count {
                return Ok(());
            }
            to_client.write_all(piece.get(..count).unwrap_or_default()).await?;
        }
    };
    tokio::select! {
        done = back => done,
        done = tokio::io::copy(&mut from_client, &mut to_registry) => done.map(drop),
    }
}
