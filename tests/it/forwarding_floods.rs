//! Clients that ask for more forwards than they may have, or answer in ways that OpenSSH's does not: the connection
//! lives, nobody else notices, nothing is left (F5, F10, T7).

use std::time::Duration;

use crate::harness::{TINY, TestServer, python, resident_bytes};

const PATIENCE: Duration = Duration::from_mins(2);

/// What a server may have more in memory afterwards.
const GROWTH_MAX: usize = 96 << 20;

const EVERYTHING: &str =
    "policy: {forwarding: {local: enable, remote: enable, socket: enable, agent: enable, x11: enable}}";

async fn hears(case: &str, expected: &str, image: Option<&str>) {
    let builder = TestServer::builder().section(EVERYTHING);
    let server = if let Some(image) = image { builder.image(image) } else { builder }.start().await;
    let before = resident_bytes(server.pid());

    let client = python(&server, "forward_floods.py", &[case]).timeout(PATIENCE).output();
    let other = server.ssh(&["echo fine"]).output();
    let (client, other) = tokio::join!(client, other);

    client.assert_success().assert_stdout(expected);
    other.assert_success().assert_stdout("fine\n");
    let after = resident_bytes(server.pid());
    assert!(after.saturating_sub(before) < GROWTH_MAX, "from {before} to {after} bytes");
    // Fails where a container is left.
    server.stop().await;
}

/// T7
#[tokio::test]
async fn three_thousand_dials_are_answered_and_programs_still_start() {
    hears("dials", "3000 [2, 4]\n2 2\nworks\n", Some(TINY)).await;
}

/// F5
#[tokio::test]
async fn dials_that_nobody_answers_are_bounded_and_hold_nobody_up() {
    hears("holes", "works\n44 {4}\n", None).await;
}

/// T7
#[tokio::test]
async fn listeners_are_bounded_and_one_that_is_cancelled_makes_room() {
    hears("listeners", "False\n32 32\n0 True False\nTrue 0\nworks\n", Some(TINY)).await;
}

/// F2
#[tokio::test]
async fn callers_whom_the_client_refuses_are_closed_and_nothing_else_is() {
    hears("refused_callers", "closed\nworks\n", Some(TINY)).await;
}

/// F2
#[tokio::test]
async fn a_client_that_answers_for_no_caller_is_asked_about_a_few() {
    hears("silent", "works\n16\n", Some(TINY)).await;
}

/// F2
#[tokio::test]
async fn answers_that_were_not_asked_for_or_come_twice_harm_nobody() {
    hears("odd_answers", "30 1\nworks\n", Some(TINY)).await;
}

/// F6, F7
#[tokio::test]
async fn doors_are_granted_once_and_before_the_program() {
    let expected = "[True, True, False, False, True, False]\nlocalhost:10.2\nTrue\nworks\n";
    hears("requests", expected, Some(TINY)).await;
}
