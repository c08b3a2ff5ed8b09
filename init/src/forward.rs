//! What is done about sockets: dialled, listened on, taken in. Each one that is connected is a child, and a process to the
//! server.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use coracle_init::{Dial, FromInit, Listen, Malformed};

use crate::dial::Call;
use crate::made;
use crate::relay::Relay;
use crate::service::Service;
use crate::verdict::Failed;

/// The pipes of a socket, input first, and our ends of them where they are ours.
pub(crate) type Pipes = ([OwnedFd; 2], Option<Relay>);

impl Service {
    pub(crate) fn dial(&mut self, process: u32, dial: Box<Dial>) -> Result<(), Malformed> {
        self.check(process)?;
        let pipes = self.pipes()?;
        let now = Instant::now();
        let until = now.checked_add(Duration::from_millis(dial.within_ms.into())).unwrap_or(now);
        let dialled = match pipes {
            _ if self.ending.is_some() => Err(Failed::ending()),
            Ok(pipes) => self.processes.dial(process, Call { dial, until }, pipes),
            Err(error) => Err(error.into()),
        };
        if let Err(failed) = dialled {
            self.say(&failed.frame(process));
        }
        Ok(())
    }

    pub(crate) fn listen(&mut self, listener: u32, listen: &Listen) -> Result<(), Malformed> {
        self.check(listener)?;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let listening = match self.ending {
            None => self.listeners.add(listener, listen),
            Some(_) => Err(Failed::ending()),
        };
        match listening {
            Ok(listening) => {
                let path = listening.made.as_ref().map(|made| made::bytes(&made.path)).unwrap_or_default();
                connection.say(&FromInit::Listening { listener, port: listening.port, path });
            }
            Err(failed) => connection.say(&failed.frame(listener)),
        }
        Ok(())
    }

    pub(crate) fn accept(&mut self, process: u32, listener: u32) -> Result<(), Malformed> {
        self.check(process)?;
        let pipes = self.pipes()?;
        let guest = self.listeners.accept(listener, Instant::now());
        let accepted = match (guest, pipes) {
            (Ok(guest), Ok(pipes)) => {
                let (host, port) = (guest.host, guest.port);
                self.processes.bridge(process, guest.socket, pipes).map(|()| (host, port))
            }
            (Err(failed), _) => Err(failed),
            (_, Err(error)) => Err(error.into()),
        };
        match accepted {
            Ok((host, port)) => self.say(&FromInit::Accepted { process, host: host.as_bytes(), port }),
            Err(failed) => self.say(&failed.frame(process)),
        }
        Ok(())
    }

    /// Somebody waits.
    pub(crate) fn knock(&mut self, listener: u32) {
        if self.listeners.knock(listener) {
            self.say(&FromInit::Knock { listener });
        }
    }

    /// A child may have connected, or failed to.
    pub(crate) fn hear_verdict(&mut self, process: u32) {
        match self.processes.verdict(process) {
            Some(Ok(pid)) => self.say(&FromInit::Started { process, pid }),
            Some(Err(failed)) => self.say(&failed.frame(process)),
            None => {}
        }
    }

    /// Whether a number may be given to something.
    pub(crate) fn check(&self, number: u32) -> Result<(), Malformed> {
        if self.processes.contains(number) || self.listeners.contains(number) {
            return Err(Malformed("the number of something is that of another"));
        }
        Ok(())
    }

    fn say(&mut self, frame: &FromInit<'_>) {
        if let Some(connection) = &mut self.connection {
            connection.say(frame);
        }
    }

    /// The pipes of what is to be connected: those that came with the frame, or new ones.
    ///
    /// # Errors
    /// Too few have come; inside, there are no new ones to be had.
    fn pipes(&mut self) -> Result<io::Result<Pipes>, Malformed> {
        if self.socket.is_none() {
            let pipes = Relay::on_two_pipes().map(|(relay, pipes)| (pipes, Some(relay)));
            return Ok(pipes.map_err(io::Error::from));
        }
        Ok(Ok(([self.next_descriptor()?, self.next_descriptor()?], None)))
    }
}
