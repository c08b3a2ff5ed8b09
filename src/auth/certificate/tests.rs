//! Certificates that `ssh-keygen` made, before the judge.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::auth::RevocationList;
use crate::auth::key_options::{Circumstances, KeyOptions};
use crate::auth::keygen_tests::{Keygen, here_and_now};
use crate::identity::Restrictions;

const ALICE: &[&str] = &["-I", "laptop", "-n", "alice,admins", "-z", "42"];

fn keygen() -> Keygen {
    let keygen = Keygen::new();
    keygen.key("ca", "ed25519", 0);
    keygen.key("user", "ed25519", 0);
    keygen
}

/// The authority of the folder, trusted for `principal`, with these options on its line and on the principal's.
fn trust(keygen: &Keygen, principal: &str, line: &str, names: &str) -> Trust {
    Trust {
        place: "ca.pub".to_owned(),
        ca_blob: keygen.read_key("ca.pub").blob,
        principals: vec![Principal {
            name: principal.to_owned(),
            options: KeyOptions::parse(names).unwrap(),
        }],
        options: KeyOptions::parse(line).unwrap(),
    }
}

fn judge_for_alice(
    keygen: &Keygen,
    certificate: &Certificate,
) -> Result<CertificateGrant, CertificateDenied> {
    let trusts = [trust(keygen, "alice", "", "")];
    judge(certificate, &trusts, &RevocationList::default(), &here_and_now())
}

/// Why a certificate that was made with these options lets nobody in.
fn denial(options: &[&str]) -> String {
    let keygen = keygen();
    let certificate = keygen.sign("ca", "user", &[&["-I", "x"], options].concat());
    judge_for_alice(&keygen, &certificate).unwrap_err().to_string()
}

/// A4
#[test]
fn a_good_certificate_grants_what_it_says() {
    let keygen = keygen();
    let certificate = keygen.sign("ca", "user", ALICE);

    let granted = judge_for_alice(&keygen, &certificate).unwrap();

    assert_eq!(
        (certificate.kind, certificate.valid_after, certificate.valid_before),
        (CertificateKind::User, 0, u64::MAX)
    );
    assert_eq!(certificate.key, keygen.read_key("user.pub"));
    assert_eq!(granted.restrictions, Restrictions::default());
    assert_eq!(
        (granted.serial, granted.key_id.as_str(), granted.principal.as_str()),
        (42, "laptop", "alice")
    );
    assert_eq!(granted.ca_fingerprint, keygen.read_key("ca.pub").fingerprint);
}

/// A4: of every kind of key that OpenSSH makes without hardware, on both sides.
#[test]
fn certificates_of_every_kind_of_key_are_read() {
    let keygen = Keygen::new();
    for (name, kind, bits) in [
        ("rsa", "rsa", 2048),
        ("p256", "ecdsa", 256),
        ("p384", "ecdsa", 384),
        ("p521", "ecdsa", 521),
        ("ed", "ed25519", 0),
    ] {
        let key = keygen.key(name, kind, bits);
        std::fs::copy(keygen.path(name), keygen.path("ca")).unwrap();
        std::fs::copy(keygen.path(&format!("{name}.pub")), keygen.path("ca.pub")).unwrap();

        let certificate = keygen.sign("ca", name, ALICE);

        assert_eq!((&certificate.key, &certificate.ca), (&key, &key), "{name}");
        assert!(judge_for_alice(&keygen, &certificate).is_ok(), "{name}");
    }
}

/// A4: keys in hardware, as OpenSSH writes them.
#[test]
fn certificates_of_keys_in_hardware_are_read() {
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let rest = [
        7_u64.to_be_bytes().to_vec(),
        1_u32.to_be_bytes().to_vec(),
        string(b"id"),
        string(&string(b"alice")),
        [0; 8].to_vec(),
        [0xff; 8].to_vec(),
        string(b""),
        string(b""),
        string(b""),
        string(&string(b"ssh-ed25519")),
        string(&string(b"ssh-ed25519")),
    ]
    .concat();
    for (kind, plain, key) in [
        (
            "sk-ssh-ed25519-cert-v01@openssh.com",
            "sk-ssh-ed25519@openssh.com",
            [string(&[1; 32]), string(b"ssh:")].concat(),
        ),
        (
            "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
            "sk-ecdsa-sha2-nistp256@openssh.com",
            [string(b"nistp256"), string(&[4; 65]), string(b"ssh:")].concat(),
        ),
    ] {
        let blob = [string(kind.as_bytes()), string(b"nonce"), key.clone(), rest.clone()].concat();

        let certificate = Certificate::parse(&blob).unwrap();

        assert_eq!(certificate.key.blob, [string(plain.as_bytes()), key].concat());
        assert_eq!((certificate.serial, certificate.principals.as_slice()), (7, &["alice".to_owned()][..]));
        assert_eq!(Certificate::parse(&[blob, vec![0]].concat()), Err(CertificateError::Field("end")));
    }
}

/// A4
#[test]
fn a_certificate_that_is_not_for_this_user_is_denied() {
    assert_eq!(denial(&[]), "it names no principals");
    assert_eq!(
        denial(&["-n", "bob,al\u{1b}ice"]),
        "none of its principals (`bob`, `al\\u{1b}ice`) is accepted for this user by ca.pub"
    );
    assert_eq!(denial(&["-n", "alice", "-h"]), "it is a host's certificate, not a user's");
}

/// A4
#[test]
fn a_certificate_of_an_authority_that_nobody_trusts_is_denied() {
    let keygen = keygen();
    keygen.key("other", "ed25519", 0);
    let certificate = keygen.sign("other", "user", ALICE);

    let denied = judge_for_alice(&keygen, &certificate).unwrap_err();

    assert_eq!(denied, CertificateDenied::UnknownAuthority(keygen.read_key("other.pub").fingerprint));
}

/// A4
#[test]
fn a_certificate_counts_in_its_time_alone() {
    assert!(denial(&["-n", "alice", "-V", "20200101:20200102"]).starts_with("it has expired, at "));
    assert!(
        denial(&["-n", "alice", "-V", "20990101:20990102"]).starts_with("it is not valid yet, but from ")
    );
    let keygen = keygen();
    let certificate = keygen.sign("ca", "user", &["-I", "x", "-n", "alice", "-V", "20200101:20200102"]);
    let trusts = [trust(&keygen, "alice", "", "")];
    let at = |seconds| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        judge(&certificate, &trusts, &RevocationList::default(), &Circumstances { now, ..here_and_now() })
            .is_ok()
    };

    let (first, end) = (certificate.valid_after, certificate.valid_before);
    assert_eq!([at(first - 1), at(first), at(end - 1), at(end)], [false, true, true, false]);
}

/// A4
#[test]
fn a_critical_option_that_is_not_known_denies() {
    assert_eq!(
        denial(&["-n", "alice", "-O", "critical:x@y=1"]),
        "its critical option `x@y` is not known here"
    );
    assert!(
        denial(&["-n", "alice", "-O", "verify-required"])
            .starts_with("its `verify-required` cannot be enforced")
    );
}

/// A4
#[test]
fn a_certificate_counts_from_its_source_addresses_alone() {
    let from = |list: &str| {
        let keygen = keygen();
        let option = format!("source-address={list}");
        let certificate = keygen.sign("ca", "user", &["-I", "x", "-n", "alice", "-O", &option]);
        judge_for_alice(&keygen, &certificate).map(|_| ())
    };

    assert_eq!(from("10.0.0.0/8,192.0.2.0/24"), Ok(()));
    assert_eq!(from("10.0.0.0/8"), Err(CertificateDenied::Source("192.0.2.1".parse().unwrap())));
}

/// A5
#[test]
fn what_a_certificate_does_not_permit_is_taken_away() {
    let keygen = keygen();
    let clear = ["-I", "x", "-n", "alice", "-O", "clear"];
    let command = ["-O", "permit-pty", "-O", "force-command=echo \"a b\"", "-O", "extension:x@y=1"];

    let nothing = judge_for_alice(&keygen, &keygen.sign("ca", "user", &clear)).unwrap();
    let some =
        judge_for_alice(&keygen, &keygen.sign("ca", "user", &[&clear[..], &command].concat())).unwrap();

    assert_eq!(nothing.restrictions, Restrictions::all());
    assert_eq!(
        some.restrictions,
        Restrictions {
            no_terminal: false,
            force_command: Some("echo \"a b\"".to_owned()),
            ..Restrictions::all()
        }
    );
}

/// A4: the lines that name the authority and the principal can take away more, and refuse.
#[test]
fn what_the_lines_say_counts_on_top() {
    let keygen = keygen();
    let certificate = keygen.sign("ca", "user", &[ALICE, &["-O", "force-command=true"]].concat());
    let by = |line: &str, names: &str| {
        let trusts = [trust(&keygen, "alice", line, names)];
        judge(&certificate, &trusts, &RevocationList::default(), &here_and_now())
    };

    let together =
        by("cert-authority,no-pty,environment=\"A=1\"", "no-agent-forwarding,environment=\"A=2\"").unwrap();

    assert!(together.restrictions.no_terminal && together.restrictions.no_agent_forwarding);
    assert_eq!(together.environment, [("A".to_owned(), "1".to_owned())]);
    assert!(by("cert-authority,command=\"true\"", "").is_ok());
    assert_eq!(
        by("", "command=\"false\"").unwrap_err().to_string(),
        "it and ca.pub force different commands"
    );
    assert_eq!(
        by("", "from=\"10.0.0.1\"").unwrap_err().to_string(),
        "ca.pub: not from 192.0.2.1, says `from`"
    );
    assert_eq!(by("expiry-time=\"20200101Z\"", "").unwrap_err().to_string(), "ca.pub: the line has expired");
}

/// A4: where one place does not vouch for it, another may.
#[test]
fn an_authority_may_be_trusted_in_two_places() {
    let keygen = keygen();
    let certificate = keygen.sign("ca", "user", ALICE);
    let trusts = [trust(&keygen, "bob", "", ""), trust(&keygen, "admins", "", "no-pty")];

    let granted = judge(&certificate, &trusts, &RevocationList::default(), &here_and_now()).unwrap();

    assert_eq!(granted.principal, "admins");
    assert!(granted.restrictions.no_terminal);
}

/// A4
#[test]
fn what_is_revoked_is_denied() {
    let keygen = keygen();
    let certificate = keygen.sign("ca", "user", ALICE);
    let trusts = [trust(&keygen, "alice", "", "")];
    let revoked = RevocationList::parse(b"serial: 42\n").unwrap();

    let denied = judge(&certificate, &trusts, &revoked, &here_and_now()).unwrap_err();

    assert_eq!(denied.to_string(), "the certificate's serial number 42 is revoked");
}

/// A11
#[test]
fn weak_keys_and_signatures_are_denied_on_both_sides() {
    let keygen = keygen();
    keygen.key("small", "rsa", 1024);
    let by_small = keygen.sign("small", "user", ALICE);
    let for_small = keygen.sign("ca", "small", ALICE);
    keygen.key("rsa", "rsa", 2048);
    let by_sha1 = keygen.sign("rsa", "user", &[ALICE, &["-t", "ssh-rsa"]].concat());
    let trusts = ["small.pub", "rsa.pub", "ca.pub"]
        .map(|name| Trust { ca_blob: keygen.read_key(name).blob, ..trust(&keygen, "alice", "", "") });
    let denied = |certificate: &Certificate| {
        judge(certificate, &trusts, &RevocationList::default(), &here_and_now()).unwrap_err().to_string()
    };

    assert!(denied(&by_small).starts_with("its authority's key is an RSA key of 1024 bits"));
    assert!(denied(&for_small).starts_with("it is for an RSA key of 1024 bits"));
    assert_eq!(denied(&by_sha1), "its authority signed it with `ssh-rsa`, which is not safe");
}

#[test]
fn a_certificate_that_was_cut_or_changed_is_not_read() {
    let keygen = keygen();
    keygen.sign("ca", "user", ALICE);
    let text = keygen.text("user-cert.pub");
    let blob = crate::auth::wire::parse_key(&text).unwrap();

    for length in 0..blob.len() {
        assert!(Certificate::parse(&blob[..length]).is_err(), "{length}");
    }
    assert_eq!(Certificate::parse(&keygen.read_key("user.pub").blob), Err(CertificateError::Kind));
}

proptest! {
    #[test]
    fn no_bytes_make_us_fail(bytes: Vec<u8>, at in 0_usize..200, value: u8) {
        Certificate::parse(&bytes).ok();
        let prefix = b"\0\0\0\x20ssh-ed25519-cert-v01@openssh.com";
        let mut blob = [&prefix[..], &bytes].concat();
        Certificate::parse(&blob).ok();
        if let Some(byte) = blob.get_mut(at) {
            *byte = value;
        }
        Certificate::parse(&blob).ok();
    }
}
