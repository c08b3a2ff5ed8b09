//! Which environment variables a client may set (RFC 4254 §6.4), and those that we set.

use std::net::SocketAddr;

use super::config::EnvConfig;
use super::name::NamePattern;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Longest value, in bytes.
const VALUE_BYTES_MAX: usize = 32 * 1024;
/// Most variables that one channel may set.
const VARIABLES_MAX: usize = 128;
/// Most bytes that the variables of one channel may have together.
const TOTAL_BYTES_MAX: usize = 128 * 1024;

/// Never taken from a client, whatever the configuration accepts: it decides which code runs.
const PATH: &str = "PATH";

/// Never taken from a client, a key or a hook: each decides which code runs, or is ours to set.
const DENIED_NAMES: &[&str] = &[
    "IFS",
    "CDPATH",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "PROMPT_COMMAND",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "HOSTALIASES",
    "RESOLV_HOST_CONF",
];

/// The same, for every name that begins so.
const DENIED_PREFIXES: &[&str] = &["LD_", "DYLD_", "BASH_FUNC_", "SSH_", "CORACLE_"];

/// An allow-list of patterns, as sshd's `AcceptEnv`, under a list of what is always denied.
#[derive(Clone, Debug, Default)]
pub struct EnvRules {
    accept: Vec<NamePattern>,
}

impl EnvRules {
    /// Accepts what the configuration accepts.
    #[must_use]
    pub fn new(config: &EnvConfig) -> Self {
        Self { accept: config.accept.clone() }
    }

    /// Whether a variable may join those that the channel has set already.
    #[must_use]
    pub fn accepts(&self, name: &str, value: &str, set: &[(String, String)]) -> bool {
        let total: usize = set.iter().map(|(name, value)| name.len() + value.len()).sum();
        is_harmless(name, value)
            && name != PATH
            && set.len() < VARIABLES_MAX
            && total + name.len() + value.len() <= TOTAL_BYTES_MAX
            && self.accept.iter().any(|pattern| pattern.matches(name))
    }
}

/// Whether a key or a hook may set a variable. They are the administrator's, who may say where programs are found.
pub(super) fn may_come_with_a_proof(name: &str, value: &str) -> bool {
    is_harmless(name, value)
}

/// Sets a variable in place of one that has its name.
pub(super) fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    env.retain(|(known, _)| known != name);
    env.push((name.to_owned(), value));
}

/// What sshd tells a program about its connection.
pub(super) fn of_connection(client: SocketAddr, server: SocketAddr) -> [(String, String); 2] {
    let (from, to) = (client.ip().to_canonical(), server.ip().to_canonical());
    [
        ("SSH_CLIENT".to_owned(), format!("{from} {} {}", client.port(), server.port())),
        ("SSH_CONNECTION".to_owned(), format!("{from} {} {to} {}", client.port(), server.port())),
    ]
}

fn is_harmless(name: &str, value: &str) -> bool {
    is_name(name)
        && value.len() <= VALUE_BYTES_MAX
        && !value.contains('\0')
        && !DENIED_NAMES.contains(&name)
        && !DENIED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with(|letter: char| letter.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(patterns: &[&str]) -> EnvRules {
        let accept = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        EnvRules::new(&EnvConfig { accept })
    }

    /// V2
    #[test]
    fn what_decides_which_code_runs_is_denied_even_where_all_is_accepted() {
        let all = rules(&["*"]);

        for name in ["LD_PRELOAD", "PATH", "BASH_ENV", "SSH_CONNECTION", "HOME", "BASH_FUNC_x"] {
            assert!(!all.accepts(name, "x", &[]), "{name}");
        }
        assert!(all.accepts("FOO", "bar", &[]));
    }

    /// V2
    #[test]
    fn odd_names_nuls_and_floods_are_dropped() {
        let all = rules(&["*"]);

        for name in ["", "A B", "A=B", "1A", "Ä", "A\0"] {
            assert!(!all.accepts(name, "x", &[]), "{name:?}");
        }
        assert!(!all.accepts("A", "x\0y", &[]));
        assert!(!all.accepts("A", &"x".repeat(VALUE_BYTES_MAX + 1), &[]));
        let set = vec![("A".to_owned(), "x".to_owned()); VARIABLES_MAX];
        assert!(!all.accepts("B", "x", &set));
    }

    /// V1
    #[test]
    fn only_what_is_listed_is_accepted() {
        assert!(rules(&["LANG", "LC_*"]).accepts("LC_ALL", "C.UTF-8", &[]));
        assert!(!rules(&["LANG", "LC_*"]).accepts("FOO", "bar", &[]));
    }
}
