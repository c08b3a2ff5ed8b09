//! What the server says, and what is done about it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use coracle_init::{FromInit, Malformed, REASON_BYTES_MAX, Start, ToInit, VERSION};

use crate::processes::why;
use crate::relay::Relay;
use crate::service::{PAUSE_MIN, Service};
use crate::terminal::duplicate;

/// A program's streams, and our ends of them where they are ours.
type Streams = ([OwnedFd; 3], Option<Relay>);

impl Service {
    /// Does what one frame says.
    ///
    /// # Errors
    /// It makes no sense here and now: the connection is over.
    pub(crate) fn obey(&mut self, frame: ToInit<'_>) -> Result<(), Malformed> {
        let is_welcomed = self.connection.as_ref().is_some_and(|connection| connection.is_welcomed);
        if is_welcomed == matches!(frame, ToInit::Welcome { .. }) {
            return Err(Malformed("a welcome comes first, and once"));
        }
        match frame {
            ToInit::Welcome { version, .. } if version != VERSION => {
                return Err(Malformed("the server speaks another version"));
            }
            ToInit::Welcome { version: _, orphan_timeout_ms, token } => {
                self.token = token;
                let timeout = Duration::from_millis(orphan_timeout_ms.into());
                self.orphan_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
                self.alone_since = None;
                if let Some(connection) = &mut self.connection {
                    connection.take_road()?;
                    connection.is_welcomed = true;
                }
                self.pause = PAUSE_MIN;
            }
            ToInit::Start { process, start } => return self.start(process, start),
            ToInit::Signal { process, number } => self.processes.signal(process, number),
            // On a socket the server has the terminal itself.
            ToInit::Resize { process, columns, rows } => {
                if let Some(relay) = self.processes.relay(process) {
                    relay.resize(columns, rows);
                }
            }
            ToInit::Dial { process, dial } => return self.dial(process, dial),
            ToInit::Listen { listener, listen } => return self.listen(listener, &listen),
            ToInit::Accept { process, listener } => return self.accept(process, listener),
            ToInit::Unlisten { listener } => self.listeners.remove(listener),
            _ if self.socket.is_some() => return Err(Malformed("streams do not travel in frames here")),
            ToInit::Stdin { process, bytes } => {
                // One that has ended, or was released, reads no more.
                if let Some(relay) = self.processes.relay(process) {
                    relay.feed(bytes)?;
                    self.write_input(process);
                }
            }
            ToInit::StdinEnd { process } => {
                if let Some(relay) = self.processes.relay(process) {
                    relay.end_input();
                    self.write_input(process);
                }
            }
            ToInit::Credit { process, stream, bytes } => {
                if let Some(relay) = self.processes.relay(process) {
                    relay.grant(stream, bytes, Instant::now());
                }
            }
            ToInit::Release { process } => self.processes.release(process),
        }
        Ok(())
    }

    /// Writes what input a program takes now.
    pub(crate) fn write_input(&mut self, process: u32) {
        if let (Some(relay), Some(connection)) = (self.processes.relay(process), &mut self.connection) {
            relay.write_input(process, connection);
        }
    }

    fn start(&mut self, process: u32, start: Box<Start>) -> Result<(), Malformed> {
        self.check(process)?;
        let streams = self.streams(start.terminal.is_some())?;
        let started = match streams {
            _ if self.ending.is_some() => Err("the container is about to end".to_owned()),
            Ok(streams) => self.processes.start(process, start, streams),
            Err(error) => Err(why(&error)),
        };
        let Some(connection) = &mut self.connection else { return Ok(()) };
        match started {
            Ok(pid) => {
                let pid = pid.as_raw_nonzero().get().unsigned_abs();
                connection.say(&FromInit::Started { process, pid });
            }
            Err(mut reason) => {
                reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
                connection.say(&FromInit::Refused { process, reason: reason.as_bytes() });
            }
        }
        Ok(())
    }

    /// The streams of a program that is to start: those that came with the frame, or new ones.
    ///
    /// # Errors
    /// Too few have come; inside, there are no new ones to be had.
    fn streams(&mut self, on_terminal: bool) -> Result<io::Result<Streams>, Malformed> {
        if self.socket.is_none() {
            let streams = if on_terminal { Relay::on_terminal() } else { Relay::on_pipes() };
            return Ok(streams.map(|(relay, stdio)| (stdio, Some(relay))).map_err(io::Error::from));
        }
        let first = self.next_descriptor()?;
        if !on_terminal {
            return Ok(Ok(([first, self.next_descriptor()?, self.next_descriptor()?], None)));
        }
        let thrice = duplicate(&first).and_then(|second| Ok([duplicate(&first)?, second, first]));
        Ok(thrice.map(|stdio| (stdio, None)).map_err(io::Error::from))
    }

    /// One that came with the frame.
    pub(crate) fn next_descriptor(&mut self) -> Result<OwnedFd, Malformed> {
        let descriptors = self.connection.as_mut().map(|connection| &mut connection.descriptors);
        descriptors.and_then(VecDeque::pop_front).ok_or(Malformed("a frame comes without its streams"))
    }
}
