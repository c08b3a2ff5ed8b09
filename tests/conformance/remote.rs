//! An engine on another machine: what stands for the network between is a port on this one.

use std::path::PathBuf;

use coracle::engine::docker::Endpoint;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Passes on whatever comes to a port. It ends with this.
pub(crate) struct Wire {
    pub(crate) endpoint: Endpoint,
    _accept: AbortOnDropHandle<()>,
}

impl Wire {
    pub(crate) fn to(engine: PathBuf) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a socket");
        let accept = async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let engine = engine.clone();
                connections.spawn(async move {
                    let mut engine = UnixStream::connect(&engine).await?;
                    copy_bidirectional(&mut client, &mut engine).await.map(drop)
                });
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the handle ends it")]
        let accept = AbortOnDropHandle::new(tokio::spawn(accept));
        Self { endpoint: format!("tcp://{address}").parse().expect("an endpoint"), _accept: accept }
    }
}
