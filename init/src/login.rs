//! What makes a program's surroundings those of a login: the same as `src/engine/docker/login.sh` does.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::passwd::{User, users};

/// A program's environment.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// The shell of whoever has none, and of whoever's cannot be run.
pub(crate) const SHELL: &str = "/bin/sh";

/// Where programs are looked for if nobody says otherwise, as engines have it.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Nobody: an image's entry for it (no shell, no home) is there to keep logins out, and this is one.
const NOBODY: u32 = 65534;

const ROOT: u32 = 0;

/// Whose login it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account<'a> {
    pub(crate) uid: u32,
    /// For a user without an entry in `passwd`.
    pub(crate) username: &'a [u8],
    /// The text of the image's passwd.
    pub(crate) passwd: &'a [u8],
    /// Whom the container's own environment was made for.
    pub(crate) container_uid: u32,
}

impl<'a> Account<'a> {
    fn entry(&self) -> Option<User<'a>> {
        if self.uid == NOBODY { None } else { entry(self.passwd, self.uid) }
    }
}

/// The container's own variables, those for this program on top, and those of a login. `is_executable` tells whether a shell
/// can be run.
pub(crate) fn variables(
    container: Variables,
    own: &[Vec<u8>],
    account: Account<'_>,
    is_executable: impl FnOnce(&OsStr) -> bool,
) -> Variables {
    let mut variables = container;
    // The engine had set it for another user, unless the image or the configuration did.
    let is_others = account.uid != account.container_uid
        && entry(account.passwd, account.container_uid).is_some_and(|entry| {
            variables.get(OsStr::new("HOME")).is_some_and(|home| home == OsStr::from_bytes(entry.home))
        });
    if is_others {
        variables.remove(OsStr::new("HOME"));
    }
    variables.extend(own.iter().filter_map(|variable| split(variable)));
    let entry = account.entry().unwrap_or_default();
    let name = match entry.name {
        b"" if account.uid == ROOT => b"root",
        b"" => account.username,
        name => name,
    };
    let shell = if entry.shell.is_empty() { SHELL.as_bytes() } else { entry.shell };
    let shell = OsStr::from_bytes(shell);
    let shell = if is_executable(shell) { shell } else { OsStr::new(SHELL) };
    let mut set = |name: &str, value: &OsStr| drop(variables.insert(name.into(), value.to_owned()));
    set("USER", OsStr::from_bytes(name));
    set("LOGNAME", OsStr::from_bytes(name));
    set("SHELL", shell);
    // The image's own stays; the engine says "/" when it knows none.
    let home = if entry.home.is_empty() { b"/" } else { entry.home };
    let has_home = |home: &OsString| !matches!(home.as_bytes(), b"" | b"/");
    if !variables.get(OsStr::new("HOME")).is_some_and(has_home) {
        variables.insert("HOME".into(), OsStr::from_bytes(home).to_owned());
    }
    variables.entry("PATH".into()).or_insert_with(|| PATH.into());
    variables
}

fn entry(passwd: &[u8], uid: u32) -> Option<User<'_>> {
    let uid = uid.to_string();
    users(passwd).find(|entry| entry.uid == uid.as_bytes())
}

fn split(variable: &[u8]) -> Option<(OsString, OsString)> {
    let at = variable.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    let (name, value) = variable.split_at_checked(at)?;
    let value = value.get(1..)?;
    Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
}

/// Whether a shell of this name takes `-l`; `nologin` and its like take no options.
pub(crate) fn takes_login_option(shell: &OsStr) -> bool {
    shell.as_bytes().ends_with(b"sh")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\njoe:x:1000:100::/home/joe:/bin/odd\n\
        nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n:x:5:5::/five:/bin/five";

    fn account(uid: u32) -> Account<'static> {
        Account { uid, username: b"ann", passwd: PASSWD, container_uid: uid }
    }

    fn login(account: Account<'_>, container: &[(&str, &str)], own: &[&str]) -> BTreeMap<String, String> {
        let container = container.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let own: Vec<_> = own.iter().map(|variable| variable.as_bytes().to_vec()).collect();
        variables(container, &own, account, |shell| shell != "/bin/odd")
            .into_iter()
            .map(|(name, value)| (name.into_string().unwrap(), value.into_string().unwrap()))
            .collect()
    }

    fn user_home_shell(variables: &BTreeMap<String, String>) -> [&str; 3] {
        assert_eq!(variables["USER"], variables["LOGNAME"]);
        ["USER", "HOME", "SHELL"].map(|name| variables[name].as_str())
    }

    /// V3
    #[test]
    fn a_login_is_that_of_its_entry() {
        for (uid, expected) in [
            (0, ["root", "/root", "/bin/bash"]),
            (1000, ["joe", "/home/joe", "/bin/sh"]),
            (65534, ["ann", "/", "/bin/sh"]),
            (4711, ["ann", "/", "/bin/sh"]),
            (5, ["ann", "/five", "/bin/five"]),
        ] {
            assert_eq!(user_home_shell(&login(account(uid), &[("HOME", "/")], &[])), expected, "{uid}");
        }
        let unknown = Account { passwd: b"", ..account(0) };
        assert_eq!(user_home_shell(&login(unknown, &[], &[])), ["root", "/", "/bin/sh"]);
    }

    #[test]
    fn the_images_home_stays() {
        let image = [("HOME", "/srv"), ("PATH", "/bin")];
        assert_eq!(login(account(0), &image, &[])["HOME"], "/srv");
        assert_eq!(login(account(0), &image, &["HOME=/own"])["HOME"], "/own");
        assert_eq!(login(account(0), &image, &["HOME="])["HOME"], "/root");
        assert_eq!(login(account(0), &image, &[])["PATH"], "/bin");
        assert_eq!(login(account(0), &[], &[])["PATH"], PATH);
    }

    #[test]
    fn another_user_does_not_get_the_home_that_the_engine_made_up() {
        let joe = Account { container_uid: 0, ..account(1000) };
        assert_eq!(login(joe, &[("HOME", "/root")], &[])["HOME"], "/home/joe");
        assert_eq!(login(joe, &[("HOME", "/srv")], &[])["HOME"], "/srv");
        assert_eq!(login(joe, &[("HOME", "/root")], &["HOME=/root"])["HOME"], "/root");
    }

    #[test]
    fn a_login_comes_before_what_is_sent_and_that_before_the_images() {
        let variables = login(account(0), &[("A", "1"), ("B", "1")], &["A=2=3", "USER=x", "=x", "odd", "E="]);

        assert_eq!(["A", "B", "E", "USER"].map(|name| variables[name].as_str()), ["2=3", "1", "", "root"]);
        assert!(!variables.contains_key("") && !variables.contains_key("odd"));
    }

    #[test]
    fn shells_are_told_by_their_name() {
        assert!(
            ["/bin/sh", "/usr/bin/fish", "zsh"].iter().all(|shell| takes_login_option(OsStr::new(shell)))
        );
        assert!(!takes_login_option(OsStr::new("/usr/sbin/nologin")));
    }
}
