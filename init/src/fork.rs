//! A child process that does more than to become another program.
//!
//! `unsafe`: between fork and exec a child of a process with threads may hardly do anything, and the standard library
//! cannot know that we have one thread. And the child closes descriptors that owners in its copy of our memory still name;
//! they never run, since the child ends in here or becomes another program.

#![expect(unsafe_code, reason = "the kernel copies this process, its owners of descriptors included")]

use std::fs;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, exit};

use rustix::process::{Pid, setsid};

use crate::disposition;

/// Where the kernel does not list them: as many descriptors as we may have at all.
const DESCRIPTORS_MAX: RawFd = 8192;

/// The first one that is not standard input, output or error.
const FIRST_OTHER: RawFd = 3;

/// Starts a child with these for its standard streams, in a session of its own, with every signal at its default. There
/// `first` runs, before this function returns; then, with no other descriptor open, `then`, whose result is the child's
/// exit status if it returns.
///
/// Does not wait for `then`, whatever the child does: no file of the container can hold us up.
pub(crate) fn fork(
    stdio: [OwnedFd; 3],
    mut first: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    mut then: impl FnMut() -> u8 + Send + Sync + 'static,
) -> io::Result<Pid> {
    let [input, output, errors] = stdio;
    // Never run: only what comes before it.
    let mut command = Command::new("/");
    command.stdin(input).stdout(output).stderr(errors);
    let in_child = move || {
        disposition::reset_all();
        disposition::unblock_all()?;
        setsid()?;
        first()?;
        // Our descriptors close by themselves only when a program runs, and this one tells the parent to go on.
        close_others();
        #[expect(clippy::exit, reason = "the parent's code must not go on here")]
        exit(i32::from(then()))
    };
    // SAFETY: there is one thread, so no lock is held and memory may be allocated.
    unsafe { command.pre_exec(in_child) };
    // What arrives before they are the child's own must not go where we would have it.
    disposition::block_all()?;
    let child = command.spawn();
    disposition::unblock_all()?;
    let child = child?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::Other.into())
}

fn close_others() {
    let listed = fs::read_dir("/proc/self/fd").map(|entries| {
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect::<Vec<RawFd>>()
    });
    let numbers = listed.unwrap_or_else(|_| (FIRST_OTHER..DESCRIPTORS_MAX).collect());
    for number in numbers.into_iter().filter(|number| *number >= FIRST_OTHER) {
        // SAFETY: no owner of these runs any more, see above.
        let closed = unsafe { rustix::io::try_close(number) };
        // The listing's own is closed already.
        closed.unwrap_or_default();
    }
}
