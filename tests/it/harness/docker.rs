//! The engine's own command line, for what a test must see or prepare behind the server's back.

use std::process::Command;

/// Runs `docker ARGS` and gives its trimmed output; fails when docker fails.
pub(crate) async fn docker(args: &[&str]) -> String {
    try_docker(args).await.unwrap_or_else(|error| panic!("`docker {}`: {error}", args.join(" ")))
}

/// The same, where failing is an answer.
pub(crate) async fn try_docker(args: &[&str]) -> Result<String, String> {
    let output = tokio::process::Command::new("docker")
        .args(args)
        .output()
        .await
        .map_err(|error| error.to_string())?;
    outcome(&output)
}

/// For `Drop`, which cannot wait any other way.
pub(crate) fn docker_blocking(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(args).output().map_err(|error| error.to_string())?;
    outcome(&output)
}

fn outcome(output: &std::process::Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
