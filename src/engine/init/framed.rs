//! A program's standard streams where they travel in frames: each output, and the input, within a window of its own.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use coracle_init::{DATA_BYTES_MAX, Malformed, OutputStream, ToInit, WINDOW_BYTES};
use futures::stream::{BoxStream, StreamExt as _, unfold};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use tokio_util::sync::PollSender;

use super::wires::{Outbox, Parcel, encoded};
use crate::engine::Output;

/// So much is taken before the init is granted more of it: a frame per chunk would be as many frames back.
const CREDIT_BYTES_MIN: u32 = WINDOW_BYTES / 2;

/// What the frames of one program go through.
#[derive(Debug)]
pub(super) struct Framed {
    state: Mutex<State>,
    /// There is output, or no more of it.
    arrived: Notify,
}

#[derive(Debug)]
struct State {
    stdout: Window,
    stderr: Window,
    /// Bytes that the init takes yet.
    stdin_credit: u32,
    stdin_waker: Option<Waker>,
    /// Why the init is gone, once it is.
    broken: Option<String>,
}

/// One output, on its way to the client.
#[derive(Debug)]
struct Window {
    waiting: BytesMut,
    /// What the init may send yet.
    granted: u32,
    /// What was taken and not granted again.
    taken: u32,
    has_ended: bool,
}

impl Framed {
    /// Without standard error for a program on a terminal.
    pub(super) fn new(has_stderr: bool) -> Arc<Self> {
        let window =
            |has_ended| Window { waiting: BytesMut::new(), granted: WINDOW_BYTES, taken: 0, has_ended };
        let state = State {
            stdout: window(false),
            stderr: window(!has_stderr),
            stdin_credit: WINDOW_BYTES,
            stdin_waker: None,
            broken: None,
        };
        Arc::new(Self { state: Mutex::new(state), arrived: Notify::new() })
    }

    /// Output that came. More than was granted is against the protocol: it is all that bounds our memory.
    pub(super) fn arrive(&self, stream: OutputStream, bytes: &[u8]) -> Result<(), Malformed> {
        let mut state = self.state();
        let window = state.window(stream);
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if window.has_ended {
            return Err(Malformed("output after its end"));
        }
        window.granted =
            window.granted.checked_sub(count).ok_or(Malformed("more output than was granted"))?;
        window.waiting.extend_from_slice(bytes);
        self.arrived.notify_one();
        Ok(())
    }

    /// There is no more of an output.
    pub(super) fn end(&self, stream: OutputStream) -> Result<(), Malformed> {
        if std::mem::replace(&mut self.state().window(stream).has_ended, true) {
            return Err(Malformed("an output ends twice"));
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// So much more input may be sent.
    pub(super) fn grant(&self, bytes: u32) -> Result<(), Malformed> {
        let mut state = self.state();
        let credit = state.stdin_credit.checked_add(bytes).filter(|credit| *credit <= WINDOW_BYTES);
        state.stdin_credit = credit.ok_or(Malformed("more input is granted than the window has"))?;
        if let Some(waker) = state.stdin_waker.take() {
            waker.wake();
        }
        Ok(())
    }

    /// The init is gone.
    pub(super) fn break_off(&self, reason: &str) {
        let mut state = self.state();
        state.broken = Some(reason.to_owned());
        if let Some(waker) = state.stdin_waker.take() {
            waker.wake();
        }
        self.arrived.notify_one();
    }

    /// The output of the program `process` until its end.
    pub(super) fn output(
        self: Arc<Self>,
        process: u32,
        outbox: Outbox,
    ) -> BoxStream<'static, io::Result<Output>> {
        let reader = Reader { framed: self, process, outbox, is_over: false };
        unfold(reader, |mut reader| async move {
            let item = reader.next().await?;
            Some((item, reader))
        })
        .boxed()
    }

    /// The input of the program `process`. A terminal's has no end but the terminal's.
    pub(super) fn input(self: Arc<Self>, process: u32, outbox: &Outbox, is_terminal: bool) -> Input {
        let sender = outbox.poll_sender();
        Input { framed: self, process, outbox: outbox.clone(), sender, has_end: !is_terminal }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn window(&mut self, stream: OutputStream) -> &mut Window {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    /// What came of the first output that has anything, and what the init is to be granted for it.
    fn take(&mut self) -> Option<(OutputStream, Bytes, u32)> {
        let stream = [OutputStream::Stderr, OutputStream::Stdout]
            .into_iter()
            .find(|stream| !self.window(*stream).waiting.is_empty())?;
        let window = self.window(stream);
        let bytes = window.waiting.split().freeze();
        window.taken += u32::try_from(bytes.len()).unwrap_or_default();
        let grant = if window.taken >= CREDIT_BYTES_MIN { std::mem::take(&mut window.taken) } else { 0 };
        window.granted += grant;
        Some((stream, bytes, grant))
    }

    fn has_ended(&self) -> bool {
        self.stdout.has_ended && self.stderr.has_ended
    }
}

/// Reads the output.
struct Reader {
    framed: Arc<Framed>,
    process: u32,
    outbox: Outbox,
    is_over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<io::Result<Output>> {
        loop {
            let (taken, has_ended, broken) = {
                let mut state = self.framed.state();
                (state.take(), state.has_ended(), state.broken.clone())
            };
            match taken {
                _ if self.is_over => return None,
                Some((stream, bytes, grant)) => {
                    if grant > 0 {
                        let credit = ToInit::Credit { process: self.process, stream, bytes: grant };
                        // An init that is gone needs none.
                        drop(self.outbox.say(&credit).await);
                    }
                    return Some(Ok(match stream {
                        OutputStream::Stdout => Output::Stdout(bytes),
                        OutputStream::Stderr => Output::Stderr(bytes),
                    }));
                }
                None if has_ended => return None,
                None => match broken {
                    Some(reason) => {
                        self.is_over = true;
                        return Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason)));
                    }
                    None => self.framed.arrived.notified().await,
                },
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.framed.state().has_ended() {
            self.outbox.promise(&ToInit::Release { process: self.process });
        }
    }
}

/// Writes the input. Dropped, it ends, as a pipe does.
pub(super) struct Input {
    framed: Arc<Framed>,
    process: u32,
    outbox: Outbox,
    sender: PollSender<Parcel>,
    has_end: bool,
}

impl Input {
    /// How much may be sent now.
    fn poll_credit(&self, cx: &Context<'_>) -> Poll<io::Result<u32>> {
        let mut state = self.framed.state();
        match state.stdin_credit {
            _ if state.broken.is_some() => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            0 => {
                state.stdin_waker = Some(cx.waker().clone());
                Poll::Pending
            }
            credit => Poll::Ready(Ok(credit)),
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let credit = ready!(self.poll_credit(cx))?;
        ready!(self.sender.poll_reserve(cx)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let room = usize::try_from(credit).unwrap_or(usize::MAX).min(DATA_BYTES_MAX);
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        let parcel = encoded(&ToInit::Stdin { process: self.process, bytes: taken });
        // Before it is sent: the init may be quick to grant it again.
        self.framed.state().stdin_credit -= u32::try_from(taken.len()).unwrap_or_default();
        self.sender.send_item(parcel).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_end {
            ready!(self.sender.poll_reserve(cx)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            let parcel = encoded(&ToInit::StdinEnd { process: self.process });
            self.sender.send_item(parcel).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.has_end = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if self.has_end && self.framed.state().broken.is_none() {
            self.outbox.promise(&ToInit::StdinEnd { process: self.process });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio_util::task::TaskTracker;

    use super::super::wires::{Queue, outbox};
    use super::*;

    const STDOUT: OutputStream = OutputStream::Stdout;
    const STDERR: OutputStream = OutputStream::Stderr;

    fn window() -> usize {
        usize::try_from(WINDOW_BYTES).unwrap()
    }

    /// What the init is granted of its outputs.
    fn granted(queue: &mut Queue) -> u32 {
        let mut granted = 0;
        while let Ok(parcel) = queue.try_recv() {
            if let Ok(Some((ToInit::Credit { bytes, .. }, _))) = ToInit::decode(&parcel.bytes) {
                granted += bytes;
            }
        }
        granted
    }

    #[tokio::test]
    async fn an_output_has_its_window_and_no_more_until_some_was_read() {
        let ((outbox, mut queue), framed) = (outbox(&TaskTracker::new()), Framed::new(true));
        let mut output = Arc::clone(&framed).output(1, outbox);
        let full = vec![b'x'; window()];
        framed.arrive(STDOUT, &full).unwrap();
        assert!(framed.arrive(STDOUT, b"x").is_err());
        framed.arrive(STDERR, &full).unwrap();

        for _ in 0..2 {
            let (Output::Stdout(bytes) | Output::Stderr(bytes)) = output.next().await.unwrap().unwrap();
            assert_eq!(bytes.len(), window());
        }

        assert_eq!(granted(&mut queue), 2 * WINDOW_BYTES);
        framed.arrive(STDOUT, &full).unwrap();
        assert!(framed.arrive(STDOUT, b"x").is_err());
    }

    #[tokio::test]
    async fn small_pieces_are_granted_together() {
        let ((outbox, mut queue), framed) = (outbox(&TaskTracker::new()), Framed::new(true));
        let mut output = Arc::clone(&framed).output(1, outbox);
        for _ in 0..1000 {
            framed.arrive(STDOUT, b"x").unwrap();
            output.next().await.unwrap().unwrap();
        }

        assert_eq!(granted(&mut queue), 0);
    }

    #[tokio::test]
    async fn an_output_is_told_to_its_end_and_then_ends() {
        let ((outbox, _queue), framed) = (outbox(&TaskTracker::new()), Framed::new(true));
        let output = Arc::clone(&framed).output(1, outbox);
        framed.arrive(STDOUT, b"out").unwrap();
        framed.arrive(STDERR, b"err").unwrap();
        for stream in [STDOUT, STDERR] {
            framed.end(stream).unwrap();
            assert!(framed.end(stream).is_err());
            assert!(framed.arrive(stream, b"").is_err());
        }

        let all: Vec<_> = output.map(Result::unwrap).collect().await;

        let (out, err) = (Bytes::from_static(b"out"), Bytes::from_static(b"err"));
        assert_eq!(all, [Output::Stderr(err), Output::Stdout(out)]);
    }

    #[tokio::test]
    async fn input_stops_at_the_window_and_goes_on_with_what_is_granted() {
        let ((outbox, mut queue), framed) = (outbox(&TaskTracker::new()), Framed::new(true));
        let mut input = Arc::clone(&framed).input(1, &outbox, false);
        let long = vec![b'x'; 2 * window()];
        let mut sent = 0;
        while let Poll::Ready(count) = futures::poll!(Box::pin(input.write(&long))) {
            sent += count.unwrap();
            queue.try_recv().unwrap();
        }
        assert_eq!(sent, window());
        assert!(framed.grant(WINDOW_BYTES + 1).is_err());
        assert!(framed.grant(u32::MAX).is_err());

        framed.grant(10).unwrap();

        assert_eq!(input.write(&long).await.unwrap(), 10);
    }

    #[tokio::test]
    async fn the_end_of_the_init_ends_both_ways() {
        let ((outbox, _queue), framed) = (outbox(&TaskTracker::new()), Framed::new(true));
        let mut input = Arc::clone(&framed).input(1, &outbox, false);
        let mut output = Arc::clone(&framed).output(1, outbox);
        framed.arrive(STDOUT, b"last").unwrap();

        framed.break_off("it fell over");

        assert!(input.write(b"x").await.is_err());
        assert!(output.next().await.unwrap().is_ok(), "what came before is told");
        assert!(output.next().await.unwrap().is_err(), "it is no clean end");
        assert!(output.next().await.is_none());
    }

    #[tokio::test]
    async fn whoever_stops_reading_lets_go_of_the_streams() {
        let ((outbox, mut queue), framed) = (outbox(&TaskTracker::new()), Framed::new(true));

        drop(Arc::clone(&framed).output(1, outbox));

        let parcel = queue.try_recv().unwrap();
        assert!(matches!(ToInit::decode(&parcel.bytes), Ok(Some((ToInit::Release { process: 1 }, _)))));
    }
}
