//! Programs that copy files over a command: what it says of them.

/// Longest command that is looked at, in bytes; those that copying programs make are short, or name many files.
const COMMAND_BYTES_MAX: usize = 64 << 10;

/// A copy that a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copying {
    /// `scp`, `rsync`.
    pub program: &'static str,
    /// `upload`: from the client; `download`: to it.
    pub direction: &'static str,
    /// What the command names, as it stands there.
    pub path: String,
}

/// What a command copies, if it is one that `scp` or `rsync` makes to talk to itself. Knows nothing of a shell's rules:
/// what is in quotation marks stays in them.
#[must_use]
pub fn copying(command: &[u8]) -> Option<Copying> {
    let (program, arguments) = program(command)?;
    let mut rest = arguments.as_str();
    match program.as_str() {
        "scp" => {
            let mut direction = None;
            while let Some((flag, after)) = word(rest).filter(|(word, _)| word.starts_with('-')) {
                rest = after;
                match flag {
                    "--" => break,
                    flag if flag.contains('t') => direction = Some("upload"),
                    flag if flag.contains('f') => direction = Some("download"),
                    _ => {}
                }
            }
            Some(Copying { program: "scp", direction: direction?, path: rest.trim().to_owned() })
        }
        "rsync" => {
            let (first, after) = word(rest)?;
            if first != "--server" {
                return None;
            }
            let is_sender = word(after).is_some_and(|(second, _)| second == "--sender");
            // The one argument that is never an option, then what is copied.
            let path = after.split_once(" . ").map(|(_, path)| path.trim().to_owned()).unwrap_or_default();
            Some(Copying { program: "rsync", direction: if is_sender { "download" } else { "upload" }, path })
        }
        _ => None,
    }
}

/// Whether a command is `sftp-server` itself, as `sftp -s` and sshfs can have it.
#[must_use]
pub fn is_sftp_server(command: &[u8]) -> bool {
    program(command).is_some_and(|(program, _)| program == "sftp-server")
}

/// The last part of the program's path, and the arguments.
fn program(command: &[u8]) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(command.get(..COMMAND_BYTES_MAX).unwrap_or(command));
    let (program, rest) = word(&text)?;
    let name = program.rsplit('/').next()?;
    Some((name.to_owned(), rest.to_owned()))
}

fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find(' ').unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end)?;
    (!word.is_empty()).then_some((word, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_that_copying_programs_make_are_known() {
        for (command, program, direction, path) in [
            ("scp -t /tmp/x", "scp", "upload", "/tmp/x"),
            ("scp -v -r -p -d -t -- /tmp/a b", "scp", "upload", "/tmp/a b"),
            ("/usr/bin/scp -pf '/tmp/x y'", "scp", "download", "'/tmp/x y'"),
            ("rsync --server -logDtpre.iLsfxCIvu . /tmp/tree/", "rsync", "upload", "/tmp/tree/"),
            ("rsync --server --sender -logDtpre.iLsfxCIvu . /a /b", "rsync", "download", "/a /b"),
        ] {
            let copying = copying(command.as_bytes()).expect(command);

            assert_eq!(
                (copying.program, copying.direction, copying.path.as_str()),
                (program, direction, path)
            );
        }
        for command in ["", " ", "scp", "scp x y", "rsync -a x y", "echo scp -t x", "scpx -t y"] {
            assert_eq!(copying(command.as_bytes()), None, "{command}");
        }
        assert!(is_sftp_server(b"/usr/lib/openssh/sftp-server -R") && !is_sftp_server(b"ls sftp-server"));
    }
}
