//! The thread that sends what is spooled: one batch after the other, each of them for as long as it takes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Counters;
use super::spool::{Segment, Spool};
use crate::hook::{Delivery, Undelivered};
use crate::secret::Secret;

/// How long a wait for records is, between looks at whether there is an end.
const IDLE: Duration = Duration::from_secs(1);

/// First pause between tries; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// Longest pause between tries: a service that is back has all of it within a minute.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// As everybody calls it who takes lines of JSON.
const CONTENT_TYPE: &str = "application/x-ndjson";

/// Sends batches.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) spool: Arc<Spool>,
    pub(super) delivery: Delivery,
    /// Empty for none.
    pub(super) authorization_file: PathBuf,
    pub(super) counters: Arc<Counters>,
    /// When to stop, once that is known.
    pub(super) deadline: watch::Receiver<Option<Instant>>,
}

impl Sender {
    /// Sends until the spool is closed and empty, or until the deadline or a failure after that; the rest waits for the next start.
    pub(super) fn run(self, runtime: &Handle) {
        let mut pause = PAUSE_MIN;
        let mut complaint = None;
        loop {
            let Some(segment) = self.spool.oldest(IDLE) else {
                if self.spool.is_closed() {
                    return;
                }
                continue;
            };
            let outcome = self.send(segment, runtime);
            let Err(undelivered) = outcome else {
                pause = PAUSE_MIN;
                if complaint.take().is_some() {
                    tracing::info!(url = self.delivery.shown(), "the audit stream is sent again");
                }
                continue;
            };
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
            // Once for each way in which it does not work: it may go on for days.
            let kind = std::mem::discriminant(&undelivered);
            if complaint.replace(kind) != Some(kind) {
                self.complain(&undelivered);
            }
            // Whoever waits for the end is not to wait for a service that is away.
            if self.spool.is_closed() {
                let bytes = self.spool.bytes();
                return tracing::warn!(
                    bytes,
                    "records of the audit stream wait for the next start to be sent"
                );
            }
            // Servers that lost their service together must not come back together.
            self.spool.rest(pause.mul_f64(rand::rng().random_range(0.5..=1.0)));
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// `Ok` where the batch is where it belongs, or has been put aside.
    fn send(&self, segment: Segment, runtime: &Handle) -> Result<(), Undelivered> {
        let records = match self.spool.read(segment) {
            Ok(records) => records,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::error!(
                    "records of the audit stream were removed from the spool before they were sent"
                );
                self.spool.forget(segment);
                return Ok(());
            }
            Err(error) => return Err(Undelivered::UntilMended(format!("its spool cannot be read: {error}"))),
        };
        let count = records.split_inclusive(|byte| *byte == b'\n').count() as u64;
        let authorization = self.authorization()?;
        let sent = self.delivery.post(Bytes::from(records), CONTENT_TYPE, authorization.as_ref());
        let sent = runtime.block_on(async {
            tokio::select! {
                sent = sent => sent,
                () = end(self.deadline.clone()) => Err(Undelivered::ForNow("the server ends".to_owned())),
            }
        });
        match sent {
            Ok(()) => {
                self.counters.sent.fetch_add(count, Ordering::Relaxed);
                self.spool.sent(segment);
                Ok(())
            }
            Err(Undelivered::Refused(status)) => {
                self.counters.rejected.fetch_add(count, Ordering::Relaxed);
                tracing::error!(
                    url = self.delivery.shown(),
                    status,
                    records = count,
                    "records of the audit stream are refused; they are in the spool as `rejected-…`"
                );
                self.spool.rejected(segment);
                Ok(())
            }
            Err(undelivered) => Err(undelivered),
        }
    }

    /// Read each time: tokens are renewed.
    fn authorization(&self) -> Result<Option<Secret<String>>, Undelivered> {
        let file = &self.authorization_file;
        if file.as_os_str().is_empty() {
            return Ok(None);
        }
        match std::fs::read_to_string(file) {
            Ok(text) => Ok(Some(Secret::new(text.trim().to_owned()))),
            Err(error) => Err(Undelivered::UntilMended(format!(
                "`authorizationFile`: `{}` cannot be read: {error}",
                file.display()
            ))),
        }
    }

    fn complain(&self, undelivered: &Undelivered) {
        let (url, reason) = (self.delivery.shown(), undelivered.to_string());
        if matches!(undelivered, Undelivered::ForNow(_)) {
            tracing::warn!(url, reason, "the audit stream cannot be sent; it waits in the spool");
        } else {
            let what = "the audit stream cannot be sent before that is mended; it waits in the spool";
            tracing::error!(url, reason, "{what}");
        }
    }
}

/// Waits until sending has to end.
async fn end(mut deadline: watch::Receiver<Option<Instant>>) {
    let at = deadline.wait_for(Option::is_some).await.ok().and_then(|at| *at);
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
