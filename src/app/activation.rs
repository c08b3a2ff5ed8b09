//! A socket that a service manager listens on for us and hands over at the start (`sd_listen_fds(3)`): clients that come
//! before we are there wait instead of being refused, and we need no right to listen on a port such as 22.

use std::net::TcpListener;

use anyhow::{Context, ensure};
use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

/// The socket that was handed over, if one was. To be called before there are other threads: it changes the environment.
///
/// # Errors
/// What was handed over is not one TCP socket that listens.
pub fn listener_from_environment() -> anyhow::Result<Option<TcpListener>> {
    let mut passed = ListenFd::from_env();
    ensure!(
        passed.len() <= 1,
        "{} sockets were handed over for `ssh.listen`, and one can be served: keep one `ListenStream=` in the socket unit",
        passed.len()
    );
    let remedy = "the socket unit has to have one `ListenStream=` with a port, and `Accept=no`";
    let listener = passed.take_tcp_listener(0);
    let Some(listener) =
        listener.with_context(|| format!("what was handed over cannot be served: {remedy}"))?
    else {
        return Ok(None);
    };
    let listens = socket_acceptconn(&listener).context("what was handed over cannot be served")?;
    ensure!(listens, "what was handed over is a connection and not a listening socket: {remedy}");
    Ok(Some(listener))
}
