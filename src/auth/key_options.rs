//! The options in front of a key in `authorized_keys` (sshd(8)) and of a name in a file of principals (`sshd_config(5)`).

use std::net::IpAddr;
use std::time::SystemTime;

use thiserror::Error;

use super::expiry;
use super::source::{SourceError, SourceList};
use crate::identity::Restrictions;

/// `environment=` options that a line may have, as at sshd.
const ENVIRONMENT_MAX: usize = 1024;
/// `permitopen=` options, and `permitlisten=` options, that a line may have, as at sshd.
const PERMITS_MAX: usize = 4096;
/// Bytes of a host name (RFC 1035 §2.3.4 and then some), as `NI_MAXHOST` in C.
const HOST_BYTES_MAX: usize = 1024;

/// What the options of a line say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyOptions {
    /// What they take away.
    pub restrictions: Restrictions,
    /// Where the client has to come from.
    pub from: Option<SourceList>,
    /// The last second in which the line counts.
    pub expires: Option<SystemTime>,
    /// Variables for every program, as name and value. Each name is there once and has letters, digits and `_` only.
    pub environment: Vec<(String, String)>,
    /// The key signs users' certificates and lets nobody in by itself.
    pub cert_authority: bool,
    /// The principals whose certificates the authority vouches for; `None`: the user's own name.
    pub principals: Option<Vec<String>>,
}

/// Where and when somebody tries to come in.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The client's address.
    pub source: IpAddr,
    /// The time.
    pub now: SystemTime,
}

/// Why options cannot be taken for what they say. The line lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OptionError {
    /// No such option, or a value where none belongs, or none where one does.
    #[error("unknown option `{0}`")]
    Unknown(String),
    /// Values stand in double quotes.
    #[error("the value of `{0}` is not between double quotes")]
    Quotes(&'static str),
    /// An option that may be there once.
    #[error("`{0}` is there more than once")]
    Repeated(&'static str),
    /// More than we keep.
    #[error("more than {max} times `{name}`")]
    TooMany {
        /// The option.
        name: &'static str,
        /// How many may be there.
        max: usize,
    },
    /// The list of `from` or of a certificate.
    #[error("`{name}`: {error}")]
    Source {
        /// The option.
        name: &'static str,
        /// What is wrong.
        error: SourceError,
    },
    /// Another value that means nothing.
    #[error("`{name}`: expected {expected}, not `{value}`")]
    Value {
        /// The option.
        name: &'static str,
        /// What was found.
        value: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// We could not hold the key to it.
    #[error("`{0}` cannot be enforced: what a hardware key asked of its user is not known here")]
    Unenforceable(&'static str),
    /// It would silently become something else.
    #[error("there are bytes in it that are not UTF-8 text, or are NUL")]
    Text,
}

/// Why a line that is in order does not count here and now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// `from=`
    #[error("not from {0}, says `from`")]
    Source(IpAddr),
    /// `expiry-time=`
    #[error("the line has expired")]
    Expired,
    /// As at sshd: whoever writes it means an authority.
    #[error("`principals` without `cert-authority`")]
    NoAuthority,
}

impl KeyOptions {
    /// Reads options, separated by commas. The empty text has none.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        if text.contains(['\0', char::REPLACEMENT_CHARACTER]) {
            return Err(OptionError::Text);
        }
        let mut options = Self::default();
        let mut rest = text;
        loop {
            // As at sshd, an option may be missing between commas.
            rest = rest.trim_start_matches(',');
            if rest.is_empty() {
                return Ok(options);
            }
            let name_ends = rest.find(['=', ',']).unwrap_or(rest.len());
            let (name, after) = rest.split_at(name_ends);
            let name = name.to_ascii_lowercase();
            rest = if let Some(value) = after.strip_prefix('=') {
                options.set(&name, value)?
            } else {
                options.flag(&name)?;
                after
            };
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(OptionError::Unknown(shorten(rest)));
            }
        }
    }

    /// Whether the line counts for this client, now.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, circumstances: &Circumstances) -> Result<(), Refusal> {
        let Circumstances { source, now } = *circumstances;
        if self.principals.is_some() && !self.cert_authority {
            return Err(Refusal::NoAuthority);
        }
        // Seconds are what it was written in, and the one that it names still counts.
        let expired = self.expires.and_then(|expires| now.duration_since(expires).ok());
        if expired.is_some_and(|since| since.as_secs() > 0) {
            return Err(Refusal::Expired);
        }
        match &self.from {
            Some(from) if !from.admits(source) => Err(Refusal::Source(source.to_canonical())),
            _ => Ok(()),
        }
    }

    fn flag(&mut self, name: &str) -> Result<(), OptionError> {
        let (without, on) = match name.strip_prefix("no-") {
            Some(without) => (without, false),
            None => (name, true),
        };
        let restrictions = &mut self.restrictions;
        match without {
            "restrict" if on => {
                let all = Restrictions::all();
                restrictions.no_terminal = all.no_terminal;
                restrictions.no_port_forwarding = all.no_port_forwarding;
                restrictions.no_agent_forwarding = all.no_agent_forwarding;
                restrictions.no_x11_forwarding = all.no_x11_forwarding;
            }
            "cert-authority" if on => self.cert_authority = true,
            "pty" => restrictions.no_terminal = !on,
            "port-forwarding" => restrictions.no_port_forwarding = !on,
            "agent-forwarding" => restrictions.no_agent_forwarding = !on,
            "x11-forwarding" => restrictions.no_x11_forwarding = !on,
            // What a hardware key asked of its user is not known here, and nobody runs `~/.ssh/rc`: there is nothing
            // to do without.
            "touch-required" if on => return Err(OptionError::Unenforceable("touch-required")),
            "verify-required" if on => return Err(OptionError::Unenforceable("verify-required")),
            "touch-required" | "verify-required" | "user-rc" => {}
            _ => return Err(OptionError::Unknown(shorten(name))),
        }
        Ok(())
    }

    /// Takes the value of an option off the front of `text`; returns what follows.
    fn set<'a>(&mut self, name: &str, text: &'a str) -> Result<&'a str, OptionError> {
        let Some(name) = VALUED.into_iter().find(|known| *known == name) else {
            return Err(OptionError::Unknown(shorten(name)));
        };
        let (value, rest) = unquote(text).ok_or(OptionError::Quotes(name))?;
        match name {
            "command" => once(&mut self.restrictions.force_command, name, value)?,
            "principals" => {
                let names = value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
                once(&mut self.principals, name, names)?;
            }
            "from" => {
                let list = SourceList::parse(&value).map_err(|error| OptionError::Source { name, error })?;
                once(&mut self.from, name, list)?;
            }
            "expiry-time" => {
                let expected = "YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with `Z` behind it for UTC";
                let at = expiry::parse(&value).ok_or_else(|| wrong(name, &value, expected))?;
                self.expires = Some(self.expires.map_or(at, |earlier| earlier.min(at)));
            }
            "environment" => self.set_environment(name, &value)?,
            "permitopen" => {
                let permit = permit(name, &value, &value)?;
                push(only(&mut self.restrictions.permit_open), name, permit, PERMITS_MAX)?;
            }
            "permitlisten" => {
                // A port alone may be listened on at any address.
                let spelled_out = if value.contains(':') { value.clone() } else { format!("*:{value}") };
                let permit = permit(name, &value, &spelled_out)?;
                push(only(&mut self.restrictions.permit_listen), name, permit, PERMITS_MAX)?;
            }
            // Nobody gets a tunnel device here, so there is none to choose.
            _ => {
                let sound = value == "any" || value.parse::<u32>().is_ok();
                if !sound {
                    return Err(wrong(name, &value, "a number or `any`"));
                }
            }
        }
        Ok(rest)
    }

    fn set_environment(&mut self, name: &'static str, value: &str) -> Result<(), OptionError> {
        let sound = |variable: &str| {
            !variable.is_empty()
                && variable.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
        };
        let Some((variable, text)) = value.split_once('=').filter(|(variable, _)| sound(variable)) else {
            return Err(wrong(name, value, "`NAME=value` with letters, digits and `_` in the name"));
        };
        // The first one counts, as at sshd.
        if self.environment.iter().any(|(known, _)| known == variable) {
            return Ok(());
        }
        push(&mut self.environment, name, (variable.to_owned(), text.to_owned()), ENVIRONMENT_MAX)
    }
}

/// Options with a value.
const VALUED: [&str; 8] =
    ["command", "principals", "from", "expiry-time", "environment", "permitopen", "permitlisten", "tunnel"];

/// Splits `options rest` at the first space that no quotes protect. `None` where quotes stay open.
pub(super) fn split_options(line: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let mut letters = line.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => {
                letters.next_if(|(_, next)| *next == '"');
            }
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => {
                return line.split_at_checked(at).map(|(head, tail)| (head, tail.trim_start()));
            }
            _ => {}
        }
    }
    (!quoted).then_some((line, ""))
}

/// The text between double quotes, in which `\"` stands for a quote, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text.strip_prefix('"')?;
    loop {
        let end = rest.find('"')?;
        let (part, quote) = rest.split_at(end);
        rest = quote.strip_prefix('"')?;
        let Some(escaping) = part.strip_suffix('\\') else {
            value.push_str(part);
            return Some((value, rest));
        };
        value.push_str(escaping);
        value.push('"');
    }
}

/// `host:port` in the one way of writing it, so that two of them can be compared.
fn permit(name: &'static str, value: &str, text: &str) -> Result<String, OptionError> {
    let expected = "`host:port`, where the port may be `*`, and an IPv6 address stands in brackets";
    let wrong = || wrong(name, value, expected);
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]:").ok_or_else(wrong)?,
        None => text.split_once(':').ok_or_else(wrong)?,
    };
    let port_is_sound = port == "*" || port.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !port_is_sound {
        return Err(wrong());
    }
    let port = port.trim_start_matches(['0', '+']);
    Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

fn once<T>(place: &mut Option<T>, name: &'static str, value: T) -> Result<(), OptionError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(OptionError::Repeated(name)),
    }
}

/// The list of one line, of which there is one at most.
fn only(lists: &mut Vec<Vec<String>>) -> &mut Vec<String> {
    let list = lists.pop().unwrap_or_default();
    lists.push_mut(list)
}

fn push<T>(list: &mut Vec<T>, name: &'static str, value: T, max: usize) -> Result<(), OptionError> {
    if list.len() >= max {
        return Err(OptionError::TooMany { name, max });
    }
    list.push(value);
    Ok(())
}

fn wrong(name: &'static str, value: &str, expected: &'static str) -> OptionError {
    OptionError::Value { name, value: shorten(value), expected }
}

/// For a line of the log.
fn shorten(text: &str) -> String {
    const LETTERS_MAX: usize = 60;
    text.chars().take(LETTERS_MAX).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
#[path = "key_options_tests.rs"]
mod tests;
