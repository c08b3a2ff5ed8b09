//! Moves a program's output to the client, and the client's resizes and signals to the program.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::{Client, Ending, SessionError, hang_up};
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
    let relayed = tokio::select! {
        relayed = relay_output(output, control.as_ref(), client) => relayed,
        () = serve(controls, control.as_ref()) => Err(SessionError::Closed),
        early = ending.came() => Err(early),
    };
    match relayed {
        Ok(()) => Ok(control.wait().await?),
        Err(error) => {
            if matches!(error, SessionError::Closed | SessionError::Overflow) {
                hang_up(control.as_ref(), ending).await;
            }
            Err(error)
        }
    }
}

async fn relay_output(
    mut output: Outputs,
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
        let (sent, kept) = tokio::join!(sending, keep(&mut output, &mut waiting));
        sent?;
        kept?;
    }
}

async fn keep(output: &mut Outputs, waiting: &mut VecDeque<Output>) -> Result<(), SessionError> {
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

/// Serves resizes and signals for as long as the client can send any; then waits for the output to end.
async fn serve(controls: Controls, control: &dyn ProcessControl) {
    let Controls { mut sizes, mut signals } = controls;
    loop {
        tokio::select! {
            Ok(()) = sizes.changed() => {
                let size = *sizes.borrow_and_update();
                if let Err(error) = control.resize(size).await {
                    tracing::debug!(%error, "cannot resize");
                }
            }
            Some(signal) = signals.recv() => {
                if let Err(error) = control.signal(signal).await {
                    tracing::debug!(%error, signal = signal.name(), "cannot deliver a signal");
                }
            }
            else => std::future::pending().await,
        }
    }
}
