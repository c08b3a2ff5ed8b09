//! Questions to whoever sits at the terminal. They go to standard error, so that standard output can go elsewhere.

use std::io::{self, BufRead, Read, Write};

use anyhow::{Context, bail, ensure};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

use crate::secret::Secret;

/// Asks, shows what is typed, and reads a line of at most `bytes_max`.
pub(super) fn ask(question: &str, bytes_max: usize) -> anyhow::Result<Secret<String>> {
    say(question)?;
    read_line(bytes_max)
}

/// As [`ask`], several questions one after the other, but shows nothing of what is typed. Standard input has to be a
/// terminal; it shows again what is typed however this ends, signals included.
pub(super) fn ask_unseen<const N: usize>(
    questions: [&'static str; N],
    bytes_max: usize,
) -> anyhow::Result<[Secret<String>; N]> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = runtime.block_on(unless_interrupted(move || {
        let mut answers = [const { None }; N];
        for (answer, question) in answers.iter_mut().zip(questions) {
            *answer = Some(ask(question, bytes_max)?);
            say("\n")?;
        }
        Ok(answers.map(Option::unwrap_or_default))
    }));
    // After a signal, the thread that reads still waits for a line.
    runtime.shutdown_background();
    answers
}

async fn unless_interrupted<T: Send + 'static>(
    ask: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    // From here on these signals no longer end the process, which would leave the terminal as it is.
    let (mut interrupt, mut quit) = (signal(SignalKind::interrupt())?, signal(SignalKind::quit())?);
    let (mut terminate, mut hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let unseen = Unseen::start()?;
    tokio::select! {
        answers = spawn_blocking(ask) => return answers?,
        _ = interrupt.recv() => {}
        _ = quit.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    drop(unseen);
    // A terminal that has hung up takes no more.
    drop(say("\n"));
    bail!("interrupted")
}

/// Reads a line of at most `bytes_max` from standard input, without its end.
pub(super) fn read_line(bytes_max: usize) -> anyhow::Result<Secret<String>> {
    // Room for the line's end, and for one letter that is too many.
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(3);
    let mut line = String::new();
    let read = io::stdin().lock().take(limit).read_line(&mut line);
    read.context("failed to read from standard input")?;
    let line = line.strip_suffix('\n').map_or(line.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    ensure!(line.len() <= bytes_max, "a line of more than {bytes_max} bytes is not accepted");
    Ok(Secret::new(line.to_owned()))
}

fn say(text: &str) -> anyhow::Result<()> {
    io::stderr().lock().write_all(text.as_bytes()).context("failed to write to standard error")
}

/// While it lives, the terminal does not show what is typed.
struct Unseen {
    before: Termios,
}

impl Unseen {
    fn start() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("failed to look at the terminal")?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        // ^Z would leave the shell with a terminal that shows nothing. Zero: no key does it.
        quiet.special_codes[SpecialCodeIndex::VSUSP] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet).context("failed to set the terminal up")?;
        Ok(Self { before })
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // What was typed and not read must not become a command for the shell. A terminal that is gone needs nothing.
        tcsetattr(io::stdin(), OptionalActions::Flush, &self.before).unwrap_or_default();
    }
}
