//! What a program can do to the ends that it is given: they are descriptions of their own, so it does it to itself.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coracle::engine::init::Init;
use coracle::engine::{Output, Process, ProcessSpec, TerminalSize};
use futures::StreamExt as _;
use rustix::io::ioctl_fionbio;
use rustix::termios::{Action, tcflow};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::guest::Guest;
use crate::stage::{Pulse, Stage, exec, on_terminal, output_of, program, within};

/// A program that has begun, with the ends that its container has of it.
async fn begun(spec: ProcessSpec) -> (Init, Guest, Process, Vec<OwnedFd>) {
    let (init, mut guest) = Stage::new().greeted().await;
    let (process, descriptors) = tokio::join!(exec(&init, spec), async {
        let asked = tokio::task::block_in_place(|| guest.asked());
        guest.started(asked.process);
        asked.descriptors
    });
    (init, guest, process.unwrap(), descriptors)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_that_stay_open_after_the_program_do_not_hold_the_session() {
    let (_init, mut guest, mut process, ends) = begun(program()).await;
    rustix::io::write(&ends[1], b"the last words").unwrap();
    guest.exited(1);
    let exited = Instant::now();

    let arrived = within(8, "the output's end", output_of(&mut process)).await;

    assert_eq!(arrived, b"the last words");
    assert!(exited.elapsed() < Duration::from_secs(5), "took {:?}", exited.elapsed());
    process.control.wait().await.unwrap();
    drop(ends);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_goes_on_writing_without_end_is_cut() {
    let (_init, mut guest, mut process, ends) = begun(program()).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = [1, 2]
        .into_iter()
        .map(|end| {
            let mut writer = File::from(ends[end].try_clone().unwrap());
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(
                move || while !is_over.load(Ordering::Relaxed) && writer.write(b"y\n").is_ok() {},
            )
        })
        .collect();
    guest.exited(1);
    let exited = Instant::now();

    while within(8, "output or its end", process.output.next()).await.is_some() {}

    assert!(exited.elapsed() < Duration::from_secs(6), "took {:?}", exited.elapsed());
    is_over.store(true, Ordering::Relaxed);
    drop(process);
    for writer in writers {
        writer.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn input_that_nobody_reads_waits_and_holds_nothing_up() {
    let (_init, mut guest, mut process, ends) = begun(program()).await;
    let pulse = Pulse::begin().await;
    for end in &ends {
        ioctl_fionbio(end, true).unwrap();
        ioctl_fionbio(end, false).unwrap();
    }
    rustix::pipe::fcntl_setpipe_size(&ends[0], 4096).ok();

    let fed = timeout(Duration::from_secs(1), process.stdin.write_all(&vec![0; 8 << 20])).await;

    assert!(fed.is_err(), "there is no room for all of it");
    pulse.assert_steady();
    drop(ends);
    guest.exited(1);
    assert!(process.stdin.write_all(&vec![0; 8 << 20]).await.is_err());
    assert_eq!(within(5, "the output's end", output_of(&mut process)).await, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_that_is_closed_is_told_and_the_output_goes_on() {
    let (_init, mut guest, mut process, mut ends) = begun(program()).await;
    drop(ends.remove(0));

    let fed = within(5, "an error", process.stdin.write_all(&vec![0; 8 << 20])).await;

    assert_eq!(fed.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    rustix::io::write(&ends[0], b"still here").unwrap();
    drop(ends);
    guest.exited(1);
    assert_eq!(within(5, "the output's end", output_of(&mut process)).await, b"still here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn output_that_others_read_back_does_not_block_the_reader() {
    let (_init, mut guest, mut process, ends) = begun(program()).await;
    let pulse = Pulse::begin().await;
    let is_over = Arc::new(AtomicBool::new(false));
    // The name of its own end, opened the other way round.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&ends[1]));
    let thief = File::open(path).unwrap();
    ioctl_fionbio(&thief, true).unwrap();
    let mut writer = File::from(ends[1].try_clone().unwrap());
    let theft = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let mut buffer = vec![0; 64 << 10];
            while !is_over.load(Ordering::Relaxed) {
                drop(writer.write(b"mine\n"));
                rustix::io::read(&thief, &mut buffer).ok();
            }
        }
    });

    drop(timeout(Duration::from_secs(1), output_of(&mut process)).await);
    guest.exited(1);
    while within(8, "output or its end", process.output.next()).await.is_some() {}

    pulse.assert_steady();
    is_over.store(true, Ordering::Relaxed);
    drop(ends);
    theft.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_terminal_that_is_stopped_and_never_read_holds_nothing_up() {
    let (_init, mut guest, mut process, ends) = begun(on_terminal()).await;
    let pulse = Pulse::begin().await;
    let terminal = &ends[0];
    rustix::termios::ioctl_tiocexcl(terminal).unwrap();
    tcflow(terminal, Action::OOff).unwrap();
    ioctl_fionbio(terminal, true).unwrap();
    rustix::io::write(terminal, b"kept back").ok();

    // Nobody reads it: the kernel keeps a little of it and drops the rest, or takes no more.
    drop(timeout(Duration::from_secs(1), process.stdin.write_all(&vec![b'x'; 1 << 20])).await);

    process.control.resize(TerminalSize::from_client(132, 50)).await.unwrap();
    let size = rustix::termios::tcgetwinsize(terminal).unwrap();
    assert_eq!((size.ws_col, size.ws_row), (132, 50));
    guest.exited(1);
    within(8, "the output's end", output_of(&mut process)).await;
    process.control.wait().await.unwrap();
    pulse.assert_steady();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_nobody_has_open_ends_its_output() {
    let (_init, mut guest, mut process, ends) = begun(on_terminal()).await;
    rustix::io::write(&ends[0], b"bye").unwrap();
    drop(ends);

    assert_eq!(within(5, "the output's end", output_of(&mut process)).await, b"bye");
    guest.exited(1);
    process.control.wait().await.unwrap();
    drop(process.control.resize(TerminalSize::from_client(1, 1)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_one_of_the_folder_that_came_with_the_hello() {
    let (_init, _guest, _process, ends) = begun(on_terminal()).await;

    assert!(rustix::termios::isatty(&ends[0]));
    let name = rustix::termios::ttyname(&ends[0], Vec::new()).unwrap();
    assert!(name.to_str().unwrap().starts_with("/dev/pts/"), "{name:?}");
    assert!(ends[0].as_fd().try_clone_to_owned().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_slow_loses_nothing_of_what_was_written_before_the_end() {
    let (_init, mut guest, mut process, ends) = begun(program()).await;
    let held = ends[1].try_clone().unwrap();
    let mut writer = File::from(ends[1].try_clone().unwrap());
    writer.write_all(&vec![b'x'; 200_000]).unwrap();
    guest.exited(1);
    // The client does not read: longer than output is waited for after the end.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let mut count = 0;
    while let Some(chunk) = within(5, "output", process.output.next()).await {
        let Ok(Output::Stdout(bytes) | Output::Stderr(bytes)) = chunk else { panic!("{chunk:?}") };
        count += bytes.len();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    assert_eq!(count, 200_000);
    drop((held, ends));
}
