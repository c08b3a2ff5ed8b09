//! What a program writes, read by us from its pipes or its terminal.

use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::{BoxStream, Stream, StreamExt as _};
use rustix::io::Errno;
use tokio::net::unix::pipe;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::processes::ExitReceiver;
use super::stdio::Master;
use crate::engine::Output;

/// What one read takes at most.
const READ_BYTES: usize = 64 << 10;

/// What a terminal gives at a time; the kernel has no more.
const TERMINAL_READ_BYTES: usize = 4 << 10;

/// With less room than this a read gets a new buffer.
const ROOM_BYTES_MIN: usize = 8 << 10;

/// How long what a program leaves behind may be silent before its output is taken to be complete. sshd would wait for
/// the last of them to go, and a daemon that forgot to close its output would hold the session for ever.
const SILENCE: Duration = Duration::from_secs(1);

/// How long it may go on writing.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// Our ends, until they are polled for output.
pub(super) struct LocalOutput {
    stdout: Option<Source>,
    stderr: Option<Source>,
}

#[derive(Debug)]
enum Source {
    Pipe(pipe::Receiver),
    Terminal(Arc<Master>),
}

impl LocalOutput {
    pub(super) fn of_pipes(stdout: pipe::Receiver, stderr: pipe::Receiver) -> Self {
        Self { stdout: Some(Source::Pipe(stdout)), stderr: Some(Source::Pipe(stderr)) }
    }

    pub(super) fn of_pipe(stdout: pipe::Receiver) -> Self {
        Self { stdout: Some(Source::Pipe(stdout)), stderr: None }
    }

    pub(super) fn of_terminal(master: Arc<Master>) -> Self {
        Self { stdout: Some(Source::Terminal(master)), stderr: None }
    }

    /// The output until nobody has it open any more, or until a little after the program's end.
    pub(super) fn until_end(self, exit: ExitReceiver) -> BoxStream<'static, io::Result<Output>> {
        let exited = async move {
            let mut exit = exit;
            drop(exit.wait_for(Option::is_some).await);
        };
        let phase = Phase::Running(Box::pin(exited));
        OutputStream { ends: self, buffer: BytesMut::new(), phase }.boxed()
    }
}

/// Where the program stands.
enum Phase {
    Running(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// It has ended; others may still write.
    Lingering {
        silence: Pin<Box<Sleep>>,
        until: Pin<Box<Sleep>>,
    },
    /// What is there now is the rest: so many bytes of each.
    Last {
        stdout: u64,
        stderr: u64,
    },
}

struct OutputStream {
    ends: LocalOutput,
    buffer: BytesMut,
    phase: Phase,
}

impl Stream for OutputStream {
    type Item = io::Result<Output>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // Before there is anything to read: somebody who always has something to say must not hide the program's end.
        this.poll_exit(cx);
        loop {
            match this.poll_output(cx) {
                Poll::Ready(Some(item)) => {
                    if let Phase::Lingering { silence, .. } = &mut this.phase {
                        silence.as_mut().reset(Instant::now() + SILENCE);
                    }
                    return Poll::Ready(Some(item));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            if this.poll_phase(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl OutputStream {
    /// Ready with `None` at the end of both.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Output>>> {
        if let Phase::Lingering { until, .. } = &mut self.phase
            && until.as_mut().poll(cx).is_ready()
        {
            self.phase = self.ends.rest();
        }
        let (stdout_left, stderr_left) = match &mut self.phase {
            Phase::Last { stdout, stderr } => (Some(stdout), Some(stderr)),
            _ => (None, None),
        };
        let stderr = poll_source(&mut self.ends.stderr, stderr_left, &mut self.buffer, cx);
        if let Poll::Ready(Some(bytes)) = stderr {
            return Poll::Ready(Some(bytes.map(Output::Stderr)));
        }
        let stdout = poll_source(&mut self.ends.stdout, stdout_left, &mut self.buffer, cx);
        if let Poll::Ready(Some(bytes)) = stdout {
            return Poll::Ready(Some(bytes.map(Output::Stdout)));
        }
        if stdout.is_ready() && stderr.is_ready() { Poll::Ready(None) } else { Poll::Pending }
    }

    fn poll_exit(&mut self, cx: &mut Context<'_>) {
        if let Phase::Running(exited) = &mut self.phase
            && exited.as_mut().poll(cx).is_ready()
        {
            let until = Box::pin(sleep_until(Instant::now() + LINGER_MAX));
            self.phase = Phase::Lingering { silence: Box::pin(sleep(SILENCE)), until };
        }
    }

    /// Ready when there is reason to look at the output once more.
    fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.phase {
            Phase::Running(_) => {
                self.poll_exit(cx);
                if matches!(self.phase, Phase::Running(_)) { Poll::Pending } else { Poll::Ready(()) }
            }
            Phase::Lingering { silence, .. } => {
                if silence.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.phase = self.ends.rest();
                Poll::Ready(())
            }
            // Never waits for anything.
            Phase::Last { .. } => Poll::Ready(()),
        }
    }
}

impl LocalOutput {
    fn rest(&self) -> Phase {
        let left = |source: &Option<Source>| match source {
            Some(Source::Pipe(pipe)) => rustix::io::ioctl_fionread(pipe).unwrap_or_default(),
            Some(Source::Terminal(master)) => {
                rustix::io::ioctl_fionread(master.descriptor()).unwrap_or_default()
            }
            None => 0,
        };
        Phase::Last { stdout: left(&self.stdout), stderr: left(&self.stderr) }
    }
}

/// One read. Ready with `None` when there is no more, or no more of what is `left`.
fn poll_source(
    source: &mut Option<Source>,
    left: Option<&mut u64>,
    buffer: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<Option<io::Result<Bytes>>> {
    let Some(open) = source else { return Poll::Ready(None) };
    let read = match &left {
        Some(left) => open.read_now(usize::try_from(**left).unwrap_or(READ_BYTES)),
        None => ready!(open.poll_read(buffer, cx)),
    };
    match read {
        Ok(bytes) if !bytes.is_empty() => {
            if let Some(left) = left {
                *left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            }
            Poll::Ready(Some(Ok(bytes)))
        }
        ended => {
            *source = None;
            Poll::Ready(ended.err().map(Err))
        }
    }
}

impl Source {
    /// What there is when there is something; nothing at the end.
    fn poll_read(&mut self, buffer: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match self {
            Self::Pipe(pipe) => {
                if buffer.capacity() < ROOM_BYTES_MIN {
                    buffer.reserve(READ_BYTES);
                }
                match poll_read_buf(Pin::new(pipe), cx, &mut (&mut *buffer).limit(READ_BYTES)) {
                    Poll::Ready(read) => Poll::Ready(read.map(|_| buffer.split().freeze())),
                    Poll::Pending => {
                        // An idle session keeps no buffer.
                        *buffer = BytesMut::new();
                        Poll::Pending
                    }
                }
            }
            Self::Terminal(master) => {
                let mut line = [0; TERMINAL_READ_BYTES];
                let count = ready!(master.poll_read(cx, &mut line))?;
                Poll::Ready(Ok(Bytes::copy_from_slice(line.get(..count).unwrap_or_default())))
            }
        }
    }

    /// At most so much of what is there; nothing when somebody else has read it. The runtime is not asked: it may not have
    /// heard of it yet, or may want the task to rest.
    fn read_now(&self, most: usize) -> io::Result<Bytes> {
        let descriptor = match self {
            Self::Pipe(pipe) => pipe.as_fd(),
            Self::Terminal(master) => master.descriptor(),
        };
        let mut bytes = vec![0; most.min(READ_BYTES)];
        match rustix::io::read(descriptor, &mut bytes) {
            Ok(count) => {
                bytes.truncate(count);
                Ok(bytes.into())
            }
            // The second of a terminal that nobody has open any more.
            Err(Errno::AGAIN | Errno::IO) => Ok(Bytes::new()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
