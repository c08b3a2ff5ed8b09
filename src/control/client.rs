//! The other end of the control socket: asks a server, and reads what it answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::protocol::{Answer, Question, Reply, Request, VERSION};

/// Longest line that a server answers with, in bytes; more than thousands of connections with all their sessions take.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// A server that is being asked something.
#[derive(Debug)]
pub struct Conversation {
    path: PathBuf,
    from: BufReader<UnixStream>,
    /// To wait for its end; `None` where that cannot be seen from here, as from another container.
    process: Option<OwnedFd>,
}

impl Conversation {
    /// Asks the server whose socket this is.
    ///
    /// # Errors
    /// There is none, or it is not for us: what that means, and what to do.
    pub fn begin(path: &Path, request: Request, within: Duration) -> anyhow::Result<Self> {
        let mut stream = UnixStream::connect(path).map_err(|error| explained(path, &error))?;
        stream.set_write_timeout(Some(within))?;
        let process = process_behind(&stream).context("failed to learn whose socket it is")?;
        let mut line = serde_json::to_vec(&Question { version: VERSION, request })?;
        line.push(b'\n');
        let said = stream.write_all(&line);
        // Who refuses us may not have waited for our request, but has said why.
        if let Err(error) = said
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(error).context("failed to ask the server");
        }
        Ok(Self { path: path.to_owned(), from: BufReader::new(stream), process })
    }

    /// The next answer; `None` once there are no more.
    ///
    /// # Errors
    /// None came in time, or none that we understand; the server refused.
    pub fn next(&mut self, within: Duration) -> anyhow::Result<Option<Answer>> {
        let path = self.path.display();
        self.from.get_ref().set_read_timeout(Some(within.max(Duration::from_millis(1))))?;
        let mut line = Vec::new();
        let read = (&mut self.from).take(ANSWER_BYTES_MAX).read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                bail!("the server at `{path}` did not answer within {}", humantime::format_duration(within))
            }
            Err(error) => return Err(error).with_context(|| format!("failed to hear from `{path}`")),
        }
        let reply = serde_json::from_slice(&line).with_context(|| {
            format!(
                "the server at `{path}` speaks another version; use the `coracle` that it was started with"
            )
        })?;
        match reply {
            Reply { answer: Answer::Refused { reason }, .. } => {
                bail!("{}", shown(&reason))
            }
            Reply { answer, .. } => Ok(Some(answer)),
        }
    }

    /// Waits for the end of the server's process. Says whether it came in time.
    #[must_use]
    pub fn process_ended(&self, within: Duration) -> bool {
        let Some(process) = &self.process else { return true };
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.try_into().ok();
            match poll(&mut [PollFd::new(process, PollFlags::IN)], left.as_ref()) {
                Ok(count) => return count > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// What others have put into an answer, fit for a terminal.
#[must_use]
pub fn shown(text: &str) -> String {
    let shown = text.chars().map(|letter| match letter {
        '\'' | '"' => letter.to_string(),
        _ => letter.escape_debug().to_string(),
    });
    shown.collect()
}

/// `None` where there is no such process here. rustix's own function must not meet the number 0, which a process of
/// another namespace has.
fn process_behind(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    stream.set_nonblocking(true)?;
    let peer = tokio::net::UnixStream::from_std(stream.try_clone()?)?.peer_cred()?;
    stream.set_nonblocking(false)?;
    let process = peer.pid().and_then(Pid::from_raw);
    Ok(process.and_then(|process| pidfd_open(process, PidfdFlags::empty()).ok()))
}

fn explained(path: &Path, error: &io::Error) -> anyhow::Error {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => anyhow::anyhow!(
            "no server runs with `{path}`; --config or --socket says which one is meant, and `control.socket` where it is"
        ),
        io::ErrorKind::ConnectionRefused => {
            anyhow::anyhow!("no server runs with `{path}`; the one that made it has ended")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!(
                "you may not use `{path}`: that is for root and for the user that the server runs as"
            )
        }
        _ => anyhow::anyhow!("failed to reach a server at `{path}`: {error}"),
    }
}
