use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::engine::{Signal, TerminalSize};
use crate::identity::Restrictions;
use crate::ids::Username;

const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";

fn alice() -> Identity {
    Identity::proven(Username::parse("alice").unwrap())
}

fn forced_by_a_key(command: &str) -> Identity {
    let mut identity = alice();
    identity.restrictions =
        Restrictions { force_command: Some(command.to_owned()), ..Restrictions::default() };
    identity
}

fn request(start: Start) -> StartRequest {
    let client = SocketAddr::from(([192, 0, 2, 7], 50_000));
    let server = SocketAddr::from(([127, 0, 0, 1], 2222));
    StartRequest { start, env: Vec::new(), terminal: None, client, server }
}

fn exec(command: &str) -> Start {
    Start::Exec(command.as_bytes().to_vec())
}

fn subsystem(name: &str) -> Start {
    Start::Subsystem(name.to_owned())
}

fn offer() -> Offer {
    let env = EnvRules::new(&EnvConfig { accept: vec!["*".parse().unwrap()] });
    let sftp = vec![SFTP_SERVER.to_owned(), "-l".to_owned(), "A B".to_owned()];
    Offer { env, subsystems: BTreeMap::from([("sftp".to_owned(), sftp)]), ..Offer::default() }
}

fn policy(yaml: &str) -> PolicyConfig {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}"))
}

/// All that there is, under these layers.
fn rules(layers: &[&str]) -> Rules {
    layers.iter().fold(Rules::new(offer()), |rules, layer| rules.narrowed_by(&policy(layer)))
}

fn ask_as(identity: &Identity, rules: &Rules, start: Start) -> Result<ProcessSpec, Denied> {
    decide(rules, identity, request(start)).map(Permit::redeem)
}

fn ask(rules: &Rules, start: Start) -> Result<ProcessSpec, Denied> {
    ask_as(&alice(), rules, start)
}

fn variable<'a>(process: &'a ProcessSpec, name: &str) -> Vec<&'a str> {
    process.env.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn a_command_is_always_for_a_shell() {
    let process = ask(&Rules::default(), exec("/bin/echo a; /bin/echo b")).unwrap();

    assert_eq!(process.program, Program::ShellCommand(b"/bin/echo a; /bin/echo b".to_vec()));
    assert_eq!(process.username, "alice");
}

/// V3
#[test]
fn a_program_learns_where_its_client_is() {
    let process = ask(&Rules::default(), Start::Shell).unwrap();

    assert_eq!(variable(&process, "SSH_CONNECTION"), ["192.0.2.7 50000 127.0.0.1 2222"]);
    assert_eq!(variable(&process, "SSH_CLIENT"), ["192.0.2.7 50000 2222"]);
}

#[test]
fn a_nul_in_a_command_is_refused() {
    assert_eq!(ask(&Rules::default(), exec("a\0b")), Err(Denied::NulInCommand));
    assert_eq!(ask_as(&forced_by_a_key("a\0b"), &Rules::default(), Start::Shell), Err(Denied::NulInCommand));
}

/// Y1
#[test]
fn what_the_offer_lacks_is_refused_and_the_rest_is_not() {
    let rules = Rules::new(Offer { disable_shell: true, disable_subsystem: true, ..offer() });

    assert_eq!(ask(&rules, Start::Shell), Err(Denied::Disabled("shell")));
    assert_eq!(ask(&rules, subsystem("sftp")), Err(Denied::Disabled("subsystem")));
    assert!(ask(&rules, exec("true")).is_ok());
    let rules = Rules::new(Offer { disable_command: true, ..offer() });
    assert_eq!(ask(&rules, exec("true")), Err(Denied::Disabled("exec")));
}

/// Y1
#[test]
fn what_a_policy_switches_off_is_refused_and_the_rest_is_not() {
    for (layer, refused) in [
        ("shell: disable", 0),
        ("command: {mode: disable}", 1),
        ("subsystem: {mode: disable}", 2),
        ("pty: disable", 3),
    ] {
        let rules = rules(&[layer]);
        let answers = [
            ask(&rules, Start::Shell).is_ok(),
            ask(&rules, exec("true")).is_ok(),
            ask(&rules, subsystem("sftp")).is_ok(),
            rules.permits_terminal(&alice()),
        ];

        assert_eq!(answers.map(|granted| !granted), std::array::from_fn(|at| at == refused), "{layer}");
    }
}

/// Y1: a terminal that was granted before a reload.
#[test]
fn a_program_with_a_terminal_loses_its_permit_with_the_terminal() {
    let terminal =
        Terminal { term: "xterm".into(), size: TerminalSize::from_client(80, 24), modes: Vec::new() };
    let request = StartRequest { terminal: Some(terminal), ..request(Start::Shell) };

    assert!(decide(&rules(&[]), &alice(), request.clone()).is_ok());
    assert_eq!(
        decide(&rules(&["pty: disable"]), &alice(), request).unwrap_err(),
        Denied::AgainstPolicy("pty-req")
    );
}

/// S3, S4
#[test]
fn a_subsystem_runs_as_configured_and_an_unknown_one_is_refused() {
    let rules = rules(&[]);

    let args = offer().subsystems["sftp"].clone();
    assert_eq!(ask(&rules, subsystem("sftp")).unwrap().program, Program::Args(args));
    assert_eq!(ask(&rules, subsystem("x")), Err(Denied::NoSuchSubsystem("x".into())));
}

/// Y2
#[test]
fn a_command_has_to_pass_the_filter_of_every_layer() {
    let rules = rules(&[
        "command: {mode: filter, allow: [a, b, c]}",
        "command: {mode: filter, allow: [b, c, d]}",
        "command: {deny: [c]}",
    ]);

    for (command, granted) in [("a", false), ("b", true), ("c", false), ("d", false)] {
        assert_eq!(ask(&rules, exec(command)).is_ok(), granted, "{command}");
    }
    assert_eq!(ask(&rules, exec("a")), Err(Denied::AgainstPolicy("exec")));
}

/// Y3, A5
#[test]
fn a_forced_command_runs_whatever_was_asked_for_and_knows_what_that_was() {
    for (rules, identity) in [(rules(&["forceCommand: id"]), alice()), (rules(&[]), forced_by_a_key("id"))] {
        for (start, original) in [
            (Start::Shell, None),
            (exec("ls; pwd"), Some("ls; pwd")),
            (subsystem("sftp"), Some("/usr/lib/openssh/sftp-server -l 'A B'")),
        ] {
            let process = ask_as(&identity, &rules, start).unwrap();

            assert_eq!(process.program, Program::ShellCommand(b"id".to_vec()));
            assert_eq!(variable(&process, "SSH_ORIGINAL_COMMAND"), Vec::from_iter(original));
        }
        // As sshd: it cannot be forced upon what does not exist.
        assert_eq!(ask_as(&identity, &rules, subsystem("x")), Err(Denied::NoSuchSubsystem("x".into())));
    }
}

/// Y3
#[test]
fn of_two_forced_commands_the_outer_one_runs() {
    let rules = rules(&["forceCommand: outer", "forceCommand: inner"]);

    let process = ask_as(&forced_by_a_key("innermost"), &rules, Start::Shell).unwrap();

    assert_eq!(process.program, Program::ShellCommand(b"outer".to_vec()));
}

/// Y2, Y3
#[test]
fn a_filter_judges_what_was_asked_for_and_not_what_is_forced() {
    let rules = rules(&["{forceCommand: run-it, shell: disable, command: {mode: filter, allow: [a]}}"]);

    assert!(ask(&rules, exec("a")).is_ok());
    assert_eq!(ask(&rules, exec("b")), Err(Denied::AgainstPolicy("exec")));
    assert_eq!(ask(&rules, Start::Shell), Err(Denied::AgainstPolicy("shell")));
}

/// Y3
#[test]
fn internal_sftp_is_the_configured_one_and_for_subsystems_only() {
    let rules = rules(&["forceCommand: internal-sftp -d /srv"]);

    let args = [offer().subsystems["sftp"].clone(), vec!["-d".into(), "/srv".into()]].concat();
    assert_eq!(ask(&rules, subsystem("sftp")).unwrap().program, Program::Args(args));
    assert_eq!(ask(&rules, Start::Shell), Err(Denied::SftpOnly));
    assert_eq!(ask(&rules, exec("id")), Err(Denied::SftpOnly));
    let other = ask_as(&forced_by_a_key("internal-sftp2"), &Rules::default(), Start::Shell).unwrap();
    assert_eq!(other.program, Program::ShellCommand(b"internal-sftp2".to_vec()));
}

/// Y3
#[test]
fn a_forced_command_is_not_told_half_of_what_was_asked_for() {
    let command = Start::Exec(b"cat \xff".to_vec());

    assert!(ask(&rules(&[]), command.clone()).is_ok());
    assert_eq!(ask(&rules(&["forceCommand: id"]), command), Err(Denied::NotUtf8));
}

/// A5
#[test]
fn a_proof_without_terminals_takes_the_terminal_and_nothing_else() {
    let mut identity = alice();
    identity.restrictions = Restrictions::all();

    assert!(!rules(&[]).permits_terminal(&identity));
    assert!(ask_as(&identity, &rules(&[]), exec("true")).is_ok());
}

/// A2, V2
#[test]
fn what_came_with_the_proof_wins_over_the_client_and_cannot_forge_what_is_ours() {
    let mut identity = alice();
    let given =
        [("FOO", "key"), ("PATH", "/k"), ("LD_PRELOAD", "x"), ("SSH_ORIGINAL_COMMAND", "x"), ("A B", "x")];
    identity.environment = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let sent =
        [("FOO", "client"), ("BAR", "client")].map(|(name, value)| (name.to_owned(), value.to_owned()));

    let request = StartRequest { env: sent.into(), ..request(Start::Shell) };
    let process = decide(&rules(&[]), &identity, request).unwrap().redeem();

    assert_eq!(variable(&process, "FOO"), ["key"]);
    assert_eq!(variable(&process, "BAR"), ["client"]);
    assert_eq!(variable(&process, "PATH"), ["/k"]);
    assert_eq!(variables_left_out(&identity), ["LD_PRELOAD", "SSH_ORIGINAL_COMMAND", "A B"]);
    for name in variables_left_out(&identity) {
        assert!(variable(&process, name).is_empty(), "{name}");
    }
}

/// V2
#[test]
fn a_policy_takes_variables_away_and_gives_none() {
    let accepts = |rules: &Rules, name: &str| rules.accepts_variable(name, "x", &[]);
    let narrowed = rules(&["env: {mode: filter, allow: ['LC_*', PATH], deny: [LC_ALL]}"]);

    assert!(accepts(&rules(&[]), "FOO") && !accepts(&narrowed, "FOO"));
    assert!(accepts(&narrowed, "LC_TIME") && !accepts(&narrowed, "LC_ALL") && !accepts(&narrowed, "PATH"));
    let nothing = Rules::new(Offer::default()).narrowed_by(&policy("env: {mode: filter, allow: ['*']}"));
    assert!(!accepts(&nothing, "LC_TIME"));
}

/// Y5
#[test]
fn signals_pass_as_the_policy_says() {
    let rules = rules(&["signals: {mode: filter, allow: [TERM, KILL]}", "signals: {deny: [KILL]}"]);

    assert!(rules.permits_signal(Signal::Term));
    assert!(!rules.permits_signal(Signal::Kill) && !rules.permits_signal(Signal::Usr1));
}

/// Y4
#[test]
fn of_several_numbers_of_sessions_the_smallest_holds() {
    assert_eq!(rules(&[]).sessions_max(10), 10);
    assert_eq!(rules(&["maxSessions: 3", "maxSessions: 2", "maxSessions: 4"]).sessions_max(10), 2);
    assert_eq!(rules(&["maxSessions: 20"]).sessions_max(10), 10);
    assert_eq!(rules(&["maxSessions: 0"]).sessions_max(10), 0);
}

#[test]
fn an_exact_text_that_looks_like_a_pattern_is_pointed_at() {
    let warnings = policy("command: {mode: filter, allow: ['glob:a *', 'b *', c], deny: ['d*']}").warnings();

    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("`b *` in `command.allow`") && warnings[1].contains("`glob:d*`"),
        "{warnings:?}"
    );
}

/// A policy out of few words, so that layers meet.
fn any_policy() -> impl Strategy<Value = PolicyConfig> {
    let switch = || select(vec!["enable", "disable"]);
    let filter = |names: &'static [&'static str]| {
        let list = move || vec(select(names), 0..3);
        (select(vec!["enable", "filter", "filter", "disable"]), list(), list()).prop_map(
            |(mode, allow, deny)| {
                let allow = if mode == "enable" { Vec::new() } else { allow };
                serde_json::json!({"mode": mode, "allow": allow, "deny": deny})
            },
        )
    };
    let filters = (
        filter(&["a", "b", "glob:*", "glob:a*", "ab"]),
        filter(&["sftp", "x"]),
        filter(&["A", "B*", "*"]),
        filter(&["TERM", "KILL"]),
    );
    let force = select(vec!["", "one", "two"]);
    (switch(), switch(), filters, force, proptest::option::of(0..4_u16)).prop_map(
        |(shell, pty, (command, subsystem, env, signals), force_command, max_sessions)| {
            serde_json::from_value(serde_json::json!({
                "shell": shell, "pty": pty, "command": command, "subsystem": subsystem, "env": env,
                "signals": signals, "forceCommand": force_command, "maxSessions": max_sessions,
            }))
            .unwrap()
        },
    )
}

/// What these rules say to everything: whether it is permitted, and how many sessions are.
fn answers(rules: &Rules) -> (Vec<bool>, usize) {
    let starts =
        [Start::Shell, exec("a"), exec("b"), exec("ab"), exec("a b"), subsystem("sftp"), subsystem("x")];
    let mut answers: Vec<bool> = starts.into_iter().map(|start| rules.judge(&start).is_ok()).collect();
    answers.extend(["A", "B", "BC", "C"].map(|name| rules.accepts_variable(name, "", &[])));
    answers.extend([Signal::Term, Signal::Kill, Signal::Int].map(|signal| rules.permits_signal(signal)));
    answers.push(rules.permits_terminal(&alice()));
    (answers, rules.sessions_max(3))
}

fn under(layers: &[PolicyConfig]) -> Rules {
    layers.iter().fold(Rules::new(offer()), |rules, layer| rules.narrowed_by(layer))
}

proptest! {
    /// Y2
    #[test]
    fn a_layer_never_permits_what_one_above_it_denied(above in vec(any_policy(), 0..3), layer in any_policy()) {
        let rules = under(&above);

        let narrowed = rules.narrowed_by(&layer);

        let ((before, sessions_before), (after, sessions_after)) = (answers(&rules), answers(&narrowed));
        for (before, after) in before.iter().zip(&after) {
            prop_assert!(*before || !*after, "{before} {after}");
        }
        prop_assert!(sessions_after <= sessions_before);
        if let Some(forced) = rules.force_command() {
            prop_assert_eq!(narrowed.force_command(), Some(forced));
        }
    }

    /// Y2: and a layer takes exactly what it takes alone.
    #[test]
    fn something_is_permitted_if_every_layer_alone_permits_it(layers in vec(any_policy(), 0..4)) {
        let (together, _) = answers(&under(&layers));

        let alone: Vec<_> = layers.iter().map(|layer| answers(&under(std::slice::from_ref(layer))).0).collect();
        let unnarrowed = answers(&under(&[])).0;
        for (at, permitted) in together.iter().enumerate() {
            prop_assert_eq!(*permitted, unnarrowed[at] && alone.iter().all(|answers| answers[at]));
        }
    }

    /// Y2
    #[test]
    fn the_same_layer_twice_is_that_layer_once(above in vec(any_policy(), 0..3), layer in any_policy()) {
        let once = under(&above).narrowed_by(&layer);

        let twice = once.narrowed_by(&layer);

        prop_assert_eq!(answers(&once), answers(&twice));
        prop_assert_eq!(once.force_command(), twice.force_command());
    }

    /// Y2
    #[test]
    fn two_layers_take_the_same_in_either_order(one in any_policy(), two in any_policy()) {
        prop_assert_eq!(answers(&under(&[one.clone(), two.clone()])), answers(&under(&[two, one])));
    }
}
