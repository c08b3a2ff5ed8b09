use proptest::prelude::*;

use super::*;
use crate::events::Deed;

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn packet(kind: u8, number: u32, fields: &[&[u8]]) -> Vec<u8> {
    let body = [&[kind][..], &number.to_be_bytes(), &fields.concat()].concat();
    string(&body)
}

fn u32_field(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

fn status(number: u32, code: u32) -> Vec<u8> {
    packet(101, number, &[&u32_field(code), &string(b"text"), &string(b"")])
}

/// A client's packets and the server's.
type Turn = (Vec<Vec<u8>>, Vec<Vec<u8>>);

/// Both sides in turns; each turn is a client's packets and the server's.
fn deeds(turns: &[Turn], piece: usize) -> Vec<Deed> {
    let mut observer = Observer::default();
    let mut told = Vec::new();
    for (asked, answered) in turns {
        for bytes in asked.concat().chunks(piece) {
            observer.request(bytes).unwrap();
        }
        for bytes in answered.concat().chunks(piece) {
            observer.answer(bytes, &mut |deed| told.push(deed)).unwrap();
        }
    }
    observer.end(&mut |deed| told.push(deed)).unwrap();
    told
}

fn greeting() -> Turn {
    (vec![packet(1, 3, &[])], vec![packet(2, 3, &[&string(b"posix-rename@openssh.com"), &string(b"1")])])
}

fn outline(deeds: &[Deed]) -> Vec<String> {
    let line = |deed: &Deed| {
        let Deed { action, path, to, change, outcome, read, written } = deed;
        let to = to.as_ref().map(|to| format!(" → {to}")).unwrap_or_default();
        let change = change.as_ref().map(|change| format!(" ({change})")).unwrap_or_default();
        let bytes =
            read.zip(*written).map(|(read, written)| format!(" {read}/{written}")).unwrap_or_default();
        format!("{action} {path}{to}{change}: {outcome}{bytes}")
    };
    deeds.iter().map(line).collect()
}

#[test]
fn a_file_is_followed_from_its_opening_to_its_close_in_pieces_of_any_size() {
    let handle = string(&[0, 0, 0, 0]);
    let data = string(&vec![7; 40_000]);
    let turns = [
        greeting(),
        (
            vec![packet(3, 1, &[&string(b"/tmp/up"), &u32_field(0x1a), &u32_field(0)])],
            vec![packet(102, 1, &[&handle])],
        ),
        (
            vec![
                packet(6, 2, &[&handle, &[0; 8], &data]),
                packet(6, 3, &[&handle, &[0; 8], &data]),
                packet(10, 4, &[&handle, &u32_field(0xc), &u32_field(0o100_600), &[0; 8]]),
                packet(4, 5, &[&handle]),
            ],
            vec![status(2, 0), status(3, 4), status(4, 0), status(5, 0)],
        ),
        (
            vec![packet(3, 6, &[&string(b"/tmp/up"), &u32_field(1), &u32_field(0)])],
            vec![packet(102, 6, &[&handle])],
        ),
        (vec![packet(5, 7, &[&handle, &[0; 8], &u32_field(50_000)])], vec![packet(103, 7, &[&data])]),
    ];
    let expected = [
        "open-write /tmp/up: ok",
        "setstat /tmp/up (mode=600 times): ok",
        "close /tmp/up: ok 0/40000",
        "open-read /tmp/up: ok",
        "close /tmp/up: unanswered 40000/0",
    ];

    for piece in [1, 3, 1000, usize::MAX] {
        assert_eq!(outline(&deeds(&turns, piece)), expected, "{piece}");
    }
}

#[test]
fn a_file_that_is_emptied_or_made_is_written_to_whatever_else_is_said() {
    let handle = string(&[0]);
    for (flags, expected) in
        [(0, "read"), (1, "read"), (2, "write"), (3, "read-write"), (0x11, "read-write"), (8, "write")]
    {
        let open = packet(3, 1, &[&string(b"f"), &u32_field(flags), &u32_field(0)]);

        let told = deeds(&[greeting(), (vec![open], vec![packet(102, 1, &[&handle])])], usize::MAX);

        assert_eq!(told[0].action, format!("open-{expected}"), "{flags}");
    }
}

#[test]
fn what_is_done_to_names_is_told_with_what_came_of_it() {
    let two = |one: &[u8], other: &[u8]| [string(one), string(other)].concat();
    let extended = |name: &[u8], rest: &[u8]| [string(name), rest.to_vec()].concat();
    let asked = [
        packet(14, 1, &[&string(b"d"), &u32_field(0)]),
        packet(18, 2, &[&two(b"a", b"b")]),
        packet(200, 3, &[&extended(b"posix-rename@openssh.com", &two(b"c", b"d"))]),
        packet(200, 4, &[&extended(b"hardlink@openssh.com", &two(b"e", b"f"))]),
        packet(20, 5, &[&two(b"target", b"link")]),
        packet(13, 6, &[&string(b"x\n\xff")]),
        packet(15, 7, &[&string(b"d")]),
        packet(9, 8, &[&string(b"g"), &u32_field(3), &[0; 8], &u32_field(1), &u32_field(2)]),
        packet(11, 9, &[&string(b"/root")]),
        packet(200, 10, &[&extended(b"surprise@example", b"?")]),
        packet(17, 11, &[&string(b"/root")]),
    ];
    let answered = (1..=11).map(|number| status(number, if number == 6 { 2 } else { 0 }));

    let told = deeds(&[greeting(), (asked.to_vec(), answered.collect())], 7);

    let expected = [
        "mkdir d: ok",
        "rename a → b: ok",
        "rename c → d: ok",
        "link e → f: ok",
        "symlink link → target: ok",
        "remove x\n\u{fffd}: no-such-file",
        "rmdir d: ok",
        "setstat g (size=0 owner=1:2): ok",
        "list /root: ok",
        "extended surprise@example: ok",
    ];
    assert_eq!(outline(&told), expected);
}

/// Handles can be guessed.
#[test]
fn a_client_that_does_not_wait_for_answers_hides_nothing() {
    let handle = string(&[0, 0, 0, 0]);
    let asked = vec![
        packet(17, 1, &[&string(b"/nowhere")]),
        packet(3, 2, &[&string(b"/secret"), &u32_field(2), &u32_field(0)]),
        packet(6, 3, &[&handle, &[0; 8], &string(b"12345")]),
        packet(4, 4, &[&handle]),
    ];
    let answered = vec![status(1, 2), packet(102, 2, &[&handle]), status(3, 0), status(4, 0)];

    let told = deeds(&[greeting(), (asked, answered)], 5);

    assert_eq!(outline(&told), ["open-write /secret: ok", "close /secret: ok 0/5"]);
}

#[test]
fn a_path_longer_than_any_is_cut_and_the_rest_is_still_seen() {
    let long = vec![b'x'; 200_000];
    let asked = vec![packet(13, 1, &[&string(&long)]), packet(13, 2, &[&string(b"next")])];

    let told = deeds(&[greeting(), (asked, vec![status(1, 4), status(2, 0)])], 999);

    assert!(told[0].path.len() < 5000 && told[0].path.ends_with('…'));
    assert_eq!((told[0].outcome, told[1].path.as_str()), ("failure", "next"));
}

#[test]
fn what_is_no_sftp_or_too_much_is_said_once() {
    let mut tell = |_deed: Deed| {};
    let mut other = Observer::default();
    assert_eq!(other.request(b"git-upload-pack\n"), Err(Unseen::NoSftp));
    let mut early = Observer::default();
    assert_eq!(early.request(&packet(13, 1, &[&string(b"x")])), Err(Unseen::NoSftp));
    assert_eq!(early.request(&packet(13, 1, &[&string(b"x")])), Ok(()));
    let mut newer = Observer::default();
    newer.request(&packet(1, 6, &[])).unwrap();
    assert_eq!(newer.answer(&packet(2, 6, &[]), &mut tell), Err(Unseen::OtherVersion));
    let mut flooded = Observer::default();
    flooded.request(&packet(1, 3, &[])).unwrap();
    let flood = |number| packet(13, number, &[&string(&[b'x'; 4000])]);
    let first = (0..10_000).find_map(|number| flooded.request(&flood(number)).err());
    assert_eq!(first, Some(Unseen::TooMuch));
    let mut ambiguous = Observer::default();
    ambiguous.request(&packet(1, 3, &[])).unwrap();
    ambiguous.request(&flood(1)).unwrap();
    assert_eq!(ambiguous.request(&flood(1)), Err(Unseen::NoSftp));
    let mut open = Observer::default();
    open.request(&packet(1, 3, &[])).unwrap();
    let first = (0..10_000).find_map(|number| {
        open.request(&packet(11, number, &[&string(&[b'x'; 4000])])).unwrap();
        open.answer(&packet(102, number, &[&string(&number.to_be_bytes())]), &mut tell).err()
    });
    assert_eq!(first, Some(Unseen::TooMuch));
}

fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![Just(1u8), Just(2), 3u8..=20, 101u8..=105, Just(200), any::<u8>()];
    let body = prop::collection::vec(any::<u8>(), 0..300);
    let framed = (kinds, any::<u32>(), body)
        .prop_map(|(kind, number, body)| packet(kind, number % 4, &[&string(b"a"), &body]));
    prop_oneof![8 => framed, 1 => prop::collection::vec(any::<u8>(), 0..50)]
}

proptest! {
    /// Whatever comes, in whatever pieces.
    #[test]
    fn no_bytes_do_harm(packets in prop::collection::vec((any::<bool>(), any_packet()), 0..40), piece in 1usize..64) {
        let mut observer = Observer::default();
        let mut told = 0;
        drop(observer.request(&packet(1, 3, &[])));
        for (from_client, bytes) in packets {
            for bytes in bytes.chunks(piece) {
                if from_client {
                    drop(observer.request(bytes));
                } else {
                    drop(observer.answer(bytes, &mut |_| told += 1));
                }
            }
        }
        drop(observer.end(&mut |_| told += 1));
        prop_assert!(told <= 41);
    }
}
