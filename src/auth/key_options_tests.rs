//! What the options of a line come to.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> KeyOptions {
    KeyOptions::parse(text).unwrap()
}

fn error(text: &str) -> String {
    KeyOptions::parse(text).unwrap_err().to_string()
}

fn at(seconds: u64, source: &str) -> Circumstances {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 999);
    Circumstances { source: source.parse().unwrap(), now }
}

/// A2
#[test]
fn every_option_of_sshd_is_understood_in_any_letter_case() {
    let options = parse(
        r#"RESTRICT,no-user-rc,no-touch-required,command="echo \"a, b\"",from="10.0.0.0/8,!10.0.0.9",environment="A=1",environment="B=x=y",permitopen="host:80",PermitOpen="[::1]:*",permitlisten="8080",permitlisten="localhost:22",expiry-time="20300101Z",tunnel="0""#,
    );

    assert_eq!(
        options.restrictions,
        Restrictions {
            force_command: Some("echo \"a, b\"".to_owned()),
            permit_open: vec![vec!["host:80".to_owned(), "[::1]:*".to_owned()]],
            permit_listen: vec![vec!["*:8080".to_owned(), "localhost:22".to_owned()]],
            ..Restrictions::all()
        }
    );
    assert_eq!(options.environment, [("A", "1"), ("B", "x=y")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert!(options.from.is_some() && options.expires.is_some());
    assert!(!options.cert_authority);
    assert_eq!(parse(""), KeyOptions::default());
}

/// A2
#[test]
fn what_is_written_later_wins() {
    assert_eq!(
        parse("restrict,pty,port-forwarding").restrictions,
        Restrictions { no_terminal: false, no_port_forwarding: false, ..Restrictions::all() }
    );
    assert_eq!(parse("pty,restrict").restrictions, Restrictions::all());
    assert!(parse("no-pty").restrictions.no_terminal);
    assert!(parse("no-X11-forwarding").restrictions.no_x11_forwarding);
    assert!(parse("no-agent-forwarding").restrictions.no_agent_forwarding);
    assert!(!parse("no-port-forwarding,Port-Forwarding").restrictions.no_port_forwarding);
}

/// A2
#[test]
fn the_same_options_written_twice() {
    assert_eq!(
        parse(r#"environment="A=1",environment="A=2""#).environment,
        [("A".to_owned(), "1".to_owned())]
    );
    assert_eq!(
        parse(r#"expiry-time="20300101Z",expiry-time="20200101Z""#).expires,
        parse(r#"expiry-time="20200101Z""#).expires
    );
    assert_eq!(error(r#"command="a",command="b""#), "`command` is there more than once");
    assert_eq!(error(r#"from="*",from="*""#), "`from` is there more than once");
    assert_eq!(error(r#"principals="a",principals="b""#), "`principals` is there more than once");
}

/// A2
#[test]
fn options_that_mean_nothing_are_named() {
    assert_eq!(error("no-ptty"), "unknown option `no-ptty`");
    assert_eq!(error("restrict,sandbox"), "unknown option `sandbox`");
    assert_eq!(error("no-restrict"), "unknown option `no-restrict`");
    assert_eq!(error("command"), "unknown option `command`");
    assert_eq!(error(r#"pty="yes""#), "unknown option `pty`");
    assert_eq!(error("command=ls"), "the value of `command` is not between double quotes");
    assert_eq!(error(r#"command="ls"#), "the value of `command` is not between double quotes");
    assert_eq!(error(r#"command="ls"x"#), "unknown option `x`");
    assert!(error(r#"from="10.0.0.1/8""#).starts_with("`from`: `10.0.0.1/8` has bits set"));
    assert!(error(r#"expiry-time="soon""#).starts_with("`expiry-time`: expected YYYYMMDD"));
    assert!(error(r#"environment="=1""#).starts_with("`environment`: expected `NAME=value`"));
    assert!(error(r#"environment="A-B=1""#).starts_with("`environment`: expected `NAME=value`"));
    assert!(error(r#"tunnel="x""#).starts_with("`tunnel`: expected"));
    assert!(error("command=\"a\0b\"").contains("NUL"));
    for permit in ["80", "host", "host:0", "host:65536", "host:x", ":80", "::1:80", "[::1]80", "[]:1"] {
        let text = format!(r#"permitopen="{permit}""#);
        assert!(error(&text).starts_with("`permitopen`: expected `host:port`"), "{text}");
    }
}

/// A2: what we cannot see must not be taken for seen.
#[test]
fn a_verified_user_cannot_be_asked_for() {
    assert_eq!(KeyOptions::parse("verify-required"), Err(OptionError::Unenforceable("verify-required")));
    assert!(KeyOptions::parse("touch-required").is_err());
    assert!(KeyOptions::parse("no-verify-required,no-touch-required").is_ok());
}

/// A2
#[test]
fn a_line_counts_to_the_second_that_it_names() {
    let options = parse(r#"expiry-time="20240229123045Z""#);

    assert_eq!(options.admit(&at(1_709_209_845, "192.0.2.1")), Ok(()));
    assert_eq!(options.admit(&at(1_709_209_846, "192.0.2.1")), Err(Refusal::Expired));
}

/// A2
#[test]
fn a_line_counts_from_where_it_says() {
    let options = parse(r#"from="192.0.2.*""#);

    assert_eq!(options.admit(&at(0, "::ffff:192.0.2.1")), Ok(()));
    let elsewhere = "198.51.100.1".parse().unwrap();
    assert_eq!(options.admit(&at(0, "198.51.100.1")), Err(Refusal::Source(elsewhere)));
}

/// A4
#[test]
fn principals_belong_to_authorities() {
    let authority = parse(r#"cert-authority,principals="alice,bob""#);

    assert_eq!(authority.admit(&at(0, "::1")), Ok(()));
    assert_eq!(authority.principals, Some(vec!["alice".to_owned(), "bob".to_owned()]));
    assert_eq!(parse(r#"principals="alice""#).admit(&at(0, "::1")), Err(Refusal::NoAuthority));
}

#[test]
fn no_line_has_more_options_than_we_keep() {
    let many = |option: &dyn Fn(usize) -> String, count| (0..count).map(option).collect::<Vec<_>>().join(",");
    let environment = |at: usize| format!(r#"environment="A{at}=1""#);
    let permit = |_: usize| r#"permitopen="a:1""#.to_owned();

    assert!(KeyOptions::parse(&many(&environment, ENVIRONMENT_MAX)).is_ok());
    assert_eq!(error(&many(&environment, ENVIRONMENT_MAX + 1)), "more than 1024 times `environment`");
    assert_eq!(error(&many(&permit, PERMITS_MAX + 1)), "more than 4096 times `permitopen`");
}

#[test]
fn quotes_protect_spaces_and_a_backslash_protects_a_quote() {
    assert_eq!(split_options(r#"command="a \" b",pty key"#), Some((r#"command="a \" b",pty"#, "key")));
    assert_eq!(split_options("a\tb c"), Some(("a", "b c")));
    assert_eq!(split_options("alone"), Some(("alone", "")));
    assert_eq!(split_options(r#"command="a b"#), None);
    assert_eq!(unquote(r#""a\\b\"c"rest"#), Some((r#"a\\b"c"#.to_owned(), "rest")));
}

proptest! {
    #[test]
    fn no_text_makes_us_fail(text: String, options in r#"((no-)?(pty|restrict|command|from|permitopen)=?"?[a\\",:*0-9]*"?,?)*"#) {
        for text in [&text, &options] {
            if let Ok(options) = KeyOptions::parse(text) {
                options.admit(&at(0, "::1")).ok();
            }
            split_options(text);
        }
    }
}
