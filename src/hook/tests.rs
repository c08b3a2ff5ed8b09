mod server;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpSocket;
use tracing_subscriber::fmt::MakeWriter;

use self::server::{Act, Authority, Server};
use super::*;
use crate::value::{Pem, Timeout};

/// No test waits for it.
const LONG: &str = "60s";
/// For tests that see a question fail; they take as long as this.
const SHORT: &str = "1s";

const PASSWORD: &str = "hunter2-SECRET";
const PASSWORD_BASE64: &str = "aHVudGVyMi1TRUNSRVQ=";

fn config(url: &str, timeout: &str) -> WebhookConfig {
    let timeout: Timeout = timeout.parse().unwrap();
    WebhookConfig { url: url.parse().unwrap(), timeout, ..WebhookConfig::default() }
}

fn caller() -> Caller {
    Caller {
        username: Username::parse("alice").unwrap(),
        remote_address: SocketAddr::from(([192, 0, 2, 7], 50022)),
        connection_id: ConnectionId::random(),
        client_version: "SSH-2.0-OpenSSH_9.9".to_owned(),
    }
}

async fn ask_with(config: &WebhookConfig) -> Result<HookVerdict, HookError> {
    let hook = PasswordHook::new(config).unwrap();
    hook.ask(&caller(), &Secret::new(PASSWORD.to_owned())).await
}

async fn ask(server: &Server, timeout: &str) -> Result<HookVerdict, HookError> {
    ask_with(&config(&server.url(""), timeout)).await
}

fn is_accepted(outcome: &Result<HookVerdict, HookError>) -> bool {
    matches!(outcome, Ok(HookVerdict::Accept(_)))
}

/// The error's text; it shows no secret.
fn error(outcome: Result<HookVerdict, HookError>) -> String {
    let error = outcome.expect_err("an error");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(PASSWORD) && !shown.contains(PASSWORD_BASE64), "{shown}");
    error.to_string()
}

#[tokio::test]
async fn each_hook_is_asked_below_its_address_and_its_answer_counts() {
    let server = Server::start([Act::answer(r#"{"success": true, "authenticatedUsername": "Alice"}"#)]).await;
    let below = config(&server.url("/hooks/"), LONG);
    let known = Facts::default();

    let password = ask_with(&below).await.unwrap();
    let key = PublicKeyHook::new(&below).unwrap().ask(&caller(), "ssh-ed25519 AAAA").await.unwrap();
    let authz = AuthzHook::new(&below).unwrap().ask(&caller(), &known).await.unwrap();

    for verdict in [password, key, authz] {
        let HookVerdict::Accept(facts) = verdict else { panic!("denied") };
        assert_eq!(facts.authenticated_username, Username::parse("Alice"));
    }
    let seen = server.seen();
    let lines: Vec<_> = seen.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(
        lines,
        ["POST /hooks/password HTTP/1.1", "POST /hooks/pubkey HTTP/1.1", "POST /hooks/authz HTTP/1.1"]
    );
    for header in ["content-type: application/json", "accept: application/json"] {
        assert!(seen[0].headers.iter().any(|line| line == header), "{header}");
    }
    assert!(seen[0].body.contains(PASSWORD_BASE64));
}

#[tokio::test]
async fn the_configuration_hook_is_asked_at_its_very_address() {
    let body = r#"{"config": {"docker": {"config": {"disableShell": false}}}, "environment": {"A": "1"}}"#;
    let server = Server::start([Act::answer(body)]).await;
    let hook = ConfigHook::new(&config(&server.url("/config?tenant=7"), LONG)).unwrap();

    let answer = hook.ask(&caller(), &Facts::default()).await.unwrap();

    assert_eq!(answer.config.expose(), &json!({"docker": {"config": {"disableShell": false}}}));
    assert_eq!(answer.facts.environment_values().len(), 1);
    assert_eq!(server.seen()[0].line, "POST /config?tenant=7 HTTP/1.1");
}

#[tokio::test]
async fn a_no_is_a_no_at_once() {
    for (act, denial) in [
        (Act::answer(r#"{"success": false}"#), Denial::Answer),
        (Act::answer("{}"), Denial::Answer),
        (Act::status(401), Denial::Status(401)),
        (Act::status(403), Denial::Status(403)),
        (Act::status(404), Denial::Status(404)),
    ] {
        let server = Server::start([act, Act::answer(r#"{"success": true}"#)]).await;

        let verdict = ask(&server, LONG).await.unwrap();

        assert!(matches!(verdict, HookVerdict::Deny(how) if how == denial), "{verdict:?}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_configuration_hook_that_refuses_leaves_no_configuration() {
    let server = Server::start([Act::status(403)]).await;
    let hook = ConfigHook::new(&config(&server.url(""), LONG)).unwrap();

    let outcome = hook.ask(&caller(), &Facts::default()).await;

    assert!(matches!(outcome, Err(HookError::Refused { status: 403, .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_failure_that_may_pass_is_tried_again() {
    let cut_short = "HTTP/1.1 200 -\r\ncontent-length: 100\r\n\r\n{\"success\": true}";
    for first in
        [Act::status(500), Act::status(503), Act::Send(String::new()), Act::Send(cut_short.to_owned())]
    {
        let server = Server::start([first.clone(), Act::answer(r#"{"success": true}"#)]).await;

        let outcome = ask(&server, LONG).await;

        assert!(is_accepted(&outcome), "{first:?}: {outcome:?}");
        assert_eq!(server.seen().len(), 2, "{first:?}");
    }
}

#[tokio::test]
async fn a_try_that_hangs_leaves_time_for_another() {
    let server = Server::start([Act::Silence, Act::answer(r#"{"success": true}"#)]).await;

    let outcome = ask(&server, "4s").await;

    assert!(is_accepted(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn a_last_try_that_had_no_time_does_not_hide_why_the_one_before_it_failed() {
    let server = Server::start([Act::Silence, Act::status(502), Act::Silence]).await;

    let error = error(ask(&server, "4s").await);

    assert!(error.contains("3 tries, the last time: HTTP 502"), "{error}");
}

#[tokio::test]
async fn what_never_answers_is_given_up_within_the_time_out_and_nobody_comes_in() {
    for (act, words) in [
        (Act::Silence, "not answered within 500ms"),
        (Act::Drip, "not answered within 500ms"),
        (Act::status(502), "HTTP 502"),
        (Act::Send("SSH-2.0-dropbear\r\n".to_owned()), "invalid HTTP"),
    ] {
        let server = Server::start([act]).await;
        let began = tokio::time::Instant::now();

        let error = error(ask(&server, SHORT).await);

        assert!(error.contains(" tries, the last time: ") && error.contains(words), "{error}");
        assert!(error.contains(&format!("`{}`", server.url("/password"))), "{error}");
        // Ten times what it takes, for machines that have much else to do.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(server.seen().len() >= 2);
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_said_to_be_so() {
    // Taken, and nobody listens: no other test is given it.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let nobody = taken.local_addr().unwrap();

    let error = error(ask_with(&config(&format!("http://{nobody}"), SHORT)).await);

    assert!(error.contains("refused") && error.contains(" tries"), "{error}");
}

#[tokio::test]
async fn an_answer_of_any_length_is_read_up_to_a_bound() {
    let announced = "HTTP/1.1 200 -\r\ncontent-length: 4294967296\r\n\r\n{}".to_owned();
    for act in [Act::Flood, Act::Send(announced)] {
        let server = Server::start([act]).await;

        let error = error(ask(&server, LONG).await);

        assert!(error.contains("more than 1048576 bytes"), "{error}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start([Act::answer(r#"{"success": true}"#)]).await;
    for status in [301, 302, 303, 307, 308] {
        let to = elsewhere.url("/password");
        let answer = format!("HTTP/1.1 {status} -\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        let server = Server::start([Act::Send(answer)]).await;

        let error = error(ask(&server, LONG).await);

        assert!(error.contains("redirects are not followed"), "{error}");
        assert_eq!((server.seen().len(), elsewhere.seen().len()), (1, 0));
    }
}

#[tokio::test]
async fn what_cannot_be_understood_lets_nobody_in() {
    let over = format!(r#"{{"success": true, "files": {{"/{}": {{"value": ""}}}}}}"#, "x".repeat(5000));
    for act in [
        Act::answer("<html>SECRET</html>"),
        Act::answer(""),
        Act::answer(r#"{"success": "true"}"#),
        Act::answer(&over),
        Act::Answer(201, r#"{"success": true}"#.to_owned()),
        Act::Answer(204, String::new()),
    ] {
        let server = Server::start([act.clone()]).await;

        let error = error(ask(&server, LONG).await);

        assert!(error.contains("cannot be used: ") && !error.contains("SECRET"), "{act:?}: {error}");
        assert_eq!(server.seen().len(), 1, "{act:?}");
    }
}

#[tokio::test]
async fn questions_share_a_connection_and_no_cookies() {
    let server = Server::start([Act::answer(r#"{"success": true}"#)]).await;
    let hook = PasswordHook::new(&config(&server.url(""), LONG)).unwrap();

    for _ in 0..3 {
        hook.ask(&caller(), &Secret::new(PASSWORD.to_owned())).await.unwrap();
    }

    let seen = server.seen();
    assert!(seen.iter().all(|request| request.connection == 0), "{seen:?}");
    assert!(!seen.iter().flat_map(|request| &request.headers).any(|header| header.starts_with("cookie")));
}

#[tokio::test]
async fn credentials_in_the_address_are_used_and_not_shown() {
    let server = Server::start([Act::status(500)]).await;
    let url = server.url("").replace("://", "://me:SECRET@");
    let config = config(&url, SHORT);

    let error = error(ask_with(&config).await);

    assert!(error.contains("http://***@localhost") && !error.contains("SECRET"), "{error}");
    let hook = PasswordHook::new(&config).unwrap();
    assert!(!format!("{hook:?}").contains("SECRET"));
    assert!(server.seen()[0].headers.iter().any(|header| header == "authorization: basic bwu6u0vdukvu"));
}

#[tokio::test]
async fn tls_is_spoken_with_whom_the_configuration_trusts() {
    let (ours, strange) = (Authority::new("ours"), Authority::new("strange"));
    let server = Server::start_tls([Act::answer(r#"{"success": true}"#)], &ours, false).await;
    let trusting = |authority: &Authority| WebhookConfig {
        cacert: Pem::from(authority.pem()),
        ..config(&server.url(""), LONG)
    };

    assert!(is_accepted(&ask_with(&trusting(&ours)).await));
    for distrusting in [trusting(&strange), config(&server.url(""), LONG)] {
        let error = error(ask_with(&distrusting).await);

        assert!(error.contains("signed by nobody whom `cacert` trusts"), "{error}");
    }
    let other_name = server.url("").replace("localhost", "127.0.0.1");
    let other_name = WebhookConfig { url: other_name.parse().unwrap(), ..trusting(&ours) };
    assert!(error(ask_with(&other_name).await).contains("certificate"));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_service_that_asks_who_we_are_gets_our_certificate() {
    let (ours, strange) = (Authority::new("ours"), Authority::new("strange"));
    let server = Server::start_tls([Act::answer(r#"{"success": true}"#)], &ours, true).await;
    let anonymous = WebhookConfig { cacert: Pem::from(ours.pem()), ..config(&server.url(""), LONG) };
    let signed = |authority: &Authority| {
        let signed = authority.sign();
        WebhookConfig { cert: Pem::from(signed.certificate), key: Pem::from(signed.key), ..anonymous.clone() }
    };

    assert!(is_accepted(&ask_with(&signed(&ours)).await));
    let error_of_none = error(ask_with(&anonymous).await);
    assert!(error_of_none.contains("it wants a certificate of ours"), "{error_of_none}");
    assert!(error(ask_with(&signed(&strange)).await).contains("no TLS"));
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_certificate_that_cannot_be_used_is_found_at_the_start() {
    let broken =
        WebhookConfig { cacert: Pem::from("/nowhere/ca.pem".to_owned()), ..config("https://a", LONG) };

    let error = PasswordHook::new(&broken).expect_err("no certificate").to_string();

    assert!(error.starts_with("`cacert` cannot be used: `/nowhere/ca.pem` cannot be read"), "{error}");
    assert!(matches!(ConfigHook::new(&WebhookConfig::default()), Err(HookError::NoAddress)));
}

#[tokio::test]
async fn the_log_of_a_login_has_the_reason_and_no_password() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
    let logging = tracing::subscriber::set_default(subscriber.finish());
    let server = Server::start([Act::status(500), Act::answer("{\"success\": true}")]).await;

    let outcome = ask(&server, LONG).await;

    drop(logging);
    assert!(is_accepted(&outcome));
    let log = log.text();
    assert!(log.contains("the hook is asked again") && log.contains("HTTP 500"), "{log}");
    assert!(!log.contains(PASSWORD) && !log.contains(PASSWORD_BASE64), "{log}");
}

/// What is logged, for a look at it.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
