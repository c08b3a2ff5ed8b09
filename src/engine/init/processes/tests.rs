use tokio_util::task::TaskTracker;

use super::super::wires::{Queue, outbox};
use super::*;

const EXIT: Exit = Exit::Status(7);

fn started(process: u32) -> FromInit<'static> {
    FromInit::Started { process, pid: 2 }
}

fn exited(process: u32) -> FromInit<'static> {
    FromInit::Exited { process, exit: EXIT }
}

async fn entered(processes: &Arc<Processes>, outbox: &Outbox) -> Entry {
    let mut entry = processes.enter(outbox, None).await.unwrap();
    entry.asked_for();
    entry
}

/// Which programs the init is told to kill.
fn killed(queue: &mut Queue) -> Vec<u32> {
    let mut killed = Vec::new();
    while let Ok(parcel) = queue.try_recv() {
        let Ok(Some((ToInit::Signal { process, number: 9 }, _))) = ToInit::decode(&parcel.bytes) else {
            panic!("it is told something else: {parcel:?}");
        };
        killed.push(process);
    }
    killed
}

#[tokio::test]
async fn a_program_begins_runs_and_ends() {
    let ((outbox, mut queue), processes) = (outbox(&TaskTracker::new()), Processes::new(false));
    let mut entry = entered(&processes, &outbox).await;
    let exit = entry.exit();

    processes.take(&started(1), &outbox).unwrap();
    entry.begun().await.unwrap().unwrap();
    assert!(exit.borrow().is_none());
    processes.take(&exited(1), &outbox).unwrap();

    assert_eq!(*exit.borrow(), Some(EXIT));
    assert_eq!(killed(&mut queue), [0; 0]);
}

#[tokio::test]
async fn a_program_that_nobody_waits_for_is_killed_when_it_has_begun() {
    let ((outbox, mut queue), processes) = (outbox(&TaskTracker::new()), Processes::new(false));
    let before = entered(&processes, &outbox).await;
    let after = entered(&processes, &outbox).await;

    drop(before);
    assert_eq!(killed(&mut queue), [0; 0], "it does not exist yet");
    processes.take(&started(1), &outbox).unwrap();
    assert_eq!(killed(&mut queue), [1]);

    processes.take(&started(2), &outbox).unwrap();
    drop(after);
    assert_eq!(killed(&mut queue), [2], "whoever waited has not heard of it");
}

#[tokio::test]
async fn a_program_that_was_not_asked_for_is_forgotten_and_one_that_was_refused_is_not_killed() {
    let ((outbox, mut queue), processes) = (outbox(&TaskTracker::new()), Processes::new(false));
    drop(processes.enter(&outbox, None).await.unwrap());
    assert!(processes.take(&started(1), &outbox).is_err());

    let mut entry = entered(&processes, &outbox).await;
    processes.take(&FromInit::Refused { process: 2, reason: b"no" }, &outbox).unwrap();
    let refused = entry.begun().await.unwrap().unwrap_err();

    assert_eq!(refused.reason, "no");
    assert_eq!(killed(&mut queue), [0; 0]);
}

#[tokio::test]
async fn programs_that_are_not_answered_for_are_few_whoever_has_gone() {
    let ((outbox, _queue), processes) = (outbox(&TaskTracker::new()), Processes::new(false));
    for _ in 0..UNANSWERED_MAX {
        drop(entered(&processes, &outbox).await);
    }
    let mut next = Box::pin(processes.enter(&outbox, None));
    assert!(futures::poll!(&mut next).is_pending());

    processes.take(&started(3), &outbox).unwrap();

    assert_eq!(next.await.unwrap().number(), 9);
}

#[tokio::test]
async fn the_end_of_the_init_is_told_to_all() {
    let ((outbox, _queue), processes) = (outbox(&TaskTracker::new()), Processes::new(false));
    let mut entries = Vec::new();
    for _ in 0..UNANSWERED_MAX {
        entries.push(entered(&processes, &outbox).await);
    }
    let mut waiting = Box::pin(processes.enter(&outbox, None));
    assert!(futures::poll!(&mut waiting).is_pending());

    processes.close("it fell over");

    assert_eq!(waiting.await.unwrap_err(), "it fell over");
    for mut entry in entries {
        let mut exit = entry.exit();
        assert!(entry.begun().await.is_none());
        assert!(exit.wait_for(Option::is_some).await.is_err());
    }
    assert_eq!(processes.enter(&outbox, None).await.unwrap_err(), "it fell over");
}

#[tokio::test]
async fn streams_in_frames_are_forgotten_with_whoever_had_them() {
    let ((outbox, _queue), processes) = (outbox(&TaskTracker::new()), Processes::new(true));
    for process in 1..=100 {
        let framed = Framed::new(true);
        let mut entry = processes.enter(&outbox, Some(&framed)).await.unwrap();
        entry.asked_for();
        processes.take(&started(process), &outbox).unwrap();
        entry.begun().await.unwrap().unwrap();
        processes.take(&exited(process), &outbox).unwrap();
        assert!(processes.books().framed(process).is_some(), "somebody may read them yet");
    }

    assert!(processes.books().running.is_empty());
    assert!(processes.books().leaving.len() <= 2, "{}", processes.books().leaving.len());
    assert!(processes.books().framed(1).is_none());
}
