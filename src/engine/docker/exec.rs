//! One running container: programs are started in it by the engine's exec, through `login.sh`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::ExecConfig;
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::changes;
use super::client::Client;
use super::error::gone_if_not_running;
use super::events::{Fate, Fates};
use super::helper::{FORWARD, Helper};
use super::hijack::{self, Mode};
use super::launcher::Guide;
use super::process::DockerProcess;
use super::retry::Retries;
use super::survival::{InitControl, Survival};
use super::terminal_modes::stty_words;
use super::{SignalPath, remove, rename};
use crate::engine::init::Init;
use crate::engine::{
    Changes, Container, DialSpec, EngineError, ForwardError, ListenSpec, Listener, Process, ProcessControl,
    ProcessSpec, Program,
};
use crate::ids::ContainerId;

/// What runs before the program; see there for its arguments.
const LOGIN: &str = include_str!("login.sh");

/// Creating an exec only makes an entry in the engine's books.
const CREATE_DEADLINE: Duration = Duration::from_secs(30);

/// From a container's end until the engine's event about it is here.
const EVENT_DEADLINE: Duration = Duration::from_millis(500);

/// The variable by which a second program in the container finds the first (`signal.sh`).
const MARK_VARIABLE: &str = "CORACLE_PROCESS";

/// The engine watches a terminal's input for a sequence that detaches, and swallows its beginnings (Ctrl-P by
/// default). There is no way to say "none", so this is one that nobody types.
const DETACH_KEYS: &str = "ctrl-^,ctrl-@,ctrl-^,ctrl-@,ctrl-^,ctrl-@,ctrl-^,ctrl-@";

/// A container on a Docker engine.
#[derive(Debug)]
pub(super) struct DockerContainer {
    pub(super) client: Arc<Client>,
    pub(super) id: ContainerId,
    pub(super) signal_path: SignalPath,
    /// How long an exec may be in the making, tries that failed included.
    pub(super) timeout: Duration,
    pub(super) fate: watch::Receiver<Fate>,
    pub(super) fates: Fates,
    /// Who starts programs.
    pub(super) guide: Guide,
    /// Who looks after sockets, where the engine starts programs.
    pub(super) helper: Helper,
    /// Who looks at what has changed in it.
    pub(super) looks: changes::Looks,
}

#[async_trait]
impl Container for DockerContainer {
    fn id(&self) -> &ContainerId {
        &self.id
    }

    async fn exec(&self, spec: &ProcessSpec) -> Result<Process, EngineError> {
        let started = match self.guide.init().await {
            Ok(Some(init)) => init.exec(spec).await.map(|process| self.watched(process)),
            Ok(None) => return self.exec_by_engine(spec).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(process) => Ok(process),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn dial(&self, dial: &DialSpec) -> Result<Process, ForwardError> {
        match self.porter().await?.dial(dial).await {
            Ok(process) => Ok(self.watched(process)),
            Err(error) => Err(self.explain_forward(error).await),
        }
    }

    async fn listen(&self, listen: &ListenSpec) -> Result<Box<dyn Listener>, ForwardError> {
        match self.porter().await?.listen(listen).await {
            Ok(listener) => Ok(listener),
            Err(error) => Err(self.explain_forward(error).await),
        }
    }

    async fn lost(&self) -> String {
        tokio::select! {
            biased;
            reason = self.ended() => reason,
            reason = self.guide.over() => timeout(EVENT_DEADLINE, self.ended()).await.unwrap_or(reason),
        }
    }

    async fn changes(&self, files_max: usize) -> Result<Changes, EngineError> {
        self.looks.changes(&self.client, &self.id, files_max).await
    }

    async fn rename(&self, name: &str) -> Result<(), EngineError> {
        rename(&self.client, &self.id, name).await
    }

    async fn remove(&self) -> Result<(), EngineError> {
        self.fates.forget(self.id.as_str());
        self.guide.forget();
        remove(&self.client, &self.id).await
    }
}

impl DockerContainer {
    /// Who dials and listens: whoever starts programs, or a helper.
    async fn porter(&self) -> Result<Arc<Init>, EngineError> {
        let porter = match self.guide.init().await {
            Ok(Some(init)) => Ok(init),
            Ok(None) => self.helper.init(&self.client, &self.id).await,
            Err(error) => Err(error),
        };
        match porter {
            Ok(init) => Ok(init),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// The end of what looks after sockets alone is not the end of the container.
    async fn explain_forward(&self, error: ForwardError) -> ForwardError {
        let error = match error {
            ForwardError::Engine(error) => self.explain(error).await,
            error => return error,
        };
        let ended = self.fate.borrow().ended.is_some();
        match error {
            EngineError::Gone { reason } if !ended && self.helper.is_in_use() => {
                EngineError::Failed { action: FORWARD, reason, is_answer: false }.into()
            }
            error => error.into(),
        }
    }

    async fn exec_by_engine(&self, spec: &ProcessSpec) -> Result<Process, EngineError> {
        let mark = format!("{MARK_VARIABLE}={:016x}", rand::rng().random::<u64>());
        let exec = match self.create(exec_config(spec, &mark)).await {
            Ok(exec) => exec,
            Err(error) => return Err(self.explain(error).await),
        };
        let size = spec.terminal.as_ref().map(|terminal| terminal.size);
        let mode = size.map_or(Mode::Multiplexed, Mode::Terminal);
        let (stdin, output) = hijack::start(&self.client, &exec, mode).await.map_err(gone_if_not_running)?;
        let control = Arc::new(DockerProcess {
            client: Arc::clone(&self.client),
            container: self.id.clone(),
            survival: self.survival(),
            exec,
            mark,
            has_terminal: size.is_some(),
            killed_by_us: AtomicBool::new(false),
            signal_path: self.signal_path,
            resizing: tokio::sync::Mutex::new(()),
        });
        if let Some(size) = size.filter(|_| !self.client.takes_console_size()) {
            let control = Arc::clone(&control);
            // `login.sh` sets the size as well; this is for images without `stty`.
            self.client.tasks().spawn(async move {
                if let Err(error) = control.resize(size).await {
                    tracing::debug!(%error, "the terminal's first size was not taken");
                }
            });
        }
        Ok(Process { stdin, output, control })
    }

    fn survival(&self) -> Survival {
        let (client, container) = (Arc::clone(&self.client), self.id.clone());
        Survival { client, container, fate: self.fate.clone() }
    }

    fn watched(&self, process: Process) -> Process {
        let control = Arc::new(InitControl::new(process.control, self.survival()));
        Process { control, ..process }
    }

    /// Waits until the engine tells that it has ended.
    async fn ended(&self) -> String {
        let mut fate = self.fate.clone();
        let ended = fate.wait_for(|fate| fate.ended.is_some()).await.ok().and_then(|fate| fate.ended.clone());
        match ended {
            Some(reason) => reason,
            // Forgotten: we remove it ourselves.
            None => std::future::pending().await,
        }
    }

    /// Where the container is gone, why: the engine's events say it better than its answer, and a little later.
    async fn explain(&self, error: EngineError) -> EngineError {
        let EngineError::Gone { reason } = error else { return error };
        let told = timeout(EVENT_DEADLINE, self.ended()).await;
        EngineError::Gone { reason: told.unwrap_or(reason) }
    }

    /// Creates an exec; again, after a failure that may pass. One that is never started is no more than an entry.
    async fn create(&self, config: ExecConfig) -> Result<String, EngineError> {
        let mut retries = Retries::before(Instant::now() + self.timeout);
        loop {
            let error = match create(&self.client, &self.id, config.clone()).await {
                Ok(id) => return Ok(id),
                Err(error) => error,
            };
            if !retries.again(&error).await {
                return Err(error);
            }
        }
    }
}

/// Creates an exec and returns its id.
pub(super) async fn create(
    client: &Client,
    container: &ContainerId,
    config: ExecConfig,
) -> Result<String, EngineError> {
    let created = client
        .call("prepare the program", CREATE_DEADLINE, |docker| async move {
            docker.create_exec(container.as_str(), config).await
        })
        .await;
    Ok(created.map_err(gone_if_not_running)?.id)
}

fn exec_config(spec: &ProcessSpec, mark: &str) -> ExecConfig {
    let mut env: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    env.push(mark.to_owned());
    if let Some(terminal) = &spec.terminal {
        env.push(format!("TERM={}", terminal.term));
    }
    let has_terminal = spec.terminal.is_some();
    ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        detach_keys: Some(DETACH_KEYS.to_owned()),
        tty: Some(has_terminal),
        env: Some(env),
        cmd: Some(login_command(spec)),
        ..Default::default()
    }
}

fn login_command(spec: &ProcessSpec) -> Vec<String> {
    let (mode, arguments) = match &spec.program {
        Program::LoginShell => ("shell", Vec::new()),
        Program::ShellCommand(command) => match std::str::from_utf8(command) {
            Ok(text) => ("command", vec![text.to_owned()]),
            Err(_) => ("octal", vec![escape_for_printf(command)]),
        },
        Program::Args(args) => ("args", args.clone()),
    };
    let (size, modes) = spec.terminal.as_ref().map_or_else(Default::default, |terminal| {
        (format!("{}:{}", terminal.size.rows(), terminal.size.columns()), stty_words(&terminal.modes))
    });
    let mut command =
        ["/bin/sh", "-c", LOGIN, "coracle", mode, &spec.username, &size, &modes].map(str::to_owned).to_vec();
    command.extend(arguments);
    command
}

/// For `printf %b`: the engine's JSON cannot carry bytes that are no UTF-8.
fn escape_for_printf(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        match byte {
            b' '..=b'~' if *byte != b'\\' => text.push(char::from(*byte)),
            byte => drop(write!(text, "\\0{byte:03o}")),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Terminal, TerminalMode, TerminalSize};

    fn spec(program: Program) -> ProcessSpec {
        ProcessSpec { program, env: Vec::new(), terminal: None, username: "joe".to_owned() }
    }

    #[test]
    fn a_command_that_is_not_utf8_is_escaped_and_others_are_not() {
        let arguments =
            |command: &[u8]| login_command(&spec(Program::ShellCommand(command.to_vec())))[4..].to_vec();

        assert_eq!(arguments("echo ä\\n".as_bytes()), ["command", "joe", "", "", "echo ä\\n"]);
        assert_eq!(arguments(b"echo \xff\\\n"), ["octal", "joe", "", "", "echo \\0377\\0134\\0012"]);
    }

    /// P4
    #[test]
    fn the_terminal_travels_with_the_login() {
        let terminal = Terminal {
            term: "xterm-256color".to_owned(),
            size: TerminalSize::from_client(100, 40),
            modes: vec![TerminalMode { opcode: 53, argument: 0 }],
        };
        let config =
            exec_config(&ProcessSpec { terminal: Some(terminal), ..spec(Program::LoginShell) }, "A=1");

        assert_eq!(config.cmd.expect("a command")[4..], ["shell", "joe", "40:100", "-echo"]);
        assert_eq!(config.env, Some(vec!["A=1".to_owned(), "TERM=xterm-256color".to_owned()]));
        assert_eq!(config.tty, Some(true));
    }
}
