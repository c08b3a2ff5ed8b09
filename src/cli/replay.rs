//! `coracle replay`: a recording, as fast as it was or faster.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, OutputModes, Termios, tcgetattr, tcsetattr};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::recording::{Entry, Filter, Form, Keep, Reader, Stream, Utf8, What};

/// Puts a terminal right again, whatever was played: the main screen, colours, character set, cursor, modes, and the region
/// that scrolls, whose change moves the cursor.
const RESET: &str = "\x1b[?1047l\x1b[0m\x1b(B\x0f\x1b[?1l\x1b[?7h\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\
                     \x1b[?1006l\x1b[?2004l\x1b[4l\x1b>\x1b7\x1b[r\x1b8\r\n";

/// What is played at once goes on for as long as the terminal takes it, so signals are looked for every so many events.
const EVENTS_AT_ONCE_MAX: u32 = 64;

#[derive(Args, Debug)]
#[command(
    after_help = "Ctrl-C ends it. What is played are the bytes that a program sent to a terminal, and this terminal obeys \
                        them as that one did: some terminals can so be made to change their title or clipboard, or to type an \
                        answer. --safe leaves out what does such things."
)]
pub(super) struct Replay {
    /// A recording: asciicast v2 or v3, or one of our event logs, which is printed at once
    file: PathBuf,
    /// Times as fast
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed)]
    speed: f64,
    /// Longest pause, in seconds of the recording; 0 for none at all
    #[arg(long, value_name = "S", value_parser = seconds)]
    idle_limit: Option<Duration>,
    /// Leave out all but text, colours and movements of the cursor
    #[arg(long)]
    safe: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed: &f64| speed.is_finite() && *speed > 0.0);
    speed.ok_or_else(|| "expected a number over 0, such as 2 or 0.5".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "expected a number of seconds, such as 2 or 0.5".to_owned())
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let reader = Reader::open(&self.file)?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            // From here on these no longer end the process, which would leave the terminal as it is.
            let (mut interrupt, mut quit) = (signal(SignalKind::interrupt())?, signal(SignalKind::quit())?);
            let (mut terminate, mut hang_up) =
                (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
            let stage = Stage::set(reader.form())?;
            let played = tokio::select! {
                biased;
                _ = interrupt.recv() => Ok(()),
                _ = quit.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
                _ = hang_up.recv() => Ok(()),
                played = self.play(reader) => played,
            };
            drop(stage);
            played
        })
    }

    async fn play(&self, mut reader: Reader) -> anyhow::Result<()> {
        let is_log = reader.form() == Form::Log;
        let (mut last, mut at_once) = (Duration::ZERO, 0);
        let (mut utf8, mut filter) = (Utf8::default(), Filter::new(Keep::Drawing));
        while let Some(Entry { at, what }) = reader.next_entry()? {
            let pause = at.saturating_sub(last);
            last = at;
            let pause = self.idle_limit.map_or(pause, |limit| pause.min(limit));
            // A pause too long to be told is longer than anybody waits.
            let pause =
                Duration::try_from_secs_f64(pause.as_secs_f64() / self.speed).unwrap_or(Duration::MAX);
            if !is_log && !pause.is_zero() {
                at_once = 0;
                sleep(pause).await;
            }
            at_once += 1;
            if at_once >= EVENTS_AT_ONCE_MAX {
                at_once = 0;
                tokio::task::yield_now().await;
            }
            let shown = match what {
                what if is_log => line(at, &what).into_bytes(),
                What::Output(_, bytes) if self.safe => {
                    let mut harmless = String::new();
                    filter.pass(&utf8.decode(&bytes), &mut harmless);
                    harmless.into_bytes()
                }
                What::Output(_, bytes) => bytes,
                What::Input(_) | What::Note(_) => continue,
            };
            if !write(&shown)? {
                break;
            }
        }
        Ok(())
    }
}

/// `false` where nobody looks any more.
fn write(bytes: &[u8]) -> anyhow::Result<bool> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("failed to write to standard output"),
    }
}

/// An event of a log, as people read it.
fn line(at: Duration, what: &What) -> String {
    let time = at.as_secs_f64();
    let (name, bytes) = match what {
        What::Note(note) => return format!("{time:10.3} {}\n", note.escape_debug()),
        What::Input(bytes) => ("stdin", bytes),
        What::Output(Stream::Stdout, bytes) => ("stdout", bytes),
        What::Output(Stream::Stderr, bytes) => ("stderr", bytes),
    };
    match std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')) {
        None => format!("{time:10.3} {name}: {} bytes\n", bytes.len()),
        Some(text) => text.lines().fold(String::new(), |mut lines, text| {
            // Writing to a string cannot fail.
            writeln!(lines, "{time:10.3} {name}: {}", text.escape_debug()).unwrap_or_default();
            lines
        }),
    }
}

/// While it lives, the terminal shows what it is sent as it is, and nothing of what is typed.
struct Stage {
    before: Option<Termios>,
    on_terminal: bool,
}

impl Stage {
    fn set(form: Form) -> anyhow::Result<Self> {
        let on_terminal = form != Form::Log && io::stdout().is_terminal();
        let mut before = None;
        if on_terminal && io::stdin().is_terminal() {
            let found = tcgetattr(io::stdin()).context("failed to look at the terminal")?;
            let mut playing = found.clone();
            playing.output_modes.remove(OutputModes::OPOST);
            playing.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
            tcsetattr(io::stdin(), OptionalActions::Now, &playing)
                .context("failed to set the terminal up")?;
            before = Some(found);
        }
        Ok(Self { before, on_terminal })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.on_terminal {
            // A terminal that is gone needs nothing.
            drop(write(RESET.as_bytes()));
        }
        if let Some(before) = &self.before {
            // What the terminal answered must not become a command for the shell.
            tcsetattr(io::stdin(), OptionalActions::Flush, before).unwrap_or_default();
        }
    }
}
