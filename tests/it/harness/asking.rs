//! What a person is asked at a login, and says: OpenSSH's client with a program that answers for them.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;

use super::client::Client;
use super::target::Target;

/// How long a code of RFC 6238 counts.
const STEP: Duration = Duration::from_secs(30);

/// The secret of every authenticator in the tests, and the same as text (RFC 4648, base 32).
const TOTP_SECRET: &[u8] = b"12345678901234567890";
pub(crate) const TOTP_SECRET_TEXT: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

impl Target {
    /// `ssh` as another user, where the shell's `case` with these branches answers each question: `*assword*) echo x`.
    pub(crate) fn ssh_answering(&self, user: &str, branches: &str, arguments: &[&str]) -> Client {
        let (program, asked) = (self.path("answers"), self.path("asked").display().to_string());
        let script = format!("#!/bin/sh\nprintf '%s\\n' \"$1\" >>'{asked}'\ncase $1 in {branches};; esac\n");
        super::write_program(&program, &script);
        let host = self.address.ip().to_string();
        // Of two values ssh takes the first.
        self.program("ssh")
            .env("SSH_ASKPASS", program)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .option("BatchMode=no")
            .args(self.ssh_options())
            .args(["-p", &self.address.port().to_string(), "-l", user])
            .then(std::iter::once(host.as_str()).chain(arguments.iter().copied()))
    }

    /// The questions that were asked since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("asked")).unwrap_or_default();
        drop(std::fs::remove_file(self.path("asked")));
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// Makes `name` a file with [`TOTP_SECRET_TEXT`] that its owner alone can read.
    pub(crate) fn enroll(&self, name: &str) {
        std::fs::write(self.path(name), TOTP_SECRET_TEXT).unwrap();
        std::fs::set_permissions(self.path(name), Permissions::from_mode(0o600)).unwrap();
    }
}

/// What `coracle passwd` makes of a password.
pub(crate) fn password_hash(password: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    let mut child =
        command.arg("passwd").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("our own program");
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The code that the authenticator shows `steps` of 30 seconds from now (RFC 6238, RFC 4226 §5.3).
pub(crate) fn totp_code(steps: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / STEP.as_secs();
    let counter = now.checked_add_signed(steps).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOTP_SECRET);
    let tag = hmac::sign(&key, &counter.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[19] & 0xf);
    let number = u32::from_be_bytes(tag[offset..offset + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}
