//! A forward's way to its client: russh's write half of a channel as a [`Client`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::login::Admitted;
use super::shared::Shared;
use super::slots::Outlet;
use crate::forward::{Client, Ending, Tunnel};

/// How long a client that has said and heard all has to close the channel by itself, as OpenSSH's does at once. Of one
/// that we close russh keeps a few kilobytes until the connection's end (read in its source), and there may be
/// thousands.
const CLOSE_COURTESY: Duration = Duration::from_secs(1);

struct TunnelClient {
    write: ChannelWriteHalf<Msg>,
    shared: Arc<Shared>,
    closed: CancellationToken,
    /// Cancelled when the client has said all.
    ended: CancellationToken,
    /// Whether the client has heard all.
    told_all: AtomicBool,
    /// The callbacks may forget of the channel when this goes.
    _over: DropGuard,
}

/// A channel whose read half is gone: what comes in goes through `outlet`.
pub(super) fn tunnel(
    write: ChannelWriteHalf<Msg>,
    outlet: Outlet,
    shared: &Arc<Shared>,
    admitted: &Admitted,
    revoked: BoxFuture<'static, ()>,
) -> Tunnel {
    let Outlet { input, closed, overflowed, ended, over, .. } = outlet;
    let client = TunnelClient {
        write,
        shared: Arc::clone(shared),
        closed: closed.clone(),
        ended,
        told_all: AtomicBool::new(false),
        _over: over,
    };
    let (cut, over) = (shared.cut.clone(), shared.over.clone());
    let container_goes = !admitted.profile.pool.keeps_containers();
    let ending = Ending { closed, overflowed, cut, revoked, over, container_goes };
    Tunnel { client: Arc::new(client), input, ending }
}

#[async_trait]
impl Client for TunnelClient {
    async fn data(&self, chunk: Bytes) -> io::Result<()> {
        self.shared.activity.note();
        // The wait for window does not end when the channel does: russh wakes nobody then.
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(io::ErrorKind::BrokenPipe.into()),
            sent = self.write.data_bytes(chunk) => sent.map_err(io::Error::other),
        }
    }

    async fn eof(&self) {
        self.told_all.store(true, Ordering::Relaxed);
        tokio::select! {
            biased;
            () = self.closed.cancelled() => {}
            _ = self.write.eof() => {}
        }
    }

    async fn close(&self) {
        if self.told_all.load(Ordering::Relaxed) && self.ended.is_cancelled() {
            drop(timeout(CLOSE_COURTESY, self.closed.cancelled()).await);
        }
        tokio::select! {
            biased;
            () = self.closed.cancelled() => {}
            _ = self.write.close() => {}
        }
    }
}
