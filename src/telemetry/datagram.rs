//! Sockets of daemons that keep logs: one datagram for each line.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Local;
use tracing::Level;

use super::Facility;
use super::queue::Gap;
use super::queue::Sink;

/// How long a daemon may be busy before a line is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest line to syslog, in bytes; past it it is cut. rsyslog takes no more by itself.
const SYSLOG_BYTES_MAX: usize = 8000;

/// What we are called.
pub(super) const IDENTIFIER: &str = "coracle";

/// A daemon's socket.
pub(super) struct Datagrams {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Datagrams {
    /// Reached with the first line.
    pub(super) fn to(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None }
    }

    fn connect(&mut self) -> io::Result<&UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.path)?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(self.socket.insert(socket))
    }
}

impl Sink for Datagrams {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(socket) = &self.socket {
            match socket.send(line) {
                Ok(_) => return Ok(()),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(io::Error::new(error.kind(), "nobody takes what is logged"));
                }
                // A daemon that was restarted has another socket of the same name.
                Err(_) => {}
            }
        }
        self.socket = None;
        self.connect()?.send(line).map(drop)
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn name(&self) -> String {
        format!("the socket `{}`", self.path.display())
    }
}

/// As the C library writes it, which every syslog daemon understands (RFC 3164 §4.1, without a host name).
pub(super) fn syslog_record(facility: Facility, level: Level, line: &str) -> Vec<u8> {
    let priority = (facility as u8) * 8 + severity(level);
    let time = Local::now().format("%b %e %H:%M:%S");
    let end = line.floor_char_boundary(SYSLOG_BYTES_MAX);
    let (text, more) = (line.get(..end).unwrap_or_default(), if end < line.len() { "…" } else { "" });
    format!("<{priority}>{time} {IDENTIFIER}[{}]: {}{more}", std::process::id(), text.trim_start())
        .into_bytes()
}

/// Says that so many lines were lost.
pub(super) fn gap(facility: Facility) -> Gap {
    Box::new(move |lost| {
        syslog_record(facility, Level::WARN, &format!("lines of the log were lost lost={lost}"))
    })
}

/// RFC 5424 §6.2.1.
pub(super) fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_its_priority_and_who_wrote_it() {
        let record =
            String::from_utf8(syslog_record(Facility::Authpriv, Level::WARN, " WARN beware")).unwrap();

        assert!(record.starts_with("<84>"), "{record}");
        assert!(record.ends_with(&format!(" coracle[{}]: WARN beware", std::process::id())), "{record}");
        assert!(syslog_record(Facility::Local7, Level::ERROR, "x").starts_with(b"<187>"));
        assert!(
            syslog_record(Facility::User, Level::INFO, &"ü".repeat(10_000)).len() < SYSLOG_BYTES_MAX + 100
        );
    }

    #[test]
    fn a_daemon_that_comes_back_gets_lines_again_and_one_that_hangs_costs_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Datagrams::to(&path);
        assert!(log.write(b"nobody there").is_err());
        for _ in 0..2 {
            let daemon = UnixDatagram::bind(&path).unwrap();
            log.write(b"hello").unwrap();
            let mut buffer = [0; 16];
            assert_eq!(daemon.recv(&mut buffer).unwrap(), 5);
            drop(daemon);
            std::fs::remove_file(&path).unwrap();
        }

        let _daemon = UnixDatagram::bind(&path).unwrap();
        let stuck = (0..10_000).find_map(|_| log.write(b"hello").err()).unwrap();

        assert_eq!(stuck.to_string(), "nobody takes what is logged");
    }
}
