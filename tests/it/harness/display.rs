//! A real X server on this machine, which takes one cookie.

use super::client::{Client, Running};
use super::target::Target;

/// Runs for as long as it is held.
#[derive(Debug)]
pub(crate) struct Display {
    number: u16,
    cookies: String,
    _running: Running,
}

impl Display {
    /// `name` is for its files in the test's folder.
    pub(crate) async fn start(target: &Target, name: &str) -> Self {
        let taken = target.path(&format!("{name}.taken"));
        let cookies = target.path(&format!("{name}.cookies")).display().to_string();
        let cookie = format!("{:032x}", rand::random::<u128>());
        // The server takes every cookie of its file, whatever display that is for.
        let add = target.program("xauth").args(["-q", "-f"]).arg(&taken).then(["add", ":0", ".", &cookie]);
        add.output().await.assert_success();
        let server = target
            .program("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-auth"])
            .arg(&taken);
        let mut running = server.args(["-screen", "0", "64x64x24"]).spawn();
        let number = running.wait_for("\n").await.trim().parse().expect("the number of a display");
        let display = format!(":{number}");
        let add = target.program("xauth").args(["-q", "-f", &cookies]).then(["add", &display, ".", &cookie]);
        add.output().await.assert_success();
        Self { number, cookies, _running: running }
    }

    /// `:NUMBER`
    pub(crate) fn name(&self) -> String {
        format!(":{}", self.number)
    }

    /// The file with its cookie.
    pub(crate) fn cookies(&self) -> &str {
        &self.cookies
    }

    /// `client`, who sits in front of it.
    pub(crate) fn before(&self, client: Client) -> Client {
        client.env("DISPLAY", self.name()).env("XAUTHORITY", &self.cookies)
    }
}

/// `tests/it/clients/x_client.pl`, as an argument for a shell inside. It shows the cookie that is `right`, `wrong` or none.
pub(crate) fn x_client(cookie: &str) -> String {
    format!("perl -e '{}' {cookie}", include_str!("../clients/x_client.pl"))
}
