//! One run of a client program: what goes in, what came out, and a time-out that nothing survives.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::poll_until;
use super::target::Log;

/// Long enough for any single step on a slow machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A client that has yet to run.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    program: OsString,
    options: Vec<OsString>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    stdin: Input,
    stdout_file: Option<PathBuf>,
    timeout: Duration,
    log: Log,
}

#[derive(Clone, Debug)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Client {
    pub(crate) fn new(program: &OsStr, log: Log) -> Self {
        Self {
            program: program.to_owned(),
            options: Vec::new(),
            arguments: Vec::new(),
            environment: vec![("TERM".into(), "xterm-256color".into())],
            stdin: Input::Nothing,
            stdout_file: None,
            timeout: TIMEOUT,
            log,
        }
    }

    /// One more option, ahead of the arguments.
    pub(crate) fn arg(mut self, option: impl AsRef<OsStr>) -> Self {
        self.options.push(option.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        self.options.extend(options.into_iter().map(|option| option.as_ref().to_owned()));
        self
    }

    /// `-o OPTION`, as ssh, scp and sftp know it.
    pub(crate) fn option(self, option: &str) -> Self {
        self.arg("-o").arg(option)
    }

    /// What follows all options.
    pub(crate) fn then<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    pub(crate) fn stdin_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.stdin = Input::File(path.into());
        self
    }

    /// Standard output goes to a file instead of memory.
    pub(crate) fn stdout_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.stdout_file = Some(path.into());
        self
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// As a line for a shell: for tmux, and for pipelines.
    pub(crate) fn line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.options).chain(&self.arguments);
        let quoted: Vec<_> =
            words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
        quoted.join(" ")
    }

    /// The same run inside a shell line, where `{}` stands for it: `yes | {}`.
    pub(crate) fn piped(self, pipeline: &str) -> Self {
        let line = pipeline.replace("{}", &self.line());
        let shell = Self { program: "sh".into(), options: Vec::new(), arguments: Vec::new(), ..self };
        shell.then(["-c", &line])
    }

    /// Runs it to its end; fails, with the server's log, when that takes longer than the time-out.
    pub(crate) async fn output(mut self) -> Output {
        let stdin = std::mem::replace(&mut self.stdin, Input::Nothing);
        let timeout = self.timeout;
        let start = Instant::now();
        let mut child = self.spawn_with(&stdin);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let run = async {
            let feed = feed(child.child.stdin.take(), stdin);
            let read_out = drain(child.child.stdout.take(), &mut stdout);
            let read_err = drain(child.child.stderr.take(), &mut stderr);
            tokio::join!(feed, read_out, read_err);
            child.child.wait().await.expect("a child can be waited for")
        };
        let status = tokio::time::timeout(timeout, run).await;
        let wall = start.elapsed();
        let Running { what, log, .. } = &child;
        let Ok(status) = status else {
            panic!(
                "no end within {timeout:?}: {what}\n-- stdout --\n{}\n-- stderr --\n{}\n-- server --\n{}",
                tail(&stdout),
                tail(&stderr),
                log.text()
            );
        };
        Output { status, stdout, stderr, wall, what: what.clone(), log: log.clone() }
    }

    /// Starts it with open pipes, to talk to while it runs.
    pub(crate) fn spawn(self) -> Running {
        self.spawn_with(&Input::Bytes(Vec::new()))
    }

    fn spawn_with(self, stdin: &Input) -> Running {
        let what = self.line();
        let stdout = match &self.stdout_file {
            Some(path) => Stdio::from(File::create(path).expect("a writable folder")),
            None => Stdio::piped(),
        };
        let stdin = match stdin {
            Input::Nothing => Stdio::null(),
            Input::Bytes(_) => Stdio::piped(),
            Input::File(path) => Stdio::from(File::open(path).expect("the file of a test")),
        };
        let child = Command::new(&self.program)
            .args(self.options)
            .args(self.arguments)
            .env_remove("SSH_AUTH_SOCK")
            .envs(self.environment)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("failed to start `{}`: {error}", self.program.display()));
        Running { child, what, log: self.log, seen: Vec::new(), seen_errors: Vec::new() }
    }
}

/// A client at work.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    what: String,
    log: Log,
    seen: Vec<u8>,
    seen_errors: Vec<u8>,
}

impl Running {
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.child
            .stdin
            .as_mut()
            .expect("standard input is open")
            .write_all(bytes)
            .await
            .expect("a client that reads");
    }

    pub(crate) fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// Reads until `text` has come since the start; gives all that came.
    pub(crate) async fn wait_for(&mut self, text: &str) -> String {
        let stdout = self.child.stdout.as_mut().expect("standard output is piped");
        let what = format!("{}\n-- server --\n{}", self.what, self.log.text());
        read_until(stdout, &mut self.seen, (text, |seen: &str| seen.contains(text)), &what).await
    }

    /// The same on standard error.
    pub(crate) async fn wait_for_error(&mut self, text: &str) -> String {
        let stderr = self.child.stderr.as_mut().expect("standard error is piped");
        let what = format!("{}\n-- server --\n{}", self.what, self.log.text());
        read_until(stderr, &mut self.seen_errors, (text, |seen: &str| seen.contains(text)), &what).await
    }

    /// The same until its line is whole; gives that line.
    pub(crate) async fn wait_for_error_line(&mut self, text: &str) -> String {
        let stderr = self.child.stderr.as_mut().expect("standard error is piped");
        let what = format!("{}\n-- server --\n{}", self.what, self.log.text());
        let line = |seen: &str| seen.split('\n').rev().skip(1).any(|line| line.contains(text));
        let seen = read_until(stderr, &mut self.seen_errors, (text, line), &what).await;
        seen.lines().find(|line| line.contains(text)).expect("what it waited for").trim_end().to_owned()
    }

    /// Forgets what came, so that the next [`Running::wait_for`] sees only what comes.
    pub(crate) fn forget(&mut self) {
        self.seen.clear();
    }

    /// The same for [`Running::wait_for_error`].
    pub(crate) fn forget_errors(&mut self) {
        self.seen_errors.clear();
    }

    /// SIGKILL to the client and what it started.
    pub(crate) fn kill(&mut self) {
        if let Some(group) = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).unwrap())) {
            // Gone already is as good.
            kill_process_group(group, Signal::KILL).ok();
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// Closes its input and waits for its end.
    pub(crate) async fn end(mut self) -> Output {
        self.close_stdin();
        let start = Instant::now();
        poll_until(&format!("the end of {}", self.what), TIMEOUT, async || self.has_ended().then_some(()))
            .await;
        let status = self.child.try_wait().unwrap().unwrap();
        let mut stdout = std::mem::take(&mut self.seen);
        let mut stderr = std::mem::take(&mut self.seen_errors);
        drain(self.child.stdout.take(), &mut stdout).await;
        drain(self.child.stderr.take(), &mut stderr).await;
        let (what, log) = (self.what.clone(), self.log.clone());
        Output { status, stdout, stderr, wall: start.elapsed(), what, log }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a client left.
#[derive(Debug)]
pub(crate) struct Output {
    status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// From the start of the client to its end.
    pub(crate) wall: Duration,
    what: String,
    log: Log,
}

impl Output {
    /// The exit status; 128 + n after a signal, as a shell says it.
    pub(crate) fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    #[track_caller]
    pub(crate) fn assert_success(&self) -> &Self {
        self.assert_code(0)
    }

    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code(), code, "exit status\n{}", self.report());
        self
    }

    #[track_caller]
    pub(crate) fn assert_stdout(&self, expected: &str) -> &Self {
        assert_eq!(self.stdout(), expected, "standard output\n{}", self.report());
        self
    }

    /// Status 255 and, on standard error, one line of ours and nothing else, with `words` and the connection's id.
    #[track_caller]
    pub(crate) fn assert_told(&self, words: &str) -> &Self {
        self.assert_code(255);
        let stderr = self.stderr();
        let lines: Vec<_> = stderr.lines().collect();
        let [line] = lines[..] else { panic!("one line was due\n{}", self.report()) };
        let told = line.starts_with("coracle: ") && line.contains(words);
        let id = line.rsplit_once(" (connection ").and_then(|(_, id)| id.strip_suffix(')'));
        assert!(
            told && id.is_some_and(|id| id.len() > 7),
            "no useful line with `{words}`\n{}",
            self.report()
        );
        self
    }

    /// Everything that helps to see why.
    pub(crate) fn report(&self) -> String {
        format!(
            "{} ended with {} after {:?}\n-- stdout --\n{}\n-- stderr --\n{}\n-- server --\n{}",
            self.what,
            self.status,
            self.wall,
            tail(&self.stdout),
            tail(&self.stderr),
            self.log.text()
        )
    }
}

async fn read_until(
    pipe: &mut (impl AsyncRead + Unpin),
    seen: &mut Vec<u8>,
    (text, is_enough): (&str, impl Fn(&str) -> bool),
    what: &str,
) -> String {
    let mut buffer = vec![0; 64 * 1024];
    let reading = async {
        while !is_enough(&String::from_utf8_lossy(seen)) {
            let count = pipe.read(&mut buffer).await.expect("a readable pipe");
            assert!(count > 0, "the end came before `{text}`: {what}");
            seen.extend_from_slice(&buffer[..count]);
        }
    };
    let came = tokio::time::timeout(TIMEOUT, reading).await.is_ok();
    let seen = String::from_utf8_lossy(seen).into_owned();
    assert!(came, "`{text}` never came: {what}\n{seen}");
    seen
}

async fn feed(stdin: Option<tokio::process::ChildStdin>, input: Input) {
    if let (Some(mut stdin), Input::Bytes(bytes)) = (stdin, input) {
        // A client may end without reading all of it (`head`).
        drop(stdin.write_all(&bytes).await);
    }
}

async fn drain(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(into).await.expect("a readable pipe");
    }
}

fn tail(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4000)..]).into_owned()
}
