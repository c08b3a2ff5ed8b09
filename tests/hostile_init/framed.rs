//! The same where everything travels in frames, with windows. Time is not real here: it passes when all wait.

use std::time::Duration;

use coracle::engine::init::Init;
use coracle::engine::{EngineError, Process, Signal, TerminalSize};
use coracle_init::{Exit, FromInit, OutputStream, ToInit, Token, WINDOW_BYTES};
use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::{Instant, timeout};
use tokio_util::io::ReaderStream;
use tokio_util::task::TaskTracker;

use crate::guest::{encoded, hello};
use crate::stage::{exec, on_terminal, output_of, program};

const STDOUT: OutputStream = OutputStream::Stdout;

/// A container at the end of a stream, that says what a test wants.
pub(crate) struct Far {
    pub(crate) stream: DuplexStream,
    inbox: Vec<u8>,
}

impl Far {
    pub(crate) async fn say(&mut self, frame: &FromInit<'_>) {
        self.stream.write_all(&encoded(frame)).await.expect("the server listens");
    }

    /// Waits for a program to be asked for, and tells its number.
    async fn asked(&mut self) -> u32 {
        self.until(|frame| if let ToInit::Start { process, .. } = frame { Some(*process) } else { None })
            .await
    }

    /// Waits for a frame that means something to the caller.
    pub(crate) async fn until<T>(&mut self, meaning: impl Fn(&ToInit<'_>) -> Option<T>) -> T {
        loop {
            match ToInit::decode(&self.inbox).unwrap() {
                Some((frame, length)) => {
                    let meant = meaning(&frame);
                    self.inbox.drain(..length);
                    if let Some(meant) = meant {
                        return meant;
                    }
                }
                None => assert!(self.stream.read_buf(&mut self.inbox).await.unwrap() > 0),
            }
        }
    }
}

/// A container that was greeted over a stream that holds so much.
pub(crate) async fn greeted(bytes_held: usize) -> (Init, Far) {
    let (ours, theirs) = duplex(bytes_held);
    let mut far = Far { stream: theirs, inbox: Vec::new() };
    let (reader, writer) = tokio::io::split(ours);
    let said = Box::pin(ReaderStream::new(reader));
    let tasks = TaskTracker::new();
    let attached = Init::attach(said, Box::pin(writer), None, &tasks);
    let (init, ()) = tokio::join!(attached, async {
        far.stream.write_all(&hello(Token::default())).await.unwrap();
        while ToInit::decode(&far.inbox).unwrap().is_none() {
            assert!(far.stream.read_buf(&mut far.inbox).await.unwrap() > 0);
        }
    });
    (init.unwrap(), far)
}

/// One with a program that has begun.
async fn with_program() -> (Init, Far, Process) {
    let (init, mut far) = greeted(1 << 20).await;
    let (begun, ()) = tokio::join!(exec(&init, program()), async {
        let process = far.asked().await;
        far.say(&FromInit::Started { process, pid: 2 }).await;
    });
    (init, far, begun.unwrap())
}

fn output(bytes: &[u8]) -> FromInit<'_> {
    FromInit::Output { process: 1, stream: STDOUT, bytes }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_half_a_hello_is_given_up() {
    for count in [0, 1, 11, 12, 55] {
        let (ours, mut theirs) = duplex(1024);
        theirs.write_all(&hello(Token::default())[..count]).await.unwrap();
        let (reader, writer) = tokio::io::split(ours);
        let begun = Instant::now();

        let said = Box::pin(ReaderStream::new(reader));
        let tasks = TaskTracker::new();
        let met = Init::attach(said, Box::pin(writer), None, &tasks).await;

        assert!(met.unwrap_err().to_string().contains("too long to say hello"));
        assert!(begun.elapsed() <= Duration::from_secs(6));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_at_any_byte_of_the_hello_is_refused() {
    let hello = hello(Token::default());
    for cut in 0..hello.len() {
        let (ours, mut theirs) = duplex(1024);
        theirs.write_all(&hello[..cut]).await.unwrap();
        drop(theirs);
        let (reader, writer) = tokio::io::split(ours);

        let said = Box::pin(ReaderStream::new(reader));
        let tasks = TaskTracker::new();
        let met = Init::attach(said, Box::pin(writer), None, &tasks).await;

        assert!(met.unwrap_err().to_string().contains("end of file"), "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_welcome_that_nobody_reads_is_given_up() {
    let (ours, mut theirs) = duplex(56);
    let (reader, writer) = tokio::io::split(ours);
    let writing = tokio::spawn(async move {
        theirs.write_all(&hello(Token::default())).await.unwrap();
        theirs
    });
    let full = [0; 50];
    let mut writer = writer;
    writer.write_all(&full).await.unwrap();

    let said = Box::pin(ReaderStream::new(reader));
    let tasks = TaskTracker::new();
    let met = Init::attach(said, Box::pin(writer), None, &tasks);

    let met = timeout(Duration::from_mins(1), met).await.expect("a deadline of its own");
    assert!(met.is_err());
    drop(writing.await);
}

#[tokio::test(start_paused = true)]
async fn after_the_welcome_silence_ends_a_start_by_its_deadline() {
    let (init, _far) = greeted(1 << 20).await;
    let begun = Instant::now();

    let error = exec(&init, program()).await.unwrap_err();

    assert!(matches!(error, EngineError::TimedOut { .. }), "{error}");
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_read_ends_all_that_is_asked_of_it_by_their_deadlines() {
    let (init, mut far, mut process) = {
        let (init, mut far) = greeted(2048).await;
        let (begun, ()) = tokio::join!(exec(&init, program()), async {
            let process = far.asked().await;
            far.say(&FromInit::Started { process, pid: 2 }).await;
        });
        (init, far, begun.unwrap())
    };

    let begun = Instant::now();
    let refused = join_all((0..200).map(|_| exec(&init, program()))).await;
    assert!(refused.iter().all(Result::is_err));
    let long = vec![0; 1 << 20];
    let fed = timeout(Duration::from_secs(5), process.stdin.write_all(&long)).await;
    assert!(fed.is_err(), "more than is read is not taken");
    let size = TerminalSize::from_client(80, 24);
    for late in [
        join_all((0..100).map(|_| process.control.signal(Signal::Hup))).await,
        join_all((0..100).map(|_| process.control.resize(size))).await,
    ] {
        assert!(late.iter().any(Result::is_err), "nobody can have taken all of them");
    }
    assert!(begun.elapsed() < Duration::from_mins(2), "took {:?}", begun.elapsed());

    // What it says is heard all the same.
    far.say(&output(b"late")).await;
    far.say(&FromInit::Exited { process: 1, exit: Exit::Status(3) }).await;
    process.control.ended().await;
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_ends_it_and_all_that_waits() {
    let window = usize::try_from(WINDOW_BYTES).unwrap();
    let chunk = vec![0; 32 << 10];
    let full = vec![output(&chunk); window / chunk.len()];
    let ended = FromInit::OutputEnd { process: 1, stream: STDOUT };
    for (what, frames) in [
        ("more output than was granted", [full, vec![output(b"x")]].concat()),
        ("credit on top of the whole window", vec![FromInit::Credit { process: 1, bytes: 1 }]),
        ("credit past what a number holds", vec![FromInit::Credit { process: 1, bytes: u32::MAX }]),
        ("output after its end", vec![ended.clone(), output(b"x")]),
        ("an output that ends twice", vec![ended.clone(), ended]),
        ("a refusal after the beginning", vec![FromInit::Refused { process: 1, reason: b"no" }]),
        ("a second beginning", vec![FromInit::Started { process: 1, pid: 2 }]),
        ("output of a program to come", vec![FromInit::Output { process: 9, stream: STDOUT, bytes: b"x" }]),
        ("credit of a program to come", vec![FromInit::Credit { process: 9, bytes: 1 }]),
        ("the end of a program's output to come", vec![FromInit::OutputEnd { process: 9, stream: STDOUT }]),
    ] {
        let (init, mut far, mut process) = with_program().await;
        for frame in &frames {
            far.say(frame).await;
        }

        let reason = timeout(Duration::from_secs(5), init.over()).await.expect(what);
        assert!(reason.contains("makes no sense"), "{what}: {reason}");
        timeout(Duration::from_secs(5), output_of(&mut process)).await.expect(what);
        assert!(process.control.wait().await.is_err(), "{what}");
        assert!(process.stdin.write(b"x").await.is_err(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_terminal_has_no_standard_error() {
    let (init, mut far) = greeted(1 << 20).await;
    let (begun, ()) = tokio::join!(exec(&init, on_terminal()), async {
        let process = far.asked().await;
        far.say(&FromInit::Started { process, pid: 2 }).await;
        far.say(&FromInit::Output { process, stream: OutputStream::Stderr, bytes: b"x" }).await;
    });
    drop(begun);

    assert!(init.over().await.contains("after its end"));
}

#[tokio::test(start_paused = true)]
async fn input_that_is_never_asked_for_more_waits_and_takes_no_more_memory() {
    let (init, mut far, mut process) = with_program().await;
    let reading = tokio::spawn(async move {
        let mut sink = Vec::new();
        while far.stream.read_buf(&mut sink).await.is_ok_and(|count| count > 0) {}
        sink.len()
    });
    let long = vec![0; 8 << 20];

    let fed = timeout(Duration::from_mins(10), process.stdin.write_all(&long)).await;

    assert!(fed.is_err(), "it cannot be all written");
    drop((process, init));
    let window = usize::try_from(WINDOW_BYTES).unwrap();
    let taken = reading.await.unwrap();
    assert!((window..window + 4096).contains(&taken), "{taken}");
}

#[tokio::test(start_paused = true)]
async fn output_in_frames_of_one_byte_arrives() {
    let (_init, mut far, mut process) = with_program().await;
    let count = 100_000;
    let writing = tokio::spawn(async move {
        for _ in 0..count {
            far.say(&output(b"x")).await;
        }
        for stream in [STDOUT, OutputStream::Stderr] {
            far.say(&FromInit::OutputEnd { process: 1, stream }).await;
        }
        far.say(&FromInit::Exited { process: 1, exit: Exit::Status(0) }).await;
        far
    });

    let arrived = timeout(Duration::from_mins(10), output_of(&mut process)).await.unwrap();

    assert_eq!(arrived, vec![b'x'; count]);
    process.control.wait().await.unwrap();
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn a_flood_for_a_program_that_nobody_reads_takes_no_memory() {
    let (init, mut far, process) = with_program().await;
    drop(process);
    let chunk = vec![0; 32 << 10];
    let before = resident_kib();

    for _ in 0..4096 {
        far.say(&output(&chunk)).await;
        far.say(&FromInit::Credit { process: 1, bytes: 1 }).await;
    }

    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "128 MiB of output that nobody reads took {grown} KiB");
    // It is not against the protocol: the init may not know yet.
    assert!(timeout(Duration::from_millis(100), init.over()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_at_any_byte_ends_what_runs_with_an_error() {
    let bytes = [
        encoded(&output(b"abc")),
        encoded(&FromInit::OutputEnd { process: 1, stream: STDOUT }),
        encoded(&FromInit::OutputEnd { process: 1, stream: OutputStream::Stderr }),
        encoded(&FromInit::Exited { process: 1, exit: Exit::Status(0) }),
    ]
    .concat();
    for cut in 0..bytes.len() {
        let (init, mut far, mut process) = with_program().await;
        far.stream.write_all(&bytes[..cut]).await.unwrap();
        drop(far);

        let arrived = timeout(Duration::from_secs(5), output_of(&mut process)).await.expect("an end");
        assert!(b"abc".starts_with(arrived.as_slice()));
        assert!(process.control.wait().await.is_err(), "cut at {cut}");
        init.over().await;
    }
}
