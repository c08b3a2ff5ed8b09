//! Moves a program's output to the client, and the client's resizes and signals to the program.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, Fuse, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::{Client, Cut, Ending, Remains, SessionError, hang_up, signal_to_end};
use crate::engine::{ExitStatus, Output, ProcessControl, Signal, TerminalSize};

/// After this long without window the program may end unnoticed, and its last output be cut by the engine.
const HELD_UP_AFTER: Duration = Duration::from_millis(250);

/// How much of an ended program's output we keep for a client that does not read. The engine's side holds no more
/// than a pipe, its own copy buffers and a socket buffer; past this, output waits where it is.
const UNREAD_BYTES_MAX: usize = 16 << 20;

type Outputs = BoxStream<'static, io::Result<Output>>;

pub(super) struct Controls {
    pub(super) sizes: watch::Receiver<TerminalSize>,
    pub(super) signals: mpsc::Receiver<Signal>,
}

/// Relays until the output has ended, and tells how the program did. The end of output decides, not the end of
/// input: a program may outlive its stdin, and a child its parent's.
pub(super) async fn relay(
    output: Outputs,
    control: Arc<dyn ProcessControl>,
    client: &dyn Client,
    controls: Controls,
    ending: &Ending,
) -> Result<ExitStatus, SessionError> {
    // Asked once more after its end, when what was kept has been sent; not every stream bears that.
    let mut output = output.fuse();
    let relayed = tokio::select! {
        relayed = relay_output(&mut output, control.as_ref(), client) => relayed,
        () = serve(controls, control.as_ref()) => Err(SessionError::Closed),
        early = ending.came() => Err(early),
    };
    match relayed {
        Ok(()) => tokio::select! {
            status = control.wait() => Ok(status?),
            early = ending.came() => Err(early),
        },
        Err(error) => {
            match (&error, &ending.remains) {
                (SessionError::Closed | SessionError::Overflow | SessionError::Cut(Cut::Revoked), _) => {
                    while_discarding(output, hang_up(control.as_ref(), ending)).await;
                }
                (SessionError::Cut(Cut::ContainerLost(_)), _) | (_, Remains::Go(_)) => {}
                // Not before the user has been told why: a program may take its time.
                (_, Remains::Stay(tasks)) => {
                    drop(tasks.spawn(async move {
                        while_discarding(output, signal_to_end(control.as_ref())).await;
                    }));
                }
            }
            Err(error)
        }
    }
}

/// Ends a program that nobody listens to any more. What it says meanwhile goes nowhere, but is read: else its next word
/// would be its last (SIGPIPE), before it could do what it does when it is hung up.
async fn while_discarding(mut output: Fuse<Outputs>, ending: impl Future<Output = ()>) {
    let discard = async {
        while output.next().await.is_some() {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = discard => {}
        () = ending => {}
    }
}

async fn relay_output(
    output: &mut Fuse<Outputs>,
    control: &dyn ProcessControl,
    client: &dyn Client,
) -> Result<(), SessionError> {
    let mut waiting = VecDeque::new();
    loop {
        let chunk = match waiting.pop_front() {
            Some(chunk) => chunk,
            None => match output.next().await {
                Some(chunk) => chunk.map_err(SessionError::Stream)?,
                None => return Ok(()),
            },
        };
        let sending = send(client, chunk);
        tokio::pin!(sending);
        tokio::select! {
            sent = &mut sending => { sent?; continue }
            () = sleep(HELD_UP_AFTER) => {}
        }
        tokio::select! {
            sent = &mut sending => { sent?; continue }
            () = control.ended() => {}
        }
        // Some engines drop what is unread two seconds after the end: read it now, send it when the client can.
        let (sent, kept) = tokio::join!(sending, keep(output, &mut waiting));
        sent?;
        kept?;
    }
}

async fn keep(output: &mut Fuse<Outputs>, waiting: &mut VecDeque<Output>) -> Result<(), SessionError> {
    let size = |chunk: &Output| match chunk {
        Output::Stdout(bytes) | Output::Stderr(bytes) => bytes.len(),
    };
    let mut kept: usize = waiting.iter().map(size).sum();
    while kept < UNREAD_BYTES_MAX {
        let Some(chunk) = output.next().await else { break };
        let chunk = chunk.map_err(SessionError::Stream)?;
        kept += size(&chunk);
        waiting.push_back(chunk);
    }
    Ok(())
}

async fn send(client: &dyn Client, chunk: Output) -> Result<(), SessionError> {
    match chunk {
        Output::Stdout(bytes) => client.stdout(bytes).await,
        Output::Stderr(bytes) => client.stderr(bytes).await,
    }
    .map_err(|_| SessionError::Closed)
}

/// Serves resizes and signals for as long as the client can send any, neither of which waits for the other. Never
/// ends: the end of the output decides.
async fn serve(controls: Controls, control: &dyn ProcessControl) {
    let Controls { mut sizes, mut signals } = controls;
    let resizes = async {
        while sizes.changed().await.is_ok() {
            let size = *sizes.borrow_and_update();
            if let Err(error) = control.resize(size).await {
                tracing::debug!(%error, "cannot resize");
            }
        }
    };
    let deliveries = async {
        while let Some(signal) = signals.recv().await {
            if let Err(error) = control.signal(signal).await {
                tracing::info!(%error, signal = signal.name(), "cannot deliver a signal");
            }
        }
    };
    tokio::join!(resizes, deliveries);
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::engine::EngineError;

    /// A program that has ended.
    #[derive(Debug)]
    struct Ended;

    #[async_trait]
    impl ProcessControl for Ended {
        async fn resize(&self, _: TerminalSize) -> Result<(), EngineError> {
            Ok(())
        }
        async fn signal(&self, _: Signal) -> Result<(), EngineError> {
            Ok(())
        }
        async fn ended(&self) {}
        async fn wait(&self) -> Result<ExitStatus, EngineError> {
            Ok(ExitStatus::Exited(7))
        }
    }

    /// A client that takes a chunk per permit.
    struct Slow {
        window: Semaphore,
        seen: Mutex<Vec<u8>>,
    }

    #[async_trait]
    impl Client for Slow {
        async fn stdout(&self, chunk: Bytes) -> io::Result<()> {
            self.window.acquire().await.map_err(io::Error::other)?.forget();
            self.seen.lock().unwrap().extend_from_slice(&chunk);
            Ok(())
        }
        async fn stderr(&self, chunk: Bytes) -> io::Result<()> {
            self.stdout(chunk).await
        }
    }

    /// D4
    #[tokio::test(start_paused = true)]
    async fn a_program_that_ends_while_its_client_does_not_read_loses_nothing() {
        // Panics when it is asked again after its end, as the engine's own stream does.
        let output = futures::stream::unfold(0_u8, |at| async move {
            (at < 5).then(|| (Ok(Output::Stdout(Bytes::from(vec![at; 10]))), at + 1))
        });
        let client = Slow { window: Semaphore::new(0), seen: Mutex::default() };

        let mut output = output.boxed().fuse();
        let relayed = relay_output(&mut output, &Ended, &client);
        let read_late = async {
            sleep(HELD_UP_AFTER * 10).await;
            client.window.add_permits(100);
        };
        let (relayed, ()) = tokio::join!(relayed, read_late);

        relayed.unwrap();
        let expected: Vec<u8> = (0..5).flat_map(|at| [at; 10]).collect();
        assert_eq!(*client.seen.lock().unwrap(), expected);
    }
}
