//! Which client was seen to do what: a test that has proven it says so, and `script/compatibility` makes a table of it.

use std::io::Write as _;

use super::target::Target;

/// Names the file that takes a line per client and feature.
const FILE: &str = "CORACLE_TEST_SEEN";

impl Target {
    /// `client`, a program by the name that people know, has just worked with the server: `seen("OpenSSH", "-L")`.
    ///
    /// Two literals, since `tests/docs.rs` looks for them in the source. The oracle proves nothing.
    pub(crate) fn seen(&self, client: &str, feature: &str) {
        let Some(path) = std::env::var_os(FILE).filter(|_| !self.is_oracle) else { return };
        let file = std::fs::File::options().create(true).append(true).open(path);
        // One write, since tests run in parallel.
        let line = format!("{client}\t{feature}\n");
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a file for what was seen");
    }
}
