//! `coracle passwd`: from a password to what the configuration takes.

use std::io::{self, IsTerminal};

use anyhow::ensure;

use super::terminal;
use crate::auth::{PASSWORD_BYTES_MAX, PasswordHash};

pub(super) fn run() -> anyhow::Result<()> {
    let password = if io::stdin().is_terminal() {
        let [once, again] = terminal::ask_unseen(["Password: ", "Again: "], PASSWORD_BYTES_MAX)?;
        ensure!(once.expose() == again.expose(), "the two passwords differ");
        once
    } else {
        terminal::read_line(PASSWORD_BYTES_MAX)?
    };
    let hash = PasswordHash::of(&password).map_err(anyhow::Error::msg)?;
    super::print(&format!("{}\n", hash.expose()))
}
