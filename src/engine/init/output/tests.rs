//! When an output is over, and that nothing of it is lost.

use std::fs::File;
use std::io::{Read as _, Write as _};

use coracle_init::Exit;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use tokio::sync::{mpsc, watch};

use super::*;

const EXITED: Option<Exit> = Some(Exit::Status(0));

/// A program's output, and its ends.
struct Program {
    output: BoxStream<'static, io::Result<Output>>,
    stdout: File,
    stderr: File,
    exit: watch::Sender<Option<Exit>>,
}

fn program() -> Program {
    let pipe = || {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::ioctl_fionbio(&ours, true).unwrap();
        fcntl_setpipe_size(&ours, 256 << 10).ok();
        (pipe::Receiver::from_owned_fd(ours).unwrap(), File::from(theirs))
    };
    let ((our_stdout, stdout), (our_stderr, stderr)) = (pipe(), pipe());
    let (exit, exited) = watch::channel(None);
    let output = LocalOutput::of_pipes(our_stdout, our_stderr).until_end(exited);
    Program { output, stdout, stderr, exit }
}

fn size(item: io::Result<Output>) -> usize {
    match item.unwrap() {
        Output::Stdout(bytes) | Output::Stderr(bytes) => bytes.len(),
    }
}

#[tokio::test(start_paused = true)]
async fn without_anybody_to_write_the_output_ends_before_the_exit_is_known() {
    let Program { output, mut stdout, mut stderr, exit } = program();
    stdout.write_all(b"out").unwrap();
    stderr.write_all(b"err").unwrap();
    drop((stdout, stderr));

    let all: Vec<_> = output.map(Result::unwrap).collect().await;

    let (out, err) = (Bytes::from_static(b"out"), Bytes::from_static(b"err"));
    assert_eq!(all, [Output::Stderr(err), Output::Stdout(out)]);
    drop(exit);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_keeps_the_output_open_holds_it_for_a_silence_and_no_longer() {
    let mut program = program();
    program.stdout.write_all(b"last words").unwrap();
    program.exit.send_replace(EXITED);
    let begun = Instant::now();

    assert_eq!(size(program.output.next().await.unwrap()), 10);
    assert!(program.output.next().await.is_none());

    assert_eq!(begun.elapsed().as_millis(), SILENCE.as_millis());
}

#[tokio::test(start_paused = true)]
async fn a_child_that_writes_now_and_then_has_its_output_told_for_a_while() {
    let mut program = program();
    program.exit.send_replace(EXITED);
    let begun = Instant::now();
    let mut told = 0;

    loop {
        program.stderr.write_all(b"x").unwrap();
        match program.output.next().await {
            Some(item) => told += size(item),
            None => break,
        }
        sleep(Duration::from_millis(300)).await;
    }

    assert!((5..=8).contains(&told), "{told}");
    assert!(begun.elapsed() <= LINGER_MAX + SILENCE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_child_that_writes_all_the_time_is_cut() {
    let mut program = program();
    program.exit.send_replace(EXITED);
    let begun = Instant::now();

    program.stdout.write_all(&[b'y'; 1000]).unwrap();
    while program.output.next().await.is_some() {
        program.stdout.write_all(&[b'y'; 1000]).unwrap();
        sleep(Duration::from_millis(10)).await;
    }

    assert!(begun.elapsed() <= LINGER_MAX + Duration::from_millis(50), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_loses_nothing() {
    let mut program = program();
    program.stdout.write_all(&vec![b'x'; 200_000]).unwrap();
    program.exit.send_replace(EXITED);
    let mut told = 0;

    sleep(LINGER_MAX * 5).await;
    while let Some(item) = program.output.next().await {
        told += size(item);
        sleep(LINGER_MAX).await;
    }

    assert_eq!(told, 200_000);
}

/// One whose end has been seen with nothing to read, and for which the wait is over.
async fn waited_for() -> Program {
    let mut program = program();
    program.exit.send_replace(EXITED);
    assert!(futures::poll!(program.output.next()).is_pending());
    sleep(LINGER_MAX).await;
    program
}

#[tokio::test(start_paused = true)]
async fn what_is_there_at_the_end_is_told_and_what_comes_meanwhile_is_not() {
    let mut program = waited_for().await;
    program.stdout.write_all(&vec![b'x'; 100_000]).unwrap();
    program.stderr.write_all(&[b'x'; 10]).unwrap();
    let mut told = 0;

    while let Some(item) = program.output.next().await {
        told += size(item);
        // Nobody listens to it any more, or is about not to.
        program.stdout.write_all(&[b'y'; 1000]).ok();
        program.stderr.write_all(&[b'y'; 1000]).ok();
    }

    assert_eq!(told, 100_010);
}

#[tokio::test(start_paused = true)]
async fn what_is_there_at_the_end_is_told_by_a_task_that_has_done_much() {
    // Tokio lets a task do 128 things, and then has it believe that nothing is ready.
    for done in 120..=130 {
        let mut program = waited_for().await;
        program.stdout.write_all(&vec![b'x'; 100_000]).unwrap();
        let (fill, mut work) = mpsc::channel(256);
        (0..256).for_each(|_| fill.try_send(()).unwrap());
        let first = std::future::poll_fn(|cx| {
            for _ in 0..done {
                let _done = work.poll_recv(cx);
            }
            program.output.poll_next_unpin(cx)
        });

        let mut told = first.await.map_or(0, size);
        while let Some(item) = program.output.next().await {
            told += size(item);
        }

        assert_eq!(told, 100_000, "after {done} things");
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_has_read_is_not_waited_for() {
    let mut program = waited_for().await;
    program.stdout.write_all(&vec![b'x'; 100_000]).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&program.stdout));
    let mut thief = File::open(path).unwrap();

    assert_eq!(size(program.output.next().await.unwrap()), READ_BYTES);
    thief.read_exact(&mut vec![0; 100_000 - READ_BYTES]).unwrap();

    assert!(program.output.next().await.is_none());
}
