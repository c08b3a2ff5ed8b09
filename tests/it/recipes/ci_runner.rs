//! docs/recipes/ci-runner.md, by a job that passes and one that does not.

use std::time::Duration;

use super::Recipe;
use crate::harness::{Desk, TestServer};

/// For what waits, or is on its way, to be gone.
const SOON: Duration = Duration::from_secs(20);

/// A server as the page has it, whose one key is the client's, with the options of the page.
async fn serve(recipe: &Recipe) -> TestServer {
    let server = TestServer::builder().recipe(recipe).start().await;
    let key = std::fs::read_to_string(server.path("client.pub")).unwrap();
    let line = recipe.block("authorized_keys").replace("ssh-ed25519 AAAA… ci", key.trim());
    std::fs::write(server.path("authorized_keys"), line).unwrap();
    server
}

fn check_out(desk: &Desk<'_>, check: &str) {
    std::fs::create_dir_all(desk.path("checkout")).unwrap();
    desk.write("checkout/check.sh", check);
}

/// Containers wait here, so that the server's end is theirs.
async fn end(mut server: TestServer) {
    server.terminate();
    server.assert_ends_within(SOON).await;
}

#[tokio::test]
async fn a_job_sends_its_checkout_and_gets_its_report_and_status() {
    let recipe = Recipe::read("ci-runner").with("10.0.0.0/8", "127.0.0.0/8");
    let server = serve(&recipe).await;
    let desk = server.desk("");
    desk.write("job.sh", recipe.block("job.sh"));

    check_out(&desk, "echo checked; echo '<ok/>' >report.xml\n");
    let good = desk.run(&recipe.commands("run")).output().await;
    let report = std::fs::read_to_string(desk.path("report.xml")).unwrap();
    check_out(&desk, "test ! -e report.xml || exit 9; echo '<bad/>' >report.xml; echo why >&2; exit 3\n");
    let bad = desk.run(&recipe.commands("run")).output().await;
    let after = std::fs::read_to_string(desk.path("report.xml")).unwrap();

    good.assert_success().assert_stdout("checked\n");
    assert_eq!(report, "<ok/>\n");
    assert!(bad.assert_code(3).stderr().contains("why"), "{}", bad.report());
    assert_eq!(after, "<bad/>\n");
    end(server).await;
}

#[tokio::test]
async fn a_job_may_be_one_command_and_may_do_no_more_than_a_job() {
    let recipe = Recipe::read("ci-runner").with("10.0.0.0/8", "127.0.0.0/8");
    let server = serve(&recipe).await;
    let desk = server.desk("");

    check_out(&desk, "echo '<ok/>' >report.xml\n");
    desk.run(&recipe.commands("once")).output().await.assert_success();
    let terminal = desk.run("ssh -o LogLevel=INFO -tt ci@coracle true </dev/null").output().await;
    let forward = desk.run("ssh -o LogLevel=INFO -W 127.0.0.1:1 ci@coracle </dev/null").output().await;

    assert_eq!(std::fs::read_to_string(desk.path("report.xml")).unwrap(), "<ok/>\n");
    assert!(terminal.stderr().contains("PTY allocation request failed"), "{}", terminal.report());
    assert!(forward.stderr().contains("administratively prohibited"), "{}", forward.report());
    end(server).await;
}
