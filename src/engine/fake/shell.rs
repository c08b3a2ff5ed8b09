//! A shell of a few words, enough to tell whether bytes, signals, sizes and ends get through.
//!
//! `a; b` · `'quotes'` `"quotes"` · `$NAME` `${NAME}` `$$` · `>&2` · echo, printf, cat, exit, sleep, printenv, env,
//! yes, bytes N, stty size, test -t 0, kill -NAME $$, trap COMMAND NAME, true, false. Arguments that begin with `/`
//! are programs of the same names. No pipes, no files, no loops.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use std::io;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, DuplexStream};
use tokio::sync::{mpsc, watch};

use crate::engine::{Output, ProcessSpec, Program, Signal, TerminalSize};

/// What one piece of output is at most.
const PIECE_BYTES: usize = 32 * 1024;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Exited(u32),
    Signaled(Signal),
    /// With its container.
    Killed,
}

/// Why a script goes no further.
enum Stop {
    Ended(Ending),
    /// Nobody reads its output: as with SIGPIPE.
    Unread,
}

type Step<T> = Result<T, Stop>;

pub(super) struct Shell {
    env: BTreeMap<String, String>,
    stdin: BufReader<DuplexStream>,
    output: mpsc::Sender<io::Result<Output>>,
    /// Bytes until the output is cut.
    left: Option<usize>,
    signals: Option<mpsc::Receiver<Signal>>,
    size: watch::Receiver<Option<TerminalSize>>,
    traps: HashMap<Signal, String>,
}

impl Shell {
    pub(super) fn new(
        spec: &ProcessSpec,
        stdin: DuplexStream,
        output: mpsc::Sender<io::Result<Output>>,
        signals: mpsc::Receiver<Signal>,
        size: watch::Receiver<Option<TerminalSize>>,
    ) -> Self {
        let mut env: BTreeMap<String, String> = ["USER", "LOGNAME"]
            .map(|name| (name.to_owned(), spec.username.clone()))
            .into_iter()
            .chain([("HOME".to_owned(), "/".to_owned()), ("SHELL".to_owned(), "/bin/sh".to_owned())])
            .collect();
        env.extend(spec.env.iter().cloned());
        if let Some(terminal) = &spec.terminal {
            env.insert("TERM".to_owned(), terminal.term.clone());
            env.insert("SSH_TTY".to_owned(), "/dev/pts/0".to_owned());
        }
        let (stdin, signals) = (BufReader::new(stdin), Some(signals));
        Self { env, stdin, output, left: None, signals, size, traps: HashMap::new() }
    }

    pub(super) fn cut_after(mut self, bytes: Option<usize>) -> Self {
        self.left = bytes;
        self
    }

    pub(super) async fn run(mut self, program: Program) -> Ending {
        let done = match program {
            Program::ShellCommand(command) => self.script(&String::from_utf8_lossy(&command)).await,
            Program::Args(args) => self.interruptible(&args, false).await,
            Program::LoginShell => self.lines().await,
        };
        match done {
            Ok(status) => Ending::Exited(status),
            Err(Stop::Ended(ending)) => ending,
            Err(Stop::Unread) => Ending::Signaled(Signal::Pipe),
        }
    }

    async fn lines(&mut self) -> Step<u32> {
        let (mut line, mut status) = (String::new(), 0);
        while self.stdin.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) {
            status = self.script(line.trim_end()).await?;
            line.clear();
        }
        Ok(status)
    }

    fn script<'a>(&'a mut self, script: &'a str) -> BoxFuture<'a, Step<u32>> {
        async move {
            let mut status = 0;
            for command in split_commands(script) {
                let (words, to_stderr) = self.words(&command);
                status = self.interruptible(&words, to_stderr).await?;
            }
            Ok(status)
        }
        .boxed()
    }

    /// A command, and what a signal makes of it: a trap runs at once, as in `wait`.
    async fn interruptible(&mut self, words: &[String], to_stderr: bool) -> Step<u32> {
        let Some(mut signals) = self.signals.take() else { return self.command(words, to_stderr).await };
        let signal = tokio::select! {
            done = self.command(words, to_stderr) => {
                self.signals = Some(signals);
                return done;
            }
            signal = signals.recv() => signal,
        };
        self.signals = Some(signals);
        let Some(signal) = signal else { return Err(Stop::Unread) };
        match self.traps.get(&signal).cloned() {
            Some(trap) => self.script(&trap).await,
            None => Err(Stop::Ended(Ending::Signaled(signal))),
        }
    }

    async fn command(&mut self, words: &[String], to_stderr: bool) -> Step<u32> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let [name, arguments @ ..] = words.as_slice() else { return Ok(0) };
        let text = match (name.rsplit('/').next().unwrap_or(name), arguments) {
            ("true" | ":", _) => String::new(),
            ("false", _) => return Ok(1),
            ("echo", words) => words.join(" ") + "\n",
            ("printf", ["%s", text, ..]) => (*text).to_owned(),
            ("printf", [format, ..]) => unescape(format),
            ("exit", [status, ..]) => {
                return Err(Stop::Ended(Ending::Exited(status.parse().unwrap_or(2) & 0xff)));
            }
            ("exit", []) => return Err(Stop::Ended(Ending::Exited(0))),
            ("sleep", [seconds, ..]) => {
                tokio::time::sleep(
                    Duration::try_from_secs_f64(seconds.parse().unwrap_or(0.0)).unwrap_or_default(),
                )
                .await;
                return Ok(0);
            }
            ("cat", []) => return self.cat(to_stderr).await,
            ("yes", _) => loop {
                self.write(&b"y\n".repeat(PIECE_BYTES / 2), to_stderr).await?;
            },
            ("bytes", [count, ..]) => return self.bytes(count.parse().unwrap_or(0), to_stderr).await,
            ("printenv", [name, ..]) => match self.env.get(*name) {
                Some(value) => format!("{value}\n"),
                None => return Ok(1),
            },
            ("printenv" | "env", []) => {
                let lines: Vec<_> =
                    self.env.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
                lines.concat()
            }
            ("stty", ["size"]) => match *self.size.borrow() {
                Some(size) => format!("{} {}\n", size.rows(), size.columns()),
                None => return Ok(1),
            },
            ("test", ["-t", _]) => return Ok(u32::from(self.size.borrow().is_none())),
            ("tty", _) if self.size.borrow().is_none() => return Ok(1),
            ("tty", _) => "/dev/pts/0\n".to_owned(),
            ("kill", [signal, ..]) => return Err(Stop::Ended(Ending::Signaled(kill_signal(signal)))),
            ("trap", [command, signals @ ..]) => {
                let signals = signals.iter().filter_map(|name| Signal::from_name(name));
                self.traps.extend(signals.map(|signal| (signal, (*command).to_owned())));
                return Ok(0);
            }
            _ => {
                self.write(format!("{name}: not found\n").as_bytes(), true).await?;
                return Ok(127);
            }
        };
        self.write(text.as_bytes(), to_stderr).await?;
        Ok(0)
    }

    async fn cat(&mut self, to_stderr: bool) -> Step<u32> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match self.stdin.read(&mut piece).await {
                Ok(0) | Err(_) => return Ok(0),
                Ok(bytes) => {
                    let read: Vec<u8> = piece.iter().take(bytes).copied().collect();
                    self.write(&read, to_stderr).await?;
                }
            }
        }
    }

    async fn bytes(&mut self, count: usize, to_stderr: bool) -> Step<u32> {
        let mut left = count;
        while left > 0 {
            let piece = left.min(PIECE_BYTES);
            self.write(&b"x".repeat(piece), to_stderr).await?;
            left -= piece;
        }
        Ok(0)
    }

    async fn write(&mut self, bytes: &[u8], to_stderr: bool) -> Step<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let has_terminal = self.size.borrow().is_some();
        let mut bytes = if has_terminal { with_carriage_returns(bytes) } else { bytes.to_vec() };
        let cut = self.left.is_some_and(|left| bytes.len() > left);
        if let Some(left) = &mut self.left {
            bytes.truncate(*left);
            *left -= bytes.len();
        }
        if !bytes.is_empty() {
            let piece = Bytes::from(bytes);
            let output =
                if to_stderr && !has_terminal { Output::Stderr(piece) } else { Output::Stdout(piece) };
            self.output.send(Ok(output)).await.map_err(|_| Stop::Unread)?;
        }
        if cut {
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the engine cut the output short");
            self.output.send(Err(error)).await.map_err(|_| Stop::Unread)?;
            return Err(Stop::Unread);
        }
        Ok(())
    }

    /// The words of one command, with variables filled in, and whether it writes to standard error.
    fn words(&self, command: &str) -> (Vec<String>, bool) {
        let (mut words, mut to_stderr) = (Vec::new(), false);
        let mut letters = command.chars().peekable();
        let (mut word, mut quote): (Option<String>, Option<char>) = (None, None);
        while let Some(letter) = letters.next() {
            match (quote, letter) {
                (Some(open), letter) if letter == open => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (None | Some('"'), '$') => {
                    let mut name = String::new();
                    let of_name = |letter: &char| letter.is_ascii_alphanumeric() || "_{}$".contains(*letter);
                    while let Some(letter) = letters.next_if(of_name) {
                        name.push(letter);
                    }
                    let value = self.env.get(name.trim_matches(['{', '}'])).map_or("", String::as_str);
                    word.get_or_insert_default().push_str(value);
                }
                (None, ' ' | '\t') => words.extend(word.take()),
                (_, letter) => word.get_or_insert_default().push(letter),
            }
        }
        words.extend(word);
        words.retain(|word| {
            to_stderr |= word == ">&2";
            word != ">&2"
        });
        (words, to_stderr)
    }
}

fn split_commands(script: &str) -> Vec<String> {
    let (mut commands, mut command, mut quote) = (Vec::new(), String::new(), None);
    for letter in script.chars() {
        match (quote, letter) {
            (None, ';' | '\n') => commands.push(std::mem::take(&mut command)),
            (None, '\'' | '"') => {
                quote = Some(letter);
                command.push(letter);
            }
            (open, letter) => {
                quote = open.filter(|open| *open != letter);
                command.push(letter);
            }
        }
    }
    commands.push(command);
    commands
}

/// `\n`, `\t`, `\\` and octal.
fn unescape(format: &str) -> String {
    let (mut text, mut letters) = (String::new(), format.chars().peekable());
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            text.push(letter);
            continue;
        }
        let mut code = None;
        while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(8)) {
            code = Some((code.unwrap_or(0) * 8 + digit) & 0x7f);
            letters.next();
        }
        match code {
            Some(code) => text.extend(char::from_u32(code)),
            None => match letters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(letter) => text.push(letter),
                None => text.push('\\'),
            },
        }
    }
    text
}

fn kill_signal(argument: &str) -> Signal {
    let argument = argument.trim_start_matches('-');
    if argument == "9" { Signal::Kill } else { Signal::from_name(argument).unwrap_or(Signal::Term) }
}

fn with_carriage_returns(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| if *byte == b'\n' { vec![b'\r', b'\n'] } else { vec![*byte] }).collect()
}
