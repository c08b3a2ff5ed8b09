//! Who a client is, once proven, and what came with the proof.

use crate::ids::Username;
use crate::secret::Secret;

/// A proven user. Only `auth` makes one (`tests/architecture.rs` holds it to that).
#[derive(Clone, Debug)]
pub struct Identity {
    username: Username,
    /// `SHA256:…` of the key that proved it, if a key did.
    pub(crate) key_fingerprint: Option<String>,
    /// The groups that the configuration, or a hook, puts the user in.
    pub(crate) groups: Vec<String>,
    /// The profile that the user asked for, or that the configuration gives; `None` for the default.
    pub(crate) profile: Option<String>,
    /// What the key or certificate takes away.
    pub(crate) restrictions: Restrictions,
    /// Variables that a key or a hook sets for every program.
    pub(crate) environment: Vec<(String, String)>,
    /// Files that a hook wants in the container: absolute paths and their contents.
    pub(crate) files: Vec<(String, Secret<Vec<u8>>)>,
}

/// What a key, a certificate or a hook takes away from what its user may do. More than one can only take away more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing of its own that sshd(8) names")]
pub struct Restrictions {
    /// Runs instead of whatever is asked for (`command=`, `force-command`).
    pub force_command: Option<String>,
    /// No terminal (`no-pty`, a certificate without `permit-pty`).
    pub no_terminal: bool,
    /// No forwarding of ports or sockets in either direction.
    pub no_port_forwarding: bool,
    /// No forwarding of the authentication agent.
    pub no_agent_forwarding: bool,
    /// No forwarding of X11.
    pub no_x11_forwarding: bool,
    /// Only what is in every one of these lists may be dialled, as `host:port` where either may be `*` (`permitopen=`): a
    /// list from each proof that has one.
    pub permit_open: Vec<Vec<String>>,
    /// Only what is in every one of these lists may be listened on, as `host:port` (`permitlisten=`).
    pub permit_listen: Vec<Vec<String>>,
}

impl Identity {
    /// A user who has proven to be this one, with nothing else known.
    pub(crate) fn proven(username: Username) -> Self {
        Self {
            username,
            key_fingerprint: None,
            groups: Vec::new(),
            profile: None,
            restrictions: Restrictions::default(),
            environment: Vec::new(),
            files: Vec::new(),
        }
    }

    /// The name that the user logged in with, or that a hook gave instead.
    #[must_use]
    pub fn username(&self) -> &Username {
        &self.username
    }

    /// `SHA256:…` of the key that proved it, if a key did.
    #[must_use]
    pub fn key_fingerprint(&self) -> Option<&str> {
        self.key_fingerprint.as_deref()
    }

    /// The groups of the user.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// The profile to use; `None` for the default.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// What the proof takes away.
    #[must_use]
    pub fn restrictions(&self) -> &Restrictions {
        &self.restrictions
    }

    /// Variables for every program, as name and value.
    #[must_use]
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Files for the container: absolute paths and contents.
    #[must_use]
    pub fn files(&self) -> &[(String, Secret<Vec<u8>>)] {
        &self.files
    }
}

impl Restrictions {
    /// All that can be taken away (`restrict`), but no command.
    #[must_use]
    pub fn all() -> Self {
        Self {
            no_terminal: true,
            no_port_forwarding: true,
            no_agent_forwarding: true,
            no_x11_forwarding: true,
            ..Self::default()
        }
    }

    /// Both together. `None` where they force different commands: nobody can obey both.
    #[must_use]
    pub fn and(self, other: Self) -> Option<Self> {
        let force_command = match (self.force_command, other.force_command) {
            (Some(one), Some(two)) if one != two => return None,
            (one, two) => one.or(two),
        };
        Some(Self {
            force_command,
            no_terminal: self.no_terminal || other.no_terminal,
            no_port_forwarding: self.no_port_forwarding || other.no_port_forwarding,
            no_agent_forwarding: self.no_agent_forwarding || other.no_agent_forwarding,
            no_x11_forwarding: self.no_x11_forwarding || other.no_x11_forwarding,
            permit_open: both(self.permit_open, other.permit_open),
            permit_listen: both(self.permit_listen, other.permit_listen),
        })
    }
}

fn both(mut one: Vec<Vec<String>>, two: Vec<Vec<String>>) -> Vec<Vec<String>> {
    for list in two {
        if !one.contains(&list) {
            one.push(list);
        }
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A6
    #[test]
    fn restrictions_add_up_and_commands_that_differ_leave_nothing() {
        let forced = |command: &str| Restrictions {
            force_command: Some(command.to_owned()),
            ..Restrictions::default()
        };
        let open = |list: &[&str]| Restrictions {
            permit_open: vec![list.iter().map(ToString::to_string).collect()],
            ..Restrictions::default()
        };

        let together = Restrictions::all().and(forced("true")).unwrap();
        assert!(together.no_terminal && together.no_port_forwarding);
        assert_eq!(together.force_command.as_deref(), Some("true"));
        assert_eq!(forced("true").and(forced("false")), None);
        assert_eq!(
            open(&["a:1", "b:2"]).and(open(&["b:2"])).unwrap().permit_open,
            [open(&["a:1", "b:2"]).permit_open, open(&["b:2"]).permit_open].concat()
        );
    }
}
