//! The section `control` of the configuration.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::Section;

/// The socket's name in the state folder.
const SOCKET: &str = "control.sock";

/// How the server can be asked what it does, and told what to do.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Control")]
pub struct Config {
    /// The socket of `coracle ps`, `kill` and `drain`: a path, `auto` for `control.sock` in stateDir, or `off`.
    pub socket: Socket,
}

impl Section for Config {}

impl Config {
    /// Where the socket is, if there is to be one.
    #[must_use]
    pub fn path(&self, state_dir: &Path) -> Option<PathBuf> {
        match &self.socket {
            Socket::Auto => Some(state_dir.join(SOCKET)),
            Socket::Off => None,
            Socket::At(path) => Some(path.clone()),
        }
    }

    pub(crate) fn resolve(&mut self, folder: &Path) {
        if let Socket::At(path) = &mut self.socket {
            *path = folder.join(&path);
        }
    }
}

/// Where the socket is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Socket {
    /// In the state folder.
    #[default]
    Auto,
    /// There is none.
    Off,
    /// Here.
    At(PathBuf),
}

impl From<String> for Socket {
    fn from(text: String) -> Self {
        match text.as_str() {
            "" | "auto" => Self::Auto,
            "off" => Self::Off,
            _ => Self::At(PathBuf::from(text)),
        }
    }
}

impl From<Socket> for String {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Auto => "auto".to_owned(),
            Socket::Off => "off".to_owned(),
            Socket::At(path) => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_in_the_state_folder_or_where_it_is_said_to_be_or_nowhere() {
        let at = |socket: &str| {
            let mut config = Config { socket: socket.to_owned().into() };
            config.resolve(Path::new("/etc/coracle"));
            assert_eq!(Socket::from(String::from(config.socket.clone())), config.socket);
            config.path(Path::new("/state"))
        };

        assert_eq!(at("auto"), Some("/state/control.sock".into()));
        assert_eq!(at("off"), None);
        assert_eq!(at("/run/x.sock"), Some("/run/x.sock".into()));
        assert_eq!(at("x.sock"), Some("/etc/coracle/x.sock".into()));
    }
}
