//! docs/recipes/browser.md, with the real code-server; curl is the browser.

use std::path::Path;
use std::time::Duration;

use super::Recipe;
use crate::harness::{TestServer, free_port, poll_until, scaled};

/// On a busy machine it takes its time to start.
const START: Duration = Duration::from_mins(2);
/// A browser's first WebSocket (RFC 6455 §1.2). curl waits for more, so it is told when to stop.
const WEB_SOCKET: &str = "curl -sS -i -N -m 5 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
                          -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='";

/// F9. At full size only: the editor is half a gigabyte, which `script/bootstrap` then has fetched.
#[tokio::test]
async fn an_editor_in_the_container_is_shown_by_a_browser() {
    if !scaled(false, true) {
        return;
    }
    let program = Path::new(env!("CARGO_BIN_EXE_coracle"));
    let editor = program.ancestors().nth(2).unwrap().join("code-server");
    let port = free_port();
    let recipe = Recipe::read("browser");
    let recipe = recipe.with("\"/opt/code-server:", format!("\"{}:", editor.display()));
    let recipe = recipe.with("-L 8080:", format!("-L {port}:"));
    let server = TestServer::builder().recipe(&recipe).start().await;
    let desk = server.desk("");

    let mut ssh = desk.run(&format!("exec {}", recipe.commands("tunnel"))).spawn();
    ssh.wait_for("HTTP server listening").await;
    let page = poll_until("the editor's page", START, async || {
        let page =
            desk.run(&format!("curl -sS -f -L http://127.0.0.1:{port}/ || true")).output().await.stdout();
        page.contains("workbench.js").then_some(page)
    })
    .await;
    let (_, script) = page.split_once("src=\"stable-").expect("a script of the editor");
    let script = script.split('"').next().unwrap();
    let script =
        desk.run(&format!("curl -sS -f 'http://127.0.0.1:{port}/stable-{script}' | wc -c")).output().await;
    let socket = desk
        .run(&format!("{WEB_SOCKET} 'http://127.0.0.1:{port}/?reconnection=false' || true"))
        .output()
        .await;

    let length: usize = script.assert_success().stdout().trim().parse().unwrap();
    assert!(length > 10_000, "{length} bytes of script");
    assert!(socket.stdout().starts_with("HTTP/1.1 101 "), "{}", socket.report());
    drop(ssh);
    server.stop().await;
}
