use super::super::{Offer, PolicyConfig};
use super::*;
use crate::identity::Restrictions;
use crate::ids::Username;

fn alice() -> Identity {
    Identity::proven(Username::parse("alice").unwrap())
}

fn restricted(restrictions: Restrictions) -> Identity {
    let mut identity = alice();
    identity.restrictions = restrictions;
    identity
}

fn lists(lists: &[&[&str]]) -> Vec<Vec<String>> {
    lists.iter().map(|list| list.iter().map(ToString::to_string).collect()).collect()
}

/// Layers of `policy.forwarding`, the outermost first.
fn rules(layers: &[&str]) -> Rules {
    under(&layers.iter().map(|layer| layer_of(layer)).collect::<Vec<_>>())
}

fn layer_of(yaml: &str) -> PolicyConfig {
    let yaml = format!("forwarding: {{{yaml}}}");
    serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

fn under(layers: &[PolicyConfig]) -> Rules {
    layers.iter().fold(Rules::new(Offer::default()), |rules, layer| rules.narrowed_by(layer))
}

fn tcp(text: &str) -> Address {
    let (host, port) = text.rsplit_once(':').unwrap();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Address::Tcp { host, port: port.parse().unwrap() }
}

fn unix(path: &str) -> Address {
    Address::Unix { path: path.to_owned() }
}

fn dial_as(identity: &Identity, rules: &Rules, to: &str) -> Result<DialSpec, Denied> {
    let to = if to.starts_with('/') { unix(to) } else { tcp(to) };
    decide_dial(rules, identity, &to).map(DialPermit::redeem)
}

fn dials(rules: &Rules, to: &str) -> bool {
    dial_as(&alice(), rules, to).is_ok()
}

fn listen_as(identity: &Identity, rules: &Rules, at: &Address) -> Result<Address, Denied> {
    decide_listen(rules, identity, at).map(|permit| match permit.redeem() {
        ListenSpec::At(address) => address,
        other => panic!("{other:?}"),
    })
}

fn listens(rules: &Rules, at: &str) -> Result<String, Denied> {
    listen_as(&alice(), rules, &tcp(at)).map(|address| address.to_string())
}

fn display(rules: &Rules, identity: &Identity, protocol: &str, bytes: usize) -> Result<ListenPermit, Denied> {
    decide_display(rules, identity, protocol, Secret::new(vec![7; bytes]))
}

/// What is permitted of five things, one of each way.
fn each(rules: &Rules, identity: &Identity) -> [bool; 5] {
    [
        dial_as(identity, rules, "db:5432").is_ok(),
        listen_as(identity, rules, &tcp("localhost:8080")).is_ok(),
        dial_as(identity, rules, "/run/x").is_ok(),
        decide_agent(rules, identity).is_ok(),
        display(rules, identity, COOKIE_PROTOCOL, 16).is_ok(),
    ]
}

const ALL: &str = "local: enable, remote: enable, socket: enable, agent: enable, x11: enable";

/// F1
#[test]
fn nothing_is_forwarded_unless_the_outermost_layer_says_so() {
    for nothing in [rules(&[]), rules(&[""]), rules(&["", ALL]), Rules::default()] {
        assert_eq!(each(&nothing, &alice()), [false; 5]);
        assert!(!nothing.may_forward());
    }
    for all in [rules(&[ALL]), rules(&[ALL, ""]), rules(&[ALL, "", ALL])] {
        assert_eq!(each(&all, &alice()), [true; 5]);
        assert!(all.may_forward());
    }
}

#[test]
fn each_way_is_switched_by_its_own_key() {
    for (at, key) in ["local", "remote", "socket", "agent", "x11"].into_iter().enumerate() {
        let alone = std::array::from_fn(|other| other == at);
        let on = rules(&[&format!("{key}: enable")]);
        let off = rules(&[ALL, &format!("{key}: disable")]);

        assert_eq!(each(&on, &alice()), alone, "{key}");
        assert_eq!(each(&off, &alice()), alone.map(|alone: bool| !alone), "{key}");
        assert!(on.may_forward() && off.may_forward());
        assert!(!rules(&[&format!("{key}: enable"), &format!("{key}: disable")]).may_forward());
    }
}

/// F1
#[test]
fn what_is_dialled_has_to_fit_a_pattern() {
    for (patterns, to, permitted) in [
        ("'db:5432'", "db:5432", true),
        ("'db:5432'", "DB:5432", true),
        ("'db:5432'", "db:5433", false),
        ("'db:5432'", "db.evil:5432", false),
        ("'*:443'", "any.where:443", true),
        ("'*:443'", "any.where:80", false),
        ("'*.lab.example:443'", "a.lab.example:443", true),
        ("'*.lab.example:443'", "lab.example:443", false),
        ("'db?:*'", "db7:1", true),
        ("'[::1]:80'", "[::1]:80", true),
        ("'[::1]:80'", "[0:0::1]:80", false),
        ("'localhost:80'", "127.0.0.1:80", false),
        ("'127.0.0.1:*', 'db:5432'", "127.0.0.1:9", true),
    ] {
        let rules = rules(&[&format!("local: {{permitOpen: [{patterns}]}}")]);

        assert_eq!(dials(&rules, to), permitted, "{patterns} {to}");
    }
}

/// F1, Y6
#[test]
fn every_layer_has_to_permit_what_is_dialled() {
    let rules = rules(&[
        "local: {permitOpen: ['*:80', 'db:*']}",
        "remote: enable",
        "local: {permitOpen: ['db:5432', 'web:80', 'db:80', 'x:1']}",
        "local: enable",
    ]);

    for (to, permitted) in [
        ("db:5432", true),
        ("web:80", true),
        ("db:80", true),
        ("db:1", false),
        ("x:1", false),
        ("y:80", false),
    ] {
        assert_eq!(dials(&rules, to), permitted, "{to}");
    }
}

#[test]
fn odd_destinations_are_refused_whatever_is_permitted() {
    let rules = rules(&[ALL]);
    let long = "a".repeat(256);

    for host in ["", "a b", "a\0", "a\nb", "fe80::1%eth0", "127.0.0.1%1", "a\u{a0}b", &long] {
        let to = Address::Tcp { host: host.to_owned(), port: 1 };
        assert!(matches!(decide_dial(&rules, &alice(), &to), Err(Denied::Unsound { .. })), "{host:?}");
    }
    assert!(matches!(dial_as(&alice(), &rules, "db:0"), Err(Denied::Unsound { .. })));
    for host in ["a b", "a\0", "fe80::1%eth0", &long] {
        let at = Address::Tcp { host: host.to_owned(), port: 1 };
        assert!(matches!(decide_listen(&rules, &alice(), &at), Err(Denied::Unsound { .. })), "{host:?}");
    }
}

/// Y6: neither `enable` nor a pattern of wildcards opens what is next to the container; a name does.
#[test]
fn neighbours_are_spared_unless_the_outermost_layer_names_them() {
    for (layers, to, spares) in [
        (&["local: enable"][..], "db:5432", Some(true)),
        (&["local: {permitOpen: ['*:*']}"], "db:5432", Some(true)),
        (&["local: {permitOpen: ['*.*:*']}"], "a.b:5432", Some(true)),
        (&["local: {permitOpen: ['db:5432']}"], "db:5432", Some(false)),
        (&["local: {permitOpen: ['d*:5432']}"], "db:5432", Some(false)),
        (&["local: {permitOpen: ['*:*', 'db:5432']}"], "db:5432", Some(false)),
        (&["local: {permitOpen: ['*:*', 'db:5432']}"], "db:80", Some(true)),
        (&["local: {permitOpen: ['*:*', 'db:5432']}", "local: enable"], "db:5432", Some(false)),
        (&["local: {permitOpen: ['*:*', 'db:5432']}", "local: {permitOpen: ['db:*']}"], "db:80", Some(true)),
        // A layer only takes away.
        (&["local: enable", "local: {permitOpen: ['db:5432']}"], "db:5432", Some(true)),
        (&["local: enable"], "169.254.169.254:80", None),
        (&["local: {permitOpen: ['*:80']}"], "169.254.169.254:80", None),
        (&["local: {permitOpen: ['*:80']}"], "2852039166:80", None),
        (&["local: {permitOpen: ['*:80']}"], "[::ffff:a9fe:a9fe]:80", None),
        (&["local: {permitOpen: ['*:80']}"], "[fd00:ec2::254]:80", None),
        (&["local: enable", "local: {permitOpen: ['169.254.169.254:80']}"], "169.254.169.254:80", None),
        (&["local: {permitOpen: ['169.254.169.254:80']}"], "169.254.169.254:80", Some(false)),
        (&["local: {permitOpen: ['169.254.169.254:80']}"], "2852039166:80", None),
    ] {
        let answer = dial_as(&alice(), &rules(layers), to);

        assert_eq!(answer.map(|dial| dial.spares_neighbours).ok(), spares, "{layers:?} {to}");
    }
    // Nor does a key open them: its options only take away.
    let key = restricted(Restrictions {
        permit_open: lists(&[&["db:5432", "169.254.169.254:80"]]),
        ..Restrictions::default()
    });
    let enabled = rules(&["local: enable"]);
    assert!(dial_as(&key, &enabled, "db:5432").unwrap().spares_neighbours);
    assert!(matches!(dial_as(&key, &enabled, "169.254.169.254:80"), Err(Denied::Neighbour(_))));
}

/// A5
#[test]
fn the_options_of_a_key_are_held_against_what_is_dialled_and_listened_on() {
    let open = |permits: &[&[&str]]| {
        restricted(Restrictions { permit_open: lists(permits), ..Restrictions::default() })
    };
    let listen = |permits: &[&[&str]]| {
        restricted(Restrictions { permit_listen: lists(permits), ..Restrictions::default() })
    };
    let rules = rules(&[ALL]);

    for (permits, to, permitted) in [
        (&[&["db:5432", "*:80"][..]][..], "DB:5432", true),
        (&[&["db:5432", "*:80"]], "x:80", true),
        (&[&["db:5432", "*:80"]], "x:81", false),
        (&[&["[::1]:*"]], "[::1]:9", true),
        // As at sshd, which knows no other wildcard here.
        (&[&["d*:5432"]], "db:5432", false),
        // Every proof has a say.
        (&[&["db:*"], &["*:80", "*:81"]], "db:80", true),
        (&[&["db:*"], &["*:80", "*:81"]], "db:82", false),
        (&[&["db:*"], &["*:80", "*:81"]], "x:80", false),
        // As at sshd: they are for ports.
        (&[&["*:*"]], "/run/x", false),
    ] {
        assert_eq!(dial_as(&open(permits), &rules, to).is_ok(), permitted, "{permits:?} {to}");
    }
    for (permits, at, permitted) in [
        (&[&["*:8080"][..]][..], tcp("localhost:8080"), true),
        (&[&["*:8080"]], tcp(":8080"), true),
        (&[&["localhost:8080"]], tcp(":8080"), false),
        (&[&["LOCALHOST:*"]], tcp("localhost:0"), true),
        (&[&["127.*:8080"]], tcp("127.0.0.1:8080"), true),
        (&[&["*:8080"], &["*:9090"]], tcp("localhost:8080"), false),
        (&[&["*:*"]], unix("/run/x"), false),
    ] {
        assert_eq!(listen_as(&listen(permits), &rules, &at).is_ok(), permitted, "{permits:?} {at}");
    }
    assert!(dials(&rules, "x:81") && dial_as(&listen(&[&["*:1"]]), &rules, "/run/x").is_ok());
}

/// A5
#[test]
fn what_a_proof_takes_is_gone() {
    for (restrictions, expected) in [
        (
            Restrictions { no_port_forwarding: true, ..Restrictions::default() },
            [false, false, false, true, true],
        ),
        (
            Restrictions { no_agent_forwarding: true, ..Restrictions::default() },
            [true, true, true, false, true],
        ),
        (
            Restrictions { no_x11_forwarding: true, ..Restrictions::default() },
            [true, true, true, true, false],
        ),
        (Restrictions::all(), [false; 5]),
    ] {
        assert_eq!(each(&rules(&[ALL]), &restricted(restrictions)), expected);
    }
}

/// F2: as sshd with `GatewayPorts no`.
#[test]
fn what_listens_does_so_at_the_loopback_unless_the_outermost_layer_names_the_address() {
    for (layers, at, expected) in [
        (&["remote: enable"][..], "localhost:8080", Some("localhost:8080")),
        (&["remote: enable"], ":8080", Some("localhost:8080")),
        (&["remote: enable"], "*:80", Some("localhost:80")),
        (&["remote: enable"], "0.0.0.0:0", Some("localhost:0")),
        (&["remote: enable"], "[::]:1", Some("localhost:1")),
        (&["remote: enable"], "10.0.0.1:1", Some("localhost:1")),
        (&["remote: {permitListen: ['8080']}"], ":8080", Some("localhost:8080")),
        (&["remote: {permitListen: [8080]}"], "0.0.0.0:8080", Some("localhost:8080")),
        (&["remote: {permitListen: ['8080']}"], "localhost:0", None),
        (&["remote: {permitListen: ['0']}"], "localhost:0", Some("localhost:0")),
        (&["remote: {permitListen: ['localhost:*']}"], "localhost:0", Some("localhost:0")),
        (&["remote: {permitListen: ['localhost:*']}"], "127.0.0.1:1", None),
        (&["remote: {permitListen: ['127.0.0.1:*']}"], "127.0.0.1:1", Some("127.0.0.1:1")),
        (&["remote: {permitListen: ['[::1]:*']}"], "[::1]:1", Some("[::1]:1")),
        (&["remote: {permitListen: ['0.0.0.0:9000']}"], "0.0.0.0:9000", Some("0.0.0.0:9000")),
        (&["remote: {permitListen: ['0.0.0.0:9000']}"], ":9000", None),
        (&["remote: {permitListen: [':9000']}"], ":9000", Some(":9000")),
        (&["remote: {permitListen: [':9000', '*']}"], ":9001", Some("localhost:9001")),
        (&["remote: {permitListen: ['0.0.0.?:9000']}"], "0.0.0.0:9000", Some("localhost:9000")),
        (&["remote: {permitListen: ['a.host:1']}"], "a.host:1", Some("localhost:1")),
        // A layer only takes away.
        (
            &["remote: enable", "remote: {permitListen: ['0.0.0.0:9000']}"],
            "0.0.0.0:9000",
            Some("localhost:9000"),
        ),
    ] {
        assert_eq!(listens(&rules(layers), at).ok().as_deref(), expected, "{layers:?} {at}");
    }
}

/// F3
#[test]
fn a_socket_has_to_fit_a_pattern_in_both_directions() {
    let some = rules(&["socket: {permitPaths: ['/run/x.sock', '/tmp/*', '/srv/**']}"]);
    let long = format!("/srv/{}", "a".repeat(103));

    for (path, permitted) in [
        ("/run/x.sock", true),
        ("/run/y.sock", false),
        ("/tmp/a", true),
        ("/tmp/a/b", false),
        ("/srv/a/b", true),
        ("/srv/../run/docker.sock", false),
        ("/srv/./a", false),
        ("/srv/..a", true),
        ("/srv/a\0", false),
        ("/srv/a\nb", false),
        ("srv/a", false),
        ("", false),
        (&long[..107], true),
        (&long, false),
    ] {
        assert_eq!(decide_dial(&some, &alice(), &unix(path)).is_ok(), permitted, "{path:?}");
        assert_eq!(listen_as(&alice(), &some, &unix(path)).ok(), permitted.then(|| unix(path)), "{path:?}");
    }
    assert!(decide_dial(&some, &alice(), &unix("/tmp/a")).unwrap().redeem().spares_neighbours);
}

#[test]
fn only_the_usual_kind_of_cookie_is_taken() {
    let rules = rules(&[ALL]);

    for (protocol, bytes, permitted) in [
        (COOKIE_PROTOCOL, 16, true),
        (COOKIE_PROTOCOL, 64, true),
        (COOKIE_PROTOCOL, 15, false),
        (COOKIE_PROTOCOL, 65, false),
        ("XDM-AUTHORIZATION-1", 16, false),
        ("", 16, false),
    ] {
        assert_eq!(display(&rules, &alice(), protocol, bytes).is_ok(), permitted, "{protocol} {bytes}");
    }
}

#[test]
fn a_denial_says_what_was_asked_for_and_who_denied_it() {
    let key = restricted(Restrictions::all());

    let by_policy =
        dial_as(&alice(), &rules(&["local: {permitOpen: ['a:1']}"]), "db:5432").unwrap_err().to_string();
    let by_key = dial_as(&key, &rules(&[ALL]), "[::1]:5432").unwrap_err().to_string();
    let odd = Address::Tcp { host: format!("\x1b[31m{}", "a".repeat(10_000)), port: 1 };
    let odd = decide_listen(&rules(&[ALL]), &alice(), &odd).unwrap_err().to_string();

    assert_eq!(by_policy, "the policy does not permit to dial `db:5432`");
    assert_eq!(by_key, "the key or certificate does not permit to dial `[::1]:5432`");
    assert!(odd.len() < 300 && !odd.contains('\x1b'), "{odd}");
}

#[path = "forward_property_tests.rs"]
mod properties;
