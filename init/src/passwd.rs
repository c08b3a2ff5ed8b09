//! The image's `/etc/passwd` and `/etc/group`, which anybody may have written.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// What of such a file is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A user's entry. Fields that are missing are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) uid: &'a [u8],
    pub(crate) gid: &'a [u8],
    pub(crate) home: &'a [u8],
    pub(crate) shell: &'a [u8],
}

/// A group's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) gid: &'a [u8],
    members: &'a [u8],
}

impl<'a> Group<'a> {
    /// The names of those who belong to it without it being their first.
    pub(crate) fn members(&self) -> impl Iterator<Item = &'a [u8]> {
        self.members.split(|byte| *byte == b',')
    }
}

/// The text of a file: empty when there is none that can be read at once.
pub(crate) fn read(path: &Path) -> Vec<u8> {
    try_read(path).unwrap_or_default()
}

fn try_read(path: &Path) -> io::Result<Vec<u8>> {
    // Not to wait for whoever writes into a pipe of that name.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    // Nothing of it could be handed to a program.
    text.retain(|byte| *byte != 0);
    Ok(text)
}

/// Its entries, in order; the last field takes the rest of its line, as a shell's `read` has it.
pub(crate) fn users(text: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(text).map(|line| {
        let mut fields = line.splitn(7, |byte| *byte == b':');
        let mut next = || fields.next().unwrap_or_default();
        let (name, _password, uid, gid, _comment, home, shell) =
            (next(), next(), next(), next(), next(), next(), next());
        User { name, uid, gid, home, shell }
    })
}

/// Its entries, in order.
pub(crate) fn groups(text: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(text).map(|line| {
        let mut fields = line.splitn(4, |byte| *byte == b':');
        let mut next = || fields.next().unwrap_or_default();
        let (name, _password, gid, members) = (next(), next(), next(), next());
        Group { name, gid, members }
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// A user's or a group's number.
pub(crate) fn number(text: &[u8]) -> Option<u32> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    // The last one means "none" to the kernel.
    let number = std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()?;
    (number != u32::MAX).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_are_found_in_whatever_lines_there_are() {
        let text =
            b"root:x:0:0:root:/root:/bin/bash\n\n# a comment\n:\njoe:x:1000:100::/home/joe:/bin/a:b\nlast:x:7";
        let users: Vec<_> = users(text).collect();

        let root = User { name: b"root", uid: b"0", gid: b"0", home: b"/root", shell: b"/bin/bash" };
        assert_eq!(users[0], root);
        assert_eq!(users[3].shell, b"/bin/a:b");
        assert_eq!(users[4], User { name: b"last", uid: b"7", ..User::default() });
    }

    #[test]
    fn groups_name_their_members() {
        let groups: Vec<_> = groups(b"wheel:x:10:joe,ann\nempty:x:11:\n").collect();

        assert_eq!((groups[0].name, groups[0].gid), (&b"wheel"[..], &b"10"[..]));
        assert_eq!(groups[0].members().collect::<Vec<_>>(), [b"joe", b"ann"]);
        assert!(!groups[1].members().any(|name| name == b"joe"));
    }

    #[test]
    fn numbers_are_digits() {
        assert_eq!((number(b"0"), number(b"4294967294")), (Some(0), Some(u32::MAX - 1)));
        for odd in [&b""[..], b"+1", b"-1", b"1a", b"4294967295", b"99999999999"] {
            assert_eq!(number(odd), None);
        }
    }

    #[test]
    fn what_is_no_file_is_empty() {
        assert_eq!(read(Path::new("/")), b"");
        assert_eq!(read(Path::new("/nowhere")), b"");
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(users(&text).count() <= text.len());
            prop_assert!(groups(&text).map(|group| group.members().count()).sum::<usize>() <= 2 * text.len());
        }
    }
}
