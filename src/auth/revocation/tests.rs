//! Lists that `ssh-keygen` made, and lists that nobody should have made.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::auth::keygen_tests::Keygen;
use crate::auth::krl::KrlError;

fn keygen() -> Keygen {
    let keygen = Keygen::new();
    for name in ["ca", "other", "user", "friend"] {
        keygen.key(name, "ed25519", 0);
    }
    keygen
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A list with these sections.
fn krl_of(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let header = [&krl::MAGIC[..], &1_u32.to_be_bytes(), &[0; 24], &string(b""), &string(b"")].concat();
    let sections = sections.iter().flat_map(|(kind, data)| [vec![*kind], string(data)].concat());
    header.into_iter().chain(sections).collect()
}

/// A list with one section of certificates, of any authority.
fn certificates_of(kind: u8, data: &[u8]) -> Vec<u8> {
    krl_of(&[(1, [string(b""), string(b""), vec![kind], string(data)].concat())])
}

/// A line for each.
fn serials(numbers: impl Iterator<Item = u64>) -> String {
    numbers.map(|number| format!("serial: {number}")).collect::<Vec<_>>().join("\n") + "\n"
}

fn error(bytes: &[u8]) -> RevocationError {
    RevocationList::parse(bytes).unwrap_err()
}

/// A4
#[test]
fn keys_in_a_binary_list_are_revoked_however_it_names_them() {
    let keygen = keygen();
    let (user, friend) = (keygen.read_key("user.pub"), keygen.read_key("friend.pub"));
    let text = keygen.text("user.pub");
    for (name, specification) in [
        ("plain", text.clone()),
        ("key", format!("key: {text}")),
        ("sha1", format!("sha1: {text}")),
        ("sha256", format!("sha256: {text}")),
        ("hash", format!("hash: {}", user.fingerprint)),
    ] {
        keygen.write(name, specification);
        let list = RevocationList::parse(&keygen.krl("krl", &[], &[name])).unwrap();

        assert_eq!(list.check_key(&user.blob), Err(Revoked::Key(user.fingerprint.clone())), "{name}");
        assert_eq!(list.check_key(&friend.blob), Ok(()), "{name}");
    }
}

/// A4
#[test]
fn certificates_in_a_binary_list_are_revoked_by_number_and_name() {
    let keygen = keygen();
    let with = |serial: u64, ca: &str, id: &str| {
        keygen.sign(ca, "user", &["-I", id, "-n", "alice", "-z", &serial.to_string()])
    };
    // Single numbers, a long range and many numbers close together: each of them a section of its own kind.
    let dense = serials((1000..1400).filter(|at| at % 3 == 0));
    keygen.write(
        "list",
        format!("serial: 5\nserial: 0x20-0x3000000000\n{dense}serial: 9000000000000000000\nid: lost\n"),
    );
    let list = RevocationList::parse(&keygen.krl("krl", &["-s", "ca.pub"], &["list"])).unwrap();

    for (serial, revoked) in [(4, false), (5, true), (6, false), (0x1f, false), (0x20, true), (1002, true)] {
        let outcome = list.check_certificate(&with(serial, "ca", "x"));
        assert_eq!(outcome, if revoked { Err(Revoked::Serial(serial)) } else { Ok(()) });
    }
    assert!(list.check_certificate(&with(9_000_000_000_000_000_000, "ca", "x")).is_err());
    assert_eq!(list.check_certificate(&with(0, "ca", "x")), Ok(()), "without a number");
    assert_eq!(list.check_certificate(&with(5, "other", "lost")), Ok(()), "of another authority");
    let by_name = list.check_certificate(&with(4, "ca", "lost"));
    assert_eq!(by_name, Err(Revoked::KeyId("lost".to_owned())));
}

/// A4
#[test]
fn numbers_close_together_are_found_in_their_bitmap() {
    let keygen = keygen();
    let odd = serials((1..2000).filter(|at| at % 2 == 1));
    keygen.write("list", odd);
    let list = RevocationList::parse(&keygen.krl("krl", &["-s", "ca.pub"], &["list"])).unwrap();
    let certificate = keygen.sign("ca", "user", &["-I", "x", "-n", "alice", "-z", "1"]);

    let revoked = list.certificates.get(&Some(keygen.read_key("ca.pub").blob)).unwrap();
    assert!(!revoked.bitmaps.is_empty(), "ssh-keygen made no bitmap of it");
    for serial in 1..2100 {
        let certificate = Certificate { serial, ..certificate.clone() };
        assert_eq!(
            list.check_certificate(&certificate).is_err(),
            serial < 2000 && serial % 2 == 1,
            "{serial}"
        );
    }
}

/// A4
#[test]
fn an_authority_or_a_key_that_is_revoked_takes_its_certificates_along() {
    let keygen = keygen();
    let certificate = keygen.sign("ca", "user", &["-I", "x", "-n", "alice", "-z", "7"]);
    let by = |names: &[&str]| {
        RevocationList::parse(&keygen.krl("krl", &[], names)).unwrap().check_certificate(&certificate)
    };

    assert_eq!(by(&["friend.pub"]), Ok(()));
    assert_eq!(by(&["ca.pub"]), Err(Revoked::Authority(certificate.ca.fingerprint.clone())));
    assert_eq!(by(&["user.pub"]), Err(Revoked::Key(certificate.key.fingerprint.clone())));
    assert_eq!(by(&["user-cert.pub"]), Err(Revoked::Serial(7)));
}

/// A4: by anybody's hand, for every authority.
#[test]
fn a_text_revokes_keys_and_certificates() {
    let keygen = keygen();
    let certificate = |serial: u64, id: &str| {
        keygen.sign("other", "friend", &["-I", id, "-n", "alice", "-z", &serial.to_string()])
    };
    let user = keygen.read_key("user.pub");
    let friend_is_out =
        |text: &str| RevocationList::parse(text.as_bytes()).unwrap().check_key(&user.blob).is_err();
    let list =
        RevocationList::parse(b"# ours\n\nSerial: 10-0x14 # old\nserial: 010\nid: lost laptop\n").unwrap();

    for (serial, revoked) in [(8, true), (9, false), (10, true), (20, true), (21, false)] {
        assert_eq!(list.check_certificate(&certificate(serial, "x")).is_err(), revoked, "{serial}");
    }
    assert!(list.check_certificate(&certificate(1, "lost laptop")).is_err());
    let text = keygen.text("user.pub");
    keygen.sign("ca", "user", &["-I", "x"]);
    assert!(friend_is_out(&text) && friend_is_out(&format!("key: {text}")));
    assert!(friend_is_out(&format!("sha1: {text}")) && friend_is_out(&format!("sha256: {text}")));
    assert!(friend_is_out(&user.fingerprint) && friend_is_out(&format!("hash: {} # x", user.fingerprint)));
    assert!(friend_is_out(&keygen.text("user-cert.pub")), "the key of a certificate");
    assert!(!friend_is_out(&keygen.text("friend.pub")));
}

#[test]
fn a_text_that_means_nothing_is_refused_with_its_line() {
    for text in [
        "\nserial: 0",
        "\nserial: 5-4",
        "\nserial: +5",
        "\nserial: 18446744073709551616",
        "\nid:",
        "\nid: a # b",
        "\nsha256: short",
        "\nsha1: SHA1:x",
        "\nkey: user.pub",
        "\nuser.pub",
        "\nno-pty ssh-ed25519 AAAA",
        "\ncolour: red",
    ] {
        assert!(matches!(error(text.as_bytes()), RevocationError::Line { line: 2, .. }), "{text:?}");
    }
}

#[test]
fn a_binary_list_that_cannot_be_relied_on_is_refused() {
    let extension = |critical: u8| [string(b"x@y"), vec![critical], string(b"")].concat();
    let signature = [krl_of(&[(4, b"key".to_vec())]), string(b"signature")].concat();

    assert!(RevocationList::parse(&krl_of(&[(255, extension(0))])).is_ok());
    assert!(RevocationList::parse(&certificates_of(0x39, &extension(0))).is_ok());
    assert!(RevocationList::parse(&signature).is_ok());
    assert_eq!(error(&krl_of(&[(255, extension(1))])), KrlError::Extension("x@y".to_owned()).into());
    assert_eq!(error(&certificates_of(0x39, &extension(1))), KrlError::Extension("x@y".to_owned()).into());
    assert_eq!(error(&krl_of(&[(6, vec![])])), KrlError::Section(6).into());
    assert_eq!(error(&certificates_of(0x24, &[])), KrlError::Section(0x24).into());
    assert_eq!(error(&certificates_of(0x20, &0_u64.to_be_bytes())), KrlError::Serial.into());
    assert_eq!(error(&certificates_of(0x21, &[[1; 8], [0; 8]].concat())), KrlError::Serial.into());
    assert_eq!(
        error(&certificates_of(0x22, &[vec![0xff; 8], string(&[2])].concat())),
        KrlError::Serial.into()
    );
    assert!(RevocationList::parse(&certificates_of(0x22, &[vec![0xff; 8], string(&[1])].concat())).is_ok());
    assert!(matches!(error(&krl_of(&[(3, string(&[0; 32]))])), RevocationError::Krl(KrlError::Field(_))));
    assert!(matches!(error(&krl_of(&[(2, string(b""))])), RevocationError::Krl(KrlError::Field(_))));
    assert!(matches!(error(&[&signature[..], &[2, 0, 0, 0, 0]].concat()), RevocationError::Krl(_)));
    let mut future = krl_of(&[]);
    future[11] = 2;
    assert_eq!(error(&future), KrlError::Version(2).into());
}

#[test]
fn a_list_that_was_cut_is_refused() {
    let keygen = keygen();
    keygen.write("list", "serial: 5\nserial: 7-900\nid: lost\n");
    let bytes = keygen.krl("krl", &["-s", "ca.pub"], &["list", "user.pub"]);
    let whole = RevocationList::parse(&bytes).unwrap();

    for length in 0..bytes.len() {
        // Cut between two sections it is a list, and no reader could tell.
        if let Ok(list) = RevocationList::parse(&bytes[..length]) {
            assert_ne!(list, whole, "{length}");
        }
    }
    assert!(RevocationList::parse(&bytes[..bytes.len() - 1]).is_err());
}

/// A quadratic reader would take minutes.
#[test]
fn a_large_list_is_read_and_searched_quickly() {
    let serials: Vec<u8> = (1..=1_000_000_u64).rev().flat_map(|at| (at * 3).to_be_bytes()).collect();
    let bitmaps: Vec<u8> = (1..=100_000_u64)
        .flat_map(|at| {
            [vec![0x22], string(&[&(at << 32).to_be_bytes()[..], &string(&[1])].concat())].concat()
        })
        .collect();
    let section = [string(b""), string(b""), vec![0x20], string(&serials), bitmaps].concat();
    let started = std::time::Instant::now();

    let list = RevocationList::parse(&krl_of(&[(1, section)])).unwrap();

    let revoked = list.certificates.get(&None).unwrap();
    assert!(revoked.has_serial(3) && revoked.has_serial(3_000_000) && revoked.has_serial(100_000 << 32));
    assert!(!revoked.has_serial(4) && !revoked.has_serial(3_000_001));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_list_of_more_authorities_than_we_keep_is_refused() {
    let section = |at: usize| {
        let serial = string(&1_u64.to_be_bytes());
        (1, [string(&at.to_be_bytes()), string(b""), vec![0x20], serial].concat())
    };
    let of = |count| krl_of(&(0..count).map(section).collect::<Vec<_>>());

    assert!(RevocationList::parse(&of(AUTHORITIES_MAX)).is_ok());
    assert_eq!(error(&of(AUTHORITIES_MAX + 1)), RevocationError::Authorities);
}

/// A4
#[tokio::test]
async fn a_list_that_cannot_be_used_revokes_every_key() {
    let keygen = keygen();
    let path = keygen.write("revoked", "");
    let user = keygen.read_key("user.pub");
    let revoked = RevokedKeys::new(Some(path.clone()));
    let unknown = |outcome| matches!(outcome, Err(Revoked::Unknown(_)));

    assert_eq!(revoked.check_key(&user.blob).await, Ok(()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(unknown(revoked.check_key(&user.blob).await), "everybody may write it");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, krl::MAGIC).unwrap();
    assert!(unknown(revoked.check_key(&user.blob).await), "it was cut");
    std::fs::remove_file(&path).unwrap();
    assert!(unknown(revoked.check_key(&user.blob).await), "it is missing");
    assert_eq!(RevokedKeys::default().check_key(&user.blob).await, Ok(()), "none is configured");
}

/// A4
#[tokio::test]
async fn a_list_is_kept_once_it_has_settled_and_read_anew_when_it_changes() {
    let keygen = keygen();
    let path = keygen.write("revoked", "serial: 5\n");
    let revoked = RevokedKeys::new(Some(path));
    let first = revoked.list().await.unwrap();
    let deadline = std::time::Instant::now() + SETTLED_AFTER + Duration::from_secs(10);
    let kept = loop {
        let (one, two) = (revoked.list().await.unwrap(), revoked.list().await.unwrap());
        if Arc::ptr_eq(&one, &two) {
            break two;
        }
        assert!(std::time::Instant::now() < deadline, "it never settles");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };

    keygen.write("revoked", "serial: 6\n");
    let changed = revoked.list().await.unwrap();

    assert_eq!(first, kept);
    assert_ne!(kept, changed);
}

proptest! {
    #[test]
    fn no_bytes_make_us_fail(bytes: Vec<u8>, kind: u8, text: String) {
        RevocationList::parse(&bytes).ok();
        RevocationList::parse(text.as_bytes()).ok();
        RevocationList::parse(&krl_of(&[(kind, bytes.clone())])).ok();
        RevocationList::parse(&certificates_of(0x20 + kind % 4, &bytes)).ok();
        RevocationList::parse(format!("serial: {text}\nid: {text}\nsha256: {text}").as_bytes()).ok();
    }
}
