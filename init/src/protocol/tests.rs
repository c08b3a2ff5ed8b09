//! Frames survive their encoding, and nothing else is taken for one.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::{
    Address, BODY_BYTES_MAX, DATA_BYTES_MAX, Dial, Failure, FromInit, Listen, Malformed, PATH_BYTES_MAX,
    Program, REASON_BYTES_MAX, STRINGS_MAX, Start, Terminal, ToInit,
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

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        (vec(1_u8.., 0..40), any::<u16>()).prop_map(|(host, port)| Address::Tcp { host, port }),
        string().prop_map(|path| Address::Unix { path }),
    ]
}

fn listen() -> impl Strategy<Value = Listen> {
    prop_oneof![
        address().prop_map(Listen::At),
        Just(Listen::Agent),
        (string(), vec(any::<u8>(), 0..40))
            .prop_map(|(protocol, cookie)| Listen::Display { protocol, cookie }),
    ]
}

/// It arrives whole, whatever follows, and not before it is whole.
fn arrives(frame: &ToInit<'_>, rest: &[u8]) -> Result<(), TestCaseError> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    let length = bytes.len();
    bytes.extend(rest);

    prop_assert_eq!(ToInit::decode(&bytes), Ok(Some((frame.clone(), length))));
    for cut in [0, 1, length / 2, length - 1] {
        prop_assert_eq!(ToInit::decode(&bytes[..cut]), Ok(None));
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_start_arrives_as_it_was_sent(process: u32, start in start(), rest in vec(any::<u8>(), 0..20)) {
        arrives(&ToInit::Start { process, start: Box::new(start) }, &rest)?;
    }

    #[test]
    fn what_is_dialled_or_listened_on_arrives_as_it_was_sent(
        process: u32, within_ms: u32, spares_neighbours: bool, to in address(), listen in listen(),
        rest in vec(any::<u8>(), 0..20)
    ) {
        let dial = Dial { to, within_ms, spares_neighbours };
        arrives(&ToInit::Dial { process, dial: Box::new(dial) }, &rest)?;
        arrives(&ToInit::Listen { listener: process, listen: Box::new(listen) }, &rest)?;
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
        ToInit::Accept { process, listener: 8 },
        ToInit::Unlisten { listener: 8 },
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
        FromInit::Listening { listener: 8, port: 6010, path: b"/tmp/x" },
        FromInit::Knock { listener: 8 },
        FromInit::Accepted { process, host: b"::1", port: 40_000 },
        FromInit::Failed { process, failure: Failure::Exhausted, reason: b"no" },
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

#[test]
fn what_the_init_tells_is_bounded() {
    let (path, reason) = (vec![b'x'; PATH_BYTES_MAX + 1], vec![b'x'; REASON_BYTES_MAX + 1]);
    let longest = [
        FromInit::Listening { listener: 1, port: 0, path: &path[1..] },
        FromInit::Accepted { process: 1, host: &path[1..], port: 0 },
        FromInit::Failed { process: 1, failure: Failure::Other, reason: &reason[1..] },
    ];
    let too_much = [
        FromInit::Listening { listener: 1, port: 0, path: &path },
        FromInit::Accepted { process: 1, host: &path, port: 0 },
        FromInit::Accepted { process: 1, host: b"a\0b", port: 0 },
        FromInit::Failed { process: 1, failure: Failure::Other, reason: &reason },
    ];

    let is_taken = |frame: &FromInit<'_>| {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        FromInit::decode(&bytes).is_ok()
    };
    assert!(longest.iter().all(is_taken));
    assert!(!too_much.iter().any(is_taken));
}

#[test]
fn what_can_be_neither_dialled_nor_listened_on_is_none_of_ours() {
    let framed = |kind: u8, body: &[u8]| {
        let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 1];
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    };
    // A dial: its time, whom it spares, the kind of the address, its length, itself, its port.
    assert!(ToInit::decode(&framed(9, &[0, 0, 0, 1, 1, 0, 0, 0, 0, 1, b'a', 0, 80])).is_ok());
    for wrong in [
        &[0, 0, 0, 1, 2, 0, 0, 0, 0, 1, b'a', 0, 80][..],
        &[0, 0, 0, 1, 1, 2, 0, 0, 0, 1, b'a', 0, 80],
        &[0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 80],
        &[0, 0, 0, 1, 1, 0, 0, 0, 0, 1, b'a', 0, 80, 0],
        &[0, 0, 0, 1, 1, 0, 0, 0, 0, 9, b'a', 0, 80],
    ] {
        assert!(ToInit::decode(&framed(9, wrong)).is_err(), "{wrong:?}");
    }
    assert!(ToInit::decode(&framed(10, &[3])).is_err());
    assert!(FromInit::decode(&framed(75, &[7])).is_err());
}
