//! `coracle ps`, `kill` and `drain`: what a running server is asked and told over its control socket.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{Failure, living, load, print, serve};
use crate::config;
use crate::control::client::{Conversation, shown};
use crate::control::protocol::{Answer, Living, Request};
use crate::value::{Span, Timeout};

/// How long a server has to answer what it knows at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for the end of connections where nobody says: their users are told, their containers are removed.
const KILL_TIMEOUT: Timeout = Timeout::from_seconds(30);

/// Beyond what a server said that its end may take.
const DRAIN_MARGIN: Duration = Duration::from_secs(10);

/// From a server's last word to the end of its process.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which server is meant.
#[derive(Args, Debug)]
struct Which {
    /// The server's configuration [default: ./config.yaml, else /etc/coracle/config.yaml, else built in]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server's control socket, in place of what the configuration says
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
}

impl Which {
    fn path(self) -> Result<PathBuf, Failure> {
        if let Some(socket) = self.socket {
            return Ok(socket);
        }
        let file = self.config.or_else(config::usual_file);
        let config = load(file.as_deref())?;
        let Some(path) = config.control.path(&config.state_dir) else {
            return Err(Failure::Runtime(anyhow::anyhow!(
                "the server has no control socket: `control.socket` is off; --socket may say where there is one"
            )));
        };
        // One that was started with --image and --keys has its state elsewhere.
        let aside = config.control.path(&serve::usual_state_dir()).filter(|aside| aside.exists());
        Ok(if file.is_none() && !path.exists() { aside.unwrap_or(path) } else { path })
    }
}

#[derive(Args, Debug)]
pub(super) struct Ps {
    /// Print one JSON object instead, with all that is known
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

impl Ps {
    pub(super) fn run(self) -> Result<(), Failure> {
        let path = self.which.path()?;
        let mut conversation = Conversation::begin(&path, Request::Ps, ANSWER_TIMEOUT)?;
        match conversation.next(ANSWER_TIMEOUT)? {
            Some(Answer::Living(living)) => Ok(print(&written(&living, self.json)?)?),
            answer => Err(unexpected(answer.as_ref())),
        }
    }
}

fn written(living: &Living, json: bool) -> anyhow::Result<String> {
    Ok(if json { serde_json::to_string_pretty(living)? + "\n" } else { living::table(living) })
}

#[derive(Args, Debug)]
pub(super) struct Kill {
    /// The connection's id, or how it begins
    #[arg(required_unless_present = "user", value_parser = NonEmptyStringValueParser::new())]
    connection: Vec<String>,
    /// All connections of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// What the users are told besides that an operator ended their connection
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// How long to wait until they are gone
    #[arg(long, value_name = "TIME", default_value_t = KILL_TIMEOUT)]
    timeout: Timeout,
    /// Print one JSON object instead: `ended` and `left`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

impl Kill {
    pub(super) fn run(self) -> Result<(), Failure> {
        let path = self.which.path()?;
        // The protocol counts in whole seconds.
        let wait = Duration::from_secs(self.timeout.get().as_secs().max(1));
        let request = Request::Kill {
            connections: self.connection,
            user: self.user,
            reason: self.reason,
            wait_seconds: wait.as_secs(),
        };
        let mut conversation = Conversation::begin(&path, request, ANSWER_TIMEOUT)?;
        let (ended, left) = loop {
            match conversation.next(wait + ANSWER_TIMEOUT)? {
                Some(Answer::Ending { .. }) => {}
                Some(Answer::Ended { ended, left }) => break (ended, left),
                answer => return Err(unexpected(answer.as_ref())),
            }
        };
        if self.json {
            let all = serde_json::json!({ "ended": ended, "left": left });
            print(&format!("{all}\n"))?;
        } else {
            let lines: Vec<_> = ended.iter().map(|id| format!("{} ended\n", shown(id))).collect();
            print(&lines.concat())?;
        }
        if left.is_empty() {
            return Ok(());
        }
        let (left, wait) = (shown(&left.join(", ")), humantime::format_duration(wait));
        Err(Failure::Runtime(anyhow::anyhow!("still there after {wait}: {left}")))
    }
}

#[derive(Args, Debug)]
pub(super) struct Drain {
    /// Wait until the server has ended
    #[arg(long)]
    wait: bool,
    /// With --wait: for so long at most [default: what the server itself allows for it]
    #[arg(long, value_name = "TIME", requires = "wait")]
    timeout: Option<Span>,
    #[command(flatten)]
    which: Which,
}

impl Drain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let path = self.which.path()?;
        let begun = Instant::now();
        let mut conversation =
            Conversation::begin(&path, Request::Drain { wait: self.wait }, ANSWER_TIMEOUT)?;
        let (connections, at_most) = match conversation.next(ANSWER_TIMEOUT)? {
            Some(Answer::Draining { connections, within_seconds }) => {
                (connections, Duration::from_secs(within_seconds) + DRAIN_MARGIN)
            }
            answer => return Err(unexpected(answer.as_ref())),
        };
        print(&format!("draining: {}\n", left(connections)))?;
        if !self.wait {
            return Ok(());
        }
        let deadline = begun + self.timeout.map_or(at_most, Span::get);
        let clean = follow(&mut conversation, connections, deadline)?;
        if !conversation.process_ended(EXIT_TIMEOUT) {
            return Err(Failure::Runtime(anyhow::anyhow!("the server's process does not end")));
        }
        if !clean {
            return Err(Failure::Runtime(anyhow::anyhow!(
                "the server has ended, and may have left containers; its next start removes them"
            )));
        }
        Ok(print("ended\n")?)
    }
}

/// Says how many are left each time that they are fewer, until the server is down; then whether it left nothing.
fn follow(conversation: &mut Conversation, connections: usize, deadline: Instant) -> anyhow::Result<bool> {
    let mut shown = connections;
    loop {
        let time = deadline.saturating_duration_since(Instant::now());
        ensure!(!time.is_zero(), "the server is still draining: {}", left(shown));
        // Whoever drains says something every few seconds.
        match conversation.next(ANSWER_TIMEOUT.min(time)) {
            Ok(Some(Answer::Draining { connections, .. })) => {
                if connections != shown {
                    shown = connections;
                    // Standard output may be for a script; this is for whoever waits.
                    drop(writeln!(io::stderr(), "{}", left(shown)));
                }
            }
            Ok(Some(Answer::Down { clean })) => return Ok(clean),
            Ok(None) => bail!("the server ended without a word; its log may tell why"),
            Ok(Some(answer)) => bail!("the server answered something else: {answer:?}"),
            Err(_) if Instant::now() >= deadline => {}
            Err(error) => return Err(error),
        }
    }
}

fn left(connections: usize) -> String {
    match connections {
        0 => "no connection is left".to_owned(),
        1 => "1 connection is left".to_owned(),
        more => format!("{more} connections are left"),
    }
}

fn unexpected(answer: Option<&Answer>) -> Failure {
    Failure::Runtime(match answer {
        None => anyhow::anyhow!("the server closed its control socket without an answer"),
        Some(answer) => anyhow::anyhow!("the server answered something else: {answer:?}"),
    })
}
