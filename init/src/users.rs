//! Whom a program runs as, when that is not whom we run as.

use rustix::io;
use rustix::process::{Gid, Uid, getgid, getuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::passwd::{groups, number, users};

/// What the kernel takes in one list, and more than any image has.
const GROUPS_MAX: usize = 1024;

/// A user that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    gid: u32,
    /// All groups, the first one included.
    groups: Vec<u32>,
}

impl Identity {
    /// Becomes that user, for good.
    pub(crate) fn assume(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        set_thread_groups(&groups)?;
        set_thread_gid(Gid::from_raw(self.gid))?;
        set_thread_uid(Uid::from_raw(self.uid))
    }
}

/// Who `USER[:GROUP]` is; `None` when we are that already. What is no name in the image may be a number, as engines have
/// it: then the group is root's unless one is given.
pub(crate) fn resolve(spec: &[u8], passwd: &[u8], group: &[u8]) -> Result<Option<Identity>, &'static str> {
    if spec.is_empty() {
        return Ok(None);
    }
    let identity = identify(spec, passwd, group)?;
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    if identity.uid == uid && (identity.gid == gid || !spec.contains(&b':')) {
        return Ok(None);
    }
    if uid != 0 {
        return Err("the container does not run as root, so its programs have no other user");
    }
    Ok(Some(identity))
}

fn identify(spec: &[u8], passwd: &[u8], group: &[u8]) -> Result<Identity, &'static str> {
    let mut parts = spec.splitn(2, |byte| *byte == b':');
    let (user, in_group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let entry = users(passwd).find(|entry| entry.name == user && !user.is_empty()).or_else(|| {
        let uid = number(user)?;
        users(passwd).find(|entry| number(entry.uid) == Some(uid))
    });
    let uid = match &entry {
        Some(entry) => number(entry.uid),
        None => number(user),
    };
    let uid = uid.ok_or("the image knows no such user")?;
    if !in_group.is_empty() {
        let entry = groups(group).find(|entry| entry.name == in_group);
        let gid = entry.map_or_else(|| number(in_group), |entry| number(entry.gid));
        let gid = gid.ok_or("the image knows no such group")?;
        return Ok(Identity { uid, gid, groups: vec![gid] });
    }
    let Some(entry) = entry else { return Ok(Identity { uid, gid: 0, groups: vec![0] }) };
    let gid = number(entry.gid).unwrap_or_default();
    let others = groups(group)
        .filter(|group| group.members().any(|name| name == entry.name))
        .filter_map(|group| number(group.gid))
        .filter(|other| *other != gid);
    Ok(Identity { uid, gid, groups: std::iter::once(gid).chain(others).take(GROUPS_MAX).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0::/root:/bin/sh\njoe:x:1000:100::/home/joe:/bin/sh\n7:x:70:70:::\nodd:x:-1:1:::\n";
    const GROUP: &[u8] = b"root:x:0:\nusers:x:100:joe\nwheel:x:10:ann,joe\n";

    fn identified(spec: &str) -> Result<(u32, u32, Vec<u32>), &'static str> {
        identify(spec.as_bytes(), PASSWD, GROUP).map(|Identity { uid, gid, groups }| (uid, gid, groups))
    }

    #[test]
    fn names_and_numbers_mean_the_same_user() {
        assert_eq!(identified("joe"), Ok((1000, 100, vec![100, 10])));
        assert_eq!(identified("1000"), identified("joe"));
        assert_eq!(identified("root"), Ok((0, 0, vec![0])));
        // A name comes first, even if it looks like a number.
        assert_eq!(identified("7"), Ok((70, 70, vec![70])));
        assert_eq!(identified("4711"), Ok((4711, 0, vec![0])));
    }

    #[test]
    fn a_group_that_is_given_is_the_only_one() {
        assert_eq!(identified("joe:wheel"), Ok((1000, 10, vec![10])));
        assert_eq!(identified("joe:5"), Ok((1000, 5, vec![5])));
        assert_eq!(identified("4711:wheel"), Ok((4711, 10, vec![10])));
    }

    #[test]
    fn nobody_is_made_up() {
        for unknown in ["ann", "odd", "-1", ":", ":wheel", "4294967295", "joe:nogroup", "joe:-1"] {
            assert!(identified(unknown).is_err(), "{unknown}");
        }
    }
}
