//! The recipes of docs/recipes, followed to the letter: configuration and commands are read from the pages.
//!
//! Where the tool can be had it is the real one; where not (editors), what it does is replayed, and the page says from
//! which source that is known.

mod ansible;
mod bastion;
mod browser;
mod ci_runner;
mod database;
mod git;
mod honeypot;
mod jetbrains;
mod lab;
mod sshfs;
mod vscode;

use crate::harness::{Recipe, TestServer, WORKBENCH, docker};

/// A server as the recipe has it.
async fn serve(recipe: &Recipe) -> TestServer {
    TestServer::builder().image(WORKBENCH).recipe(recipe).start().await
}

/// Ends a test whose containers outlive their connections.
async fn stop(server: TestServer) {
    for container in server.containers().await {
        docker(&["rm", "-fv", &container]).await;
    }
    server.stop().await;
}
