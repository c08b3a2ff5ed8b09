//! A session channel's way to its client: russh's write half as a [`Client`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use russh::server::{Handle, Msg};
use russh::{ChannelId, ChannelWriteHalf, Sig};
use tokio_util::sync::CancellationToken;

use super::files::FileWatch;
use super::rescue;
use super::shared::Shared;
use super::slots::Inlet;
use crate::engine::{ExitStatus, Signal};
use crate::events::Happening;
use crate::recording::{Stream, Tap};
use crate::session::{Client, SessionError};

/// Longest `TERM` that we pass on, in bytes.
const TERM_BYTES_MAX: usize = 64;

/// Data type code of RFC 4254 §5.2.
const SSH_EXTENDED_DATA_STDERR: u32 = 1;

/// The client's end of one channel.
pub(super) struct ChannelClient {
    write: ChannelWriteHalf<Msg>,
    handle: Handle,
    closed: CancellationToken,
    files: Option<Arc<FileWatch>>,
    shared: Arc<Shared>,
    /// Which of the connection's sessions.
    session: u32,
    tap: Tap,
    begun: Instant,
    /// Bytes of the program's.
    sent: AtomicU64,
}

impl ChannelClient {
    pub(super) fn new(
        write: ChannelWriteHalf<Msg>,
        handle: Handle,
        inlet: &Inlet,
        shared: Arc<Shared>,
        session: u32,
    ) -> Arc<Self> {
        let (begun, sent) = (Instant::now(), AtomicU64::new(0));
        let (closed, files) = (inlet.closed.clone(), inlet.files.clone());
        let tap = inlet.tap.clone();
        Arc::new(Self { write, handle, closed, files, shared, session, tap, begun, sent })
    }

    /// How much of the program's output went to the client, in bytes.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn note(&self, chunk: &Bytes) {
        self.shared.activity.note();
        if self.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed) == 0 {
            let (session, after) = (self.session, self.begun.elapsed());
            self.shared.teller.tell(&Happening::FirstOutput { session, after });
        }
    }

    /// Shows what the connection's users are to know, for as long as it is awaited. Never ends.
    pub(super) async fn show_notices(&self) {
        let mut notices = self.shared.notice.clone();
        loop {
            let notice = notices.borrow_and_update().clone();
            if let Some(notice) = notice {
                // No activity: what warns of a silence must not end it.
                drop(self.send_stderr(rescue::notice(&notice)).await);
            }
            if notices.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends the channel: the reason if there is one, exit-status or exit-signal, EOF, close, in this order.
    pub(super) async fn finish(&self, result: Result<ExitStatus, SessionError>, has_terminal: bool) {
        if let Some(files) = &self.files {
            files.end();
        }
        let connection = &self.shared.id;
        let status = match result {
            Ok(status) => status,
            Err(error) => {
                if let Some(line) = rescue::line(&error, connection, has_terminal) {
                    tracing::warn!(%connection, %error, "a session failed");
                    drop(self.stderr(line).await);
                }
                ExitStatus::Exited(rescue::EXIT_STATUS_OURS)
            }
        };
        let id = self.write.id();
        let end = async {
            match status {
                ExitStatus::Exited(status) => drop(self.write.exit_status(status).await),
                ExitStatus::Signaled(signal) => drop(self.exit_signal(id, signal).await),
            }
            drop(self.write.eof().await);
            drop(self.write.close().await);
        };
        tokio::select! {
            biased;
            () = self.closed.cancelled() => {}
            () = end => {}
        }
    }

    async fn send_stderr(&self, chunk: Bytes) -> io::Result<()> {
        self.tap.output(Stream::Stderr, &chunk);
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(io::ErrorKind::BrokenPipe.into()),
            sent = self.write.extended_data_bytes(SSH_EXTENDED_DATA_STDERR, chunk) => sent.map_err(io::Error::other),
        }
    }

    async fn exit_signal(&self, id: ChannelId, signal: Signal) -> Result<(), ()> {
        self.handle.exit_signal_request(id, to_russh(signal), false, String::new(), String::new()).await
    }
}

#[async_trait]
impl Client for ChannelClient {
    async fn stdout(&self, chunk: Bytes) -> io::Result<()> {
        self.note(&chunk);
        self.tap.output(Stream::Stdout, &chunk);
        if let Some(files) = &self.files {
            files.answer(&chunk);
        }
        // The wait for window does not end when the channel does: russh wakes nobody then.
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(io::ErrorKind::BrokenPipe.into()),
            sent = self.write.data_bytes(chunk) => sent.map_err(io::Error::other),
        }
    }

    async fn stderr(&self, chunk: Bytes) -> io::Result<()> {
        self.note(&chunk);
        self.send_stderr(chunk).await
    }
}

/// RFC 4254 §6.9; `None` for what POSIX does not know.
pub(super) fn from_russh(signal: &Sig) -> Option<Signal> {
    match signal {
        Sig::ABRT => Some(Signal::Abrt),
        Sig::ALRM => Some(Signal::Alrm),
        Sig::FPE => Some(Signal::Fpe),
        Sig::HUP => Some(Signal::Hup),
        Sig::ILL => Some(Signal::Ill),
        Sig::INT => Some(Signal::Int),
        Sig::KILL => Some(Signal::Kill),
        Sig::PIPE => Some(Signal::Pipe),
        Sig::QUIT => Some(Signal::Quit),
        Sig::SEGV => Some(Signal::Segv),
        Sig::TERM => Some(Signal::Term),
        Sig::USR1 => Some(Signal::Usr1),
        Sig::Custom(name) => Signal::from_name(name),
    }
}

fn to_russh(signal: Signal) -> Sig {
    match signal {
        Signal::Abrt => Sig::ABRT,
        Signal::Alrm => Sig::ALRM,
        Signal::Fpe => Sig::FPE,
        Signal::Hup => Sig::HUP,
        Signal::Ill => Sig::ILL,
        Signal::Int => Sig::INT,
        Signal::Kill => Sig::KILL,
        Signal::Pipe => Sig::PIPE,
        Signal::Quit => Sig::QUIT,
        Signal::Segv => Sig::SEGV,
        Signal::Term => Sig::TERM,
        Signal::Usr1 => Sig::USR1,
        Signal::Usr2 => Sig::Custom("USR2".to_owned()),
    }
}

/// Only what may stand in an environment and a terminfo path; anything else is a terminal we know nothing about.
pub(super) fn sane_term(term: &str) -> String {
    let sane = !term.is_empty()
        && term.len() <= TERM_BYTES_MAX
        && term.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
    if sane { term.to_owned() } else { "dumb".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P10
    #[test]
    fn a_terminal_name_cannot_carry_anything_else() {
        assert_eq!(sane_term("xterm-256color"), "xterm-256color");
        for hostile in ["", "a\nb", "\x1b[2J", "a;b", "../../x", "x y", &"x".repeat(512)] {
            assert_eq!(sane_term(hostile), "dumb", "{hostile:?}");
        }
    }
}
