//! A network without anybody else in it.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use rustix::process::getuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Gives this test, and all that it starts from now on, a loopback of its own: a port that is free stays so, and nobody else
/// takes a display. It takes root; without, it is the machine's.
pub(crate) fn of_its_own() {
    if !getuid().is_root() {
        return;
    }
    let script = "ip link set lo up && echo up && exec cat";
    let mut holder = Command::new("unshare");
    holder.args(["--net", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    let mut said = [0; 3];
    holder.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let network = File::open(format!("/proc/{}/ns/net", holder.id())).unwrap();
    // Of this thread, and of the threads and processes that it begins.
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    // At the end of its input it ends.
    drop(holder.stdin.take());
    holder.wait().unwrap();
}
