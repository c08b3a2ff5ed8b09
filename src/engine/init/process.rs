//! The control of a program that an init started.

use std::sync::Arc;

use async_trait::async_trait;
use coracle_init::{Exit, ToInit};
use rustix::termios::{Winsize, tcsetwinsize};

use super::processes::{ExitReceiver, signal_number};
use super::stdio::Master;
use super::wires::Outbox;
use crate::engine::{EngineError, ExitStatus, ProcessControl, Signal, TerminalSize};

const RESIZE: &str = "resize the terminal";

/// A program in a container with an init of ours.
#[derive(Debug)]
pub(super) struct InitProcess {
    pub(super) number: u32,
    pub(super) outbox: Outbox,
    pub(super) exit: ExitReceiver,
    pub(super) terminal: Terminal,
}

/// Whose a program's terminal is, if it has one.
#[derive(Debug)]
pub(super) enum Terminal {
    /// We have its other end.
    Ours(Arc<Master>),
    /// The init has, and knows whether there is one.
    Theirs,
}

#[async_trait]
impl ProcessControl for InitProcess {
    async fn resize(&self, size: TerminalSize) -> Result<(), EngineError> {
        let Terminal::Ours(terminal) = &self.terminal else {
            let (columns, rows) = (size.columns(), size.rows());
            let resize = ToInit::Resize { process: self.number, columns, rows };
            return self.outbox.say_in_time(&resize, RESIZE).await;
        };
        let size = Winsize { ws_row: size.rows(), ws_col: size.columns(), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(terminal.descriptor(), size).map_err(|error| EngineError::Failed {
            action: RESIZE,
            reason: error.to_string(),
            is_answer: false,
        })
    }

    async fn signal(&self, signal: Signal) -> Result<(), EngineError> {
        if self.exit.borrow().is_some() {
            return Ok(());
        }
        let signal = ToInit::Signal { process: self.number, number: signal_number(signal) };
        self.outbox.say_in_time(&signal, "send a signal").await
    }

    async fn ended(&self) {
        let mut exit = self.exit.clone();
        // Closed: the init is gone, and its programs with it.
        drop(exit.wait_for(Option::is_some).await);
    }

    async fn wait(&self) -> Result<ExitStatus, EngineError> {
        let mut exit = self.exit.clone();
        let exit = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        match exit {
            Some(Exit::Status(status)) => Ok(ExitStatus::Exited(u32::from(status))),
            Some(Exit::Signal(number)) => Ok(Signal::from_number(i32::from(number))
                // Not one that RFC 4254 knows: as a shell has it.
                .map_or(ExitStatus::Exited(128 + u32::from(number)), ExitStatus::Signaled)),
            None => Err(EngineError::Gone { reason: "its first process has ended".to_owned() }),
        }
    }
}
