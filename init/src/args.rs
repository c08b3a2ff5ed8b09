//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

/// How the server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It listens on this unix socket; descriptors travel with frames.
    Socket(PathBuf),
    /// It is at the other end of standard input and output; streams travel in frames.
    Frames,
}

const USAGE: &str = "usage: coracle-init --socket PATH | --frames";

/// What the command line, without the program's name, asks for.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Mode, &'static str> {
    let mut args = args.into_iter();
    match (args.next(), args.next(), args.next()) {
        (Some(flag), Some(path), None) if flag == "--socket" && !path.is_empty() => {
            Ok(Mode::Socket(PathBuf::from(path)))
        }
        (Some(flag), None, None) if flag == "--frames" => Ok(Mode::Frames),
        _ => Err(USAGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Mode, &'static str> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn there_are_two_ways_to_be_called() {
        assert_eq!(parsed(&["--socket", "/a"]), Ok(Mode::Socket("/a".into())));
        assert_eq!(parsed(&["--frames"]), Ok(Mode::Frames));
        for wrong in [&[][..], &["--socket"], &["--socket", ""], &["--frames", "x"], &["x"]] {
            assert_eq!(parsed(wrong), Err(USAGE));
        }
    }
}
