//! docs/recipes/jetbrains.md: a replay of what Gateway does, by asyncssh on one connection, and a stub for its backend.

use std::time::Duration;

use super::{Recipe, serve, stop};
use crate::harness::{Sshd, Target, python};

async fn gateway_reaches_its_backend(target: &Target) {
    let output = python(target, "jetbrains.py", &[]).timeout(Duration::from_secs(90)).output().await;

    let stages = "probed\nuploaded\nworker ran\nbackend started\nprobed\ntalked\nended\n";
    output.assert_success().assert_stdout(stages);
}

/// F9
#[tokio::test]
async fn gateway_installs_its_backend_and_reaches_it() {
    let server = serve(&Recipe::read("jetbrains")).await;
    gateway_reaches_its_backend(&server).await;
    stop(server).await;
}

/// F9
#[tokio::test]
async fn gateway_installs_its_backend_and_reaches_it_at_the_oracle() {
    let sshd = Sshd::start_at_workbench(&[]).await;
    gateway_reaches_its_backend(&sshd).await;
    sshd.stop().await;
}
