//! Frames survive their encoding, and nothing else is taken for one.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::{
    BODY_BYTES_MAX, DATA_BYTES_MAX, FromInit, Malformed, Program, STRINGS_MAX, Start, Terminal, ToInit,
};

fn string() -> impl Strategy<Value = Vec<u8>> {
    vec(1_u8.., 0..40)
}

fn start() -> impl Strategy<Value = Start> {
    let program = prop_oneof![
        Just(Program::LoginShell),
        string().prop_map(Program::ShellCommand),
        vec(string(), 1..5).prop_map(Program::Args),
    ];
    let terminal = (any::<u16>(), any::<u16>(), vec(any::<(u8, u32)>(), 0..5))
        .prop_map(|(columns, rows, modes)| Terminal { columns, rows, modes });
    (program, vec(string(), 0..5), string(), string(), string(), proptest::option::of(terminal)).prop_map(
        |(program, env, cwd, user, username, terminal)| Start { program, env, cwd, user, username, terminal },
    )
}

proptest! {
    #[test]
    fn a_start_arrives_as_it_was_sent(process: u32, start in start(), rest in vec(any::<u8>(), 0..20)) {
        let frame = ToInit::Start { process, start: Box::new(start) };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        let length = bytes.len();
        bytes.extend(rest);

        prop_assert_eq!(ToInit::decode(&bytes), Ok(Some((frame, length))));
        for cut in [0, 1, length / 2, length - 1] {
            prop_assert_eq!(ToInit::decode(&bytes[..cut]), Ok(None));
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..200), kind: u8, length in 0_u8..60) {
        let mut framed = vec![kind, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, length];
        framed.extend(&bytes);
        for bytes in [&bytes, &framed] {
            drop(ToInit::decode(bytes));
            drop(FromInit::decode(bytes));
        }
    }
}

#[test]
fn all_other_frames_arrive_as_they_were_sent() {
    let (process, stream, token) = (7, OutputStream::Stderr, [9; 32]);
    let data = vec![0; DATA_BYTES_MAX];
    let to_init = [
        ToInit::Welcome { version: 1, orphan_timeout_ms: 60_000, token },
        ToInit::Signal { process, number: 15 },
        ToInit::Resize { process, columns: 80, rows: 24 },
        ToInit::Stdin { process, bytes: b"abc" },
        ToInit::StdinEnd { process },
        ToInit::Credit { process, stream, bytes: 1 << 20 },
        ToInit::Release { process },
    ];
    let from_init = [
        FromInit::Hello { version_min: 1, version_max: 2, token },
        FromInit::Started { process, pid: 12 },
        FromInit::Refused { process, reason: b"no" },
        FromInit::Output { process, stream, bytes: &data },
        FromInit::OutputEnd { process, stream },
        FromInit::Exited { process, exit: Exit::Status(3) },
        FromInit::Exited { process, exit: Exit::Signal(9) },
        FromInit::Credit { process, bytes: 5 },
    ];

    for frame in to_init {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        assert_eq!(ToInit::decode(&bytes), Ok(Some((frame, bytes.len()))));
    }
    for frame in from_init {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        assert_eq!(FromInit::decode(&bytes), Ok(Some((frame, bytes.len()))));
    }
}

#[test]
fn a_length_is_not_believed() {
    let mut bytes = vec![5, 0, 0, 0, 0, 0, 0, 1];
    bytes.extend(u32::MAX.to_be_bytes());
    assert_eq!(ToInit::decode(&bytes), Err(Malformed("a frame is too long")));

    let mut bytes = vec![2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5, 2];
    bytes.extend(u32::try_from(STRINGS_MAX + 1).unwrap().to_be_bytes());
    assert_eq!(ToInit::decode(&bytes), Err(Malformed("a list is too long")));
}

#[test]
fn what_is_too_long_is_not_sent() {
    let start = Start {
        program: Program::ShellCommand(vec![b'x'; BODY_BYTES_MAX]),
        env: Vec::new(),
        cwd: Vec::new(),
        user: Vec::new(),
        username: Vec::new(),
        terminal: None,
    };
    let mut out = b"before".to_vec();

    assert!(ToInit::Start { process: 1, start: Box::new(start) }.encode(&mut out).is_err());
    assert_eq!(out, b"before");
}

#[test]
fn what_is_said_once_names_no_program() {
    let (mut welcome, mut hello) = (Vec::new(), Vec::new());
    ToInit::Welcome { version: 1, orphan_timeout_ms: 0, token: [0; 32] }.encode(&mut welcome).unwrap();
    FromInit::Hello { version_min: 1, version_max: 1, token: [0; 32] }.encode(&mut hello).unwrap();
    (welcome[7], hello[7]) = (1, 1);

    assert!(ToInit::decode(&welcome).is_err());
    assert!(FromInit::decode(&hello).is_err());
}
