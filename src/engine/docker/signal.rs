//! Two ways to signal a program in a container: there is no engine call for it.

use std::time::Duration;

use bollard::models::ExecConfig;
use futures::StreamExt as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpgid, kill_process_group, pidfd_open};
use tokio::time::{sleep, timeout};

use super::client::Client;
use super::error::quote;
use super::{exec, hijack};
use crate::engine::{EngineError, Output, Signal};
use crate::ids::ContainerId;

/// What runs inside the container; see there for its arguments.
const SCRIPT: &str = include_str!("signal.sh");

/// For the whole of the second program.
const EXEC_DEADLINE: Duration = Duration::from_secs(10);

/// The first program's environment is not there to be read in the very moment of its start.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);

/// How much of the script's complaint is kept.
const COMPLAINT_BYTES_MAX: usize = 1024;

/// The script's exit status for "no such program".
const NOT_FOUND: i64 = 3;

pub(super) const ACTION: &str = "signal the program";

/// How a signal straight to the process group went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direct {
    Sent,
    Ended,
    /// The process is not ours to see or to signal, or it is not what we took it for.
    Impossible,
}

/// Signals the process group of `pid`, if that is a process of `container` as seen from here.
pub(super) async fn direct(pid: i64, container: &ContainerId, signal: Signal) -> Direct {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Direct::Impossible };
    // From here on a reuse of the number shows, because the descriptor tells that its process has ended.
    // If that fails it is unknown whether the number means anything here: only the control group would tell.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Direct::Impossible };
    let groups = tokio::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).await;
    if !groups.is_ok_and(|groups| groups.contains(container.as_str())) {
        return Direct::Impossible;
    }
    // Docker makes every exec a session leader; the group of anything else is not the program's.
    if getpgid(Some(pid)) != Ok(pid) {
        return Direct::Impossible;
    }
    let Some(signal) = rustix::process::Signal::from_named_raw(signal.number()) else {
        return Direct::Impossible;
    };
    let at_once = Timespec::default();
    match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&at_once)) {
        Ok(0) => {}
        Ok(_) => return Direct::Ended,
        Err(_) => return Direct::Impossible,
    }
    match kill_process_group(pid, signal) {
        Ok(()) => Direct::Sent,
        Err(Errno::SRCH) => Direct::Ended,
        Err(_) => Direct::Impossible,
    }
}

/// Signals the group of the program marked `mark` by a second program in its container.
pub(super) async fn by_exec(
    client: &Client,
    container: &ContainerId,
    mark: &str,
    signal: Signal,
) -> Result<(), EngineError> {
    let work = async {
        let mut tries = 1;
        loop {
            match run_script(client, container, mark, signal).await? {
                (0, _) => return Ok(()),
                (NOT_FOUND, _) if tries < TRIES => {
                    tries += 1;
                    sleep(PAUSE).await;
                }
                // The program has ended since, or never wanted to be found.
                (NOT_FOUND, _) => return Ok(()),
                (_, complaint) if complaint.to_lowercase().contains("no such process") => return Ok(()),
                (_, complaint) => {
                    return Err(EngineError::Unsupported { action: ACTION, reason: quote(&complaint) });
                }
            }
        }
    };
    match timeout(EXEC_DEADLINE, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(EngineError::TimedOut { action: ACTION, after: EXEC_DEADLINE }),
    }
}

/// Exit status and complaint of one run.
async fn run_script(
    client: &Client,
    container: &ContainerId,
    mark: &str,
    signal: Signal,
) -> Result<(i64, String), EngineError> {
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(["/bin/sh", "-c", SCRIPT, "coracle", mark, signal.name()].map(str::to_owned).to_vec()),
        ..Default::default()
    };
    let exec = match exec::create(client, container, config).await {
        // A container that is gone has no program left to signal.
        Err(EngineError::Gone { .. }) => return Ok((0, String::new())),
        created => created?,
    };
    let (_stdin, mut output) = hijack::start(client, &exec, hijack::Mode::Multiplexed).await?;
    let mut complaint = Vec::new();
    while let Some(Ok(Output::Stdout(piece) | Output::Stderr(piece))) = output.next().await {
        let room = COMPLAINT_BYTES_MAX.saturating_sub(complaint.len());
        complaint.extend(piece.iter().take(room));
    }
    let complaint = String::from_utf8_lossy(&complaint).into_owned();
    loop {
        let state = client
            .call(ACTION, EXEC_DEADLINE, |docker| {
                let exec = exec.as_str();
                async move { docker.inspect_exec(exec).await }
            })
            .await?;
        match state.exit_code {
            Some(code) if state.running != Some(true) => return Ok((code, complaint)),
            _ => sleep(PAUSE).await,
        }
    }
}
