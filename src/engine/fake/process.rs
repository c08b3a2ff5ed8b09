//! A program in the double: its streams, its size, its signals and its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::stream::{StreamExt as _, unfold};
use tokio::io::{AsyncWrite, DuplexStream, duplex};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::shell::{Ending, Shell};
use super::{FakeEngine, Step};
use crate::engine::{EngineError, ExitStatus, Process, ProcessControl, ProcessSpec, Signal, TerminalSize};

/// As a pipe on Linux.
const STDIN_BYTES_MAX: usize = 64 * 1024;

/// Pieces of output that wait for a reader.
const PIECES_MAX: usize = 16;

/// Signals that wait to be taken.
const SIGNALS_MAX: usize = 16;

/// Starts what `spec` says; `gone` ends it.
pub(super) fn start(
    engine: &FakeEngine,
    spec: &ProcessSpec,
    cut: Option<usize>,
    gone: CancellationToken,
) -> Process {
    let (stdin, stdin_end) = duplex(STDIN_BYTES_MAX);
    let (pieces, output) = mpsc::channel(PIECES_MAX);
    let (signals, signals_end) = mpsc::channel(SIGNALS_MAX);
    let size = watch::Sender::new(spec.terminal.as_ref().map(|terminal| terminal.size));
    let end = watch::Sender::new(None);
    let shell = Shell::new(spec, stdin_end, pieces, signals_end, size.subscribe()).cut_after(cut);
    let program = spec.program.clone();
    let ended = end.clone();
    let killed = gone.clone();
    engine.0.tasks.spawn(async move {
        let ending = tokio::select! {
            ending = shell.run(program) => ending,
            () = killed.cancelled() => Ending::Killed,
        };
        ended.send_replace(Some(ending));
    });
    let has_terminal = spec.terminal.is_some();
    Process {
        stdin: Box::pin(Stdin { pipe: stdin, has_terminal }),
        output: unfold(output, |mut output| async move { Some((output.recv().await?, output)) }).boxed(),
        control: Arc::new(FakeProcess { engine: engine.clone(), signals, size, end, gone }),
    }
}

/// As with the real thing, the input of a terminal has no end.
#[derive(Debug)]
struct Stdin {
    pipe: DuplexStream,
    has_terminal: bool,
}

impl AsyncWrite for Stdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_terminal { Poll::Ready(Ok(())) } else { Pin::new(&mut self.pipe).poll_shutdown(cx) }
    }
}

#[derive(Debug)]
struct FakeProcess {
    engine: FakeEngine,
    signals: mpsc::Sender<Signal>,
    size: watch::Sender<Option<TerminalSize>>,
    end: watch::Sender<Option<Ending>>,
    gone: CancellationToken,
}

impl FakeProcess {
    async fn ending(&self) -> Ending {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await.map(|ending| *ending) {
            Ok(Some(ending)) => ending,
            Ok(None) | Err(_) => Ending::Killed,
        }
    }
}

#[async_trait]
impl ProcessControl for FakeProcess {
    async fn resize(&self, size: TerminalSize) -> Result<(), EngineError> {
        self.engine.step(Step::Resize).await?;
        self.size.send_modify(|known| *known = known.map(|_| size));
        Ok(())
    }

    async fn signal(&self, signal: Signal) -> Result<(), EngineError> {
        self.engine.step(Step::Signal).await?;
        // A program that has ended takes no signals, which is fine.
        self.signals.send(signal).await.unwrap_or_default();
        Ok(())
    }

    async fn ended(&self) {
        self.ending().await;
    }

    async fn wait(&self) -> Result<ExitStatus, EngineError> {
        self.engine.step(Step::Wait).await?;
        match self.ending().await {
            _ if self.gone.is_cancelled() => Err(EngineError::Gone { reason: "it was removed".to_owned() }),
            Ending::Exited(status) => Ok(ExitStatus::Exited(status)),
            Ending::Signaled(signal) => Ok(ExitStatus::Signaled(signal)),
            Ending::Killed => Err(EngineError::Gone { reason: "it was removed".to_owned() }),
        }
    }
}
