//! docs/recipes/honeypot.md, by somebody with a list of passwords.

use super::Recipe;
use crate::harness::{TestServer, free_port};

#[tokio::test]
async fn everybody_comes_in_and_reaches_nothing() {
    let port = free_port();
    let recipe = Recipe::read("honeypot")
        .with("\"http://127.0.0.1:8080\"", format!("\"http://127.0.0.1:{port}\""))
        .with("\"127.0.0.1\", 8080", format!("\"127.0.0.1\", {port}"));
    let server = TestServer::builder().recipe(&recipe).start().await;
    let desk = server.desk("");
    desk.write("yes.py", recipe.block("yes.py"));
    let mut service = desk.run(&format!("exec {}", recipe.commands("service"))).spawn();
    crate::harness::poll_until("the service", std::time::Duration::from_secs(30), async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
    desk.write("askpass", "#!/bin/sh\necho 123456\n");
    // A person with a password, where the tests' clients have keys and ask nobody.
    let by_password =
        "chmod +x askpass\nssh() { command ssh -o BatchMode=no -o PubkeyAuthentication=no \"$@\"; }\n";

    let guest = desk
        .run(&format!("{by_password}{}", recipe.commands("try")))
        .env("SSH_ASKPASS", desk.path("askpass"))
        .env("SSH_ASKPASS_REQUIRE", "force")
        .output()
        .await;
    let said = service.wait_for("123456").await;
    let harm = server
        .ssh_with_password(
            "admin",
            "hunter2",
            &["touch /etc/x || mount -t tmpfs x /mnt || echo nothing; grep CapEff /proc/self/status"],
        )
        .output()
        .await;

    // Two lines of headings, and the loopback.
    guest.assert_success().assert_stdout("root\nweb01\n3\n");
    assert!(said.contains("'root'"), "{said}");
    assert!(
        harm.assert_success().stdout().starts_with("nothing\nCapEff:\t0000000000000000"),
        "{}",
        harm.report()
    );
    drop(service);
    server.stop().await;
}
