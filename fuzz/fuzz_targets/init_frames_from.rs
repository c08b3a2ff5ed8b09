//! What the first process of a container says where everything travels in frames: the server's own dispatch hears it, while
//! it runs programs, reads their output and feeds them. No bytes make it fail, hang or hoard.

#![no_main]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle::engine::init::Init;
use coracle::engine::{Output, Process, ProcessSpec, Program, Signal, Terminal, TerminalSize};
use coracle_init::{DATA_BYTES_MAX, Exit, Failure, FromInit, OutputStream, VERSION};
use futures::{StreamExt as _, stream};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

/// Time is not real: it passes when all wait, so that this is as good as for ever.
const EVER: Duration = Duration::from_secs(3600);

fuzz_target!(|input: &[u8]| {
    let Some((first, input)) = input.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        timeout(EVER, listen(*first != 0, said(input))).await.expect("it hangs");
    });
});

/// Frames that make sense one by one, with bytes in between that need not.
fn said(input: &[u8]) -> Vec<Vec<u8>> {
    let mut input = input.iter().copied();
    let mut pieces = vec![Vec::new()];
    while let Some(what) = input.next() {
        let mut next = || input.next().unwrap_or_default();
        let (process, stream) = (u32::from(next() % 5), [OutputStream::Stdout, OutputStream::Stderr]);
        let stream = stream[usize::from(what / 32 % 2)];
        let data: Vec<u8> = match what % 13 {
            1 | 2 | 7 | 9 | 11 | 12 => (0..next()).map(|_| next()).collect(),
            8 => vec![what; DATA_BYTES_MAX],
            _ => Vec::new(),
        };
        let frame = match what % 13 {
            0 => FromInit::Started { process, pid: 2 },
            1 => FromInit::Refused { process, reason: &data },
            2 | 8 => FromInit::Output { process, stream, bytes: &data },
            3 => FromInit::OutputEnd { process, stream },
            4 => FromInit::Exited { process, exit: Exit::Status(next()) },
            5 => FromInit::Credit { process, bytes: u32::from(next()) << (next() % 25) },
            6 => hello(),
            9 => FromInit::Listening { listener: process, port: u16::from(next()), path: &data },
            10 => FromInit::Knock { listener: process },
            11 => FromInit::Accepted { process, host: &data, port: u16::from(next()) },
            12 => {
                let failure = if next() % 2 == 0 { Failure::Forbidden } else { Failure::Other };
                FromInit::Failed { process, failure, reason: &data }
            }
            _ => {
                pieces.last_mut().expect("one").extend(&data);
                continue;
            }
        };
        if what >= 64 {
            pieces.push(Vec::new());
        }
        frame.encode(pieces.last_mut().expect("one")).expect("it is short");
    }
    pieces
}

fn hello() -> FromInit<'static> {
    FromInit::Hello { version_min: VERSION, version_max: VERSION, token: [0; 32] }
}

async fn listen(is_greeted: bool, said: Vec<Vec<u8>>) {
    let mut greeting = Vec::new();
    hello().encode(&mut greeting).expect("it is short");
    let count = said.iter().map(Vec::len).sum();
    // Each piece comes when all others have had their turn: programs begin in between.
    let pieces = stream::iter(is_greeted.then_some(greeting).into_iter().chain(said)).then(async |piece| {
        sleep(Duration::from_millis(1)).await;
        io::Result::Ok(Bytes::from(piece))
    });
    let tasks = TaskTracker::new();
    let Ok(init) = Init::attach(pieces.boxed(), Box::pin(Void), None, &tasks).await else { return };
    let terminal =
        Terminal { term: "xterm".to_owned(), size: TerminalSize::from_client(80, 24), modes: Vec::new() };
    tokio::join!(run(&init, None, count), run(&init, Some(terminal), count), run(&init, None, count));
    init.over().await;
    drop(init);
    tasks.close();
    tasks.wait().await;
}

async fn run(init: &Init, terminal: Option<Terminal>, said: usize) {
    let spec =
        ProcessSpec { program: Program::LoginShell, env: Vec::new(), terminal, username: "demo".to_owned() };
    let Ok(Process { mut stdin, mut output, control }) = init.exec(&spec).await else { return };
    let feed = async {
        drop(stdin.write_all(&vec![0; 3 * DATA_BYTES_MAX]).await);
        drop(stdin.shutdown().await);
    };
    let read = async {
        let mut told = 0;
        while let Some(Ok(Output::Stdout(bytes) | Output::Stderr(bytes))) = output.next().await {
            assert!(!bytes.is_empty());
            told += bytes.len();
        }
        assert!(told <= said, "more than there was");
    };
    let lead = async {
        drop(control.resize(TerminalSize::from_client(1, 1)).await);
        drop(control.signal(Signal::Hup).await);
    };
    tokio::join!(feed, read, lead);
    drop(control.wait().await);
}

/// Takes all that it is given.
struct Void;

impl AsyncWrite for Void {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
