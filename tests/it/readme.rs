//! The commands of README.md, typed as they stand there at a desk that has what they speak of.

use crate::harness::{Desk, Sshd, Target, TestServer};

/// What is typed in the block of a console whose first command begins so.
fn typed(start: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let scripts = blocks.map(|block| {
        let lines = block.lines().filter_map(|line| line.strip_prefix("$ "));
        lines.fold(String::new(), |script, line| script + line + "\n")
    });
    let found = scripts.into_iter().find(|script| script.starts_with(start));
    found.unwrap_or_else(|| panic!("README.md has no block that begins with `{start}`"))
}

/// A folder with a small site in it, where the commands are typed.
fn furnished(target: &Target) -> Desk<'_> {
    let desk = target.desk("");
    std::fs::create_dir_all(desk.path("site/css")).unwrap();
    std::fs::create_dir_all(desk.path(".ssh")).unwrap();
    desk.write("site/index.html", "<p>It works\n");
    desk.write("site/css/site.css", "p { color: teal }\n");
    desk
}

async fn commands_and_copies_work_as_shown(target: &Target) {
    let desk = furnished(target);

    let commands = desk
        .run(&format!("cd site\nset +e\n{}", typed("ssh coracle 'cat /etc/debian_version")))
        .output()
        .await;
    let files = "printf 'put index.html\\nls -l\\nget index.html copy.html\\n' >batch";
    let copies =
        desk.run(&format!("cd site\n{files}\n{}cmp index.html copy.html", typed("sftp "))).output().await;
    let synced = desk.run(&format!("cd site\n{}", typed("rsync "))).output().await;

    let said = commands.assert_success().stdout();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[1], "3", "{said}");
    assert_eq!(lines.last(), Some(&"2"), "{said}");
    assert!(copies.assert_success().stdout().contains("index.html"), "{}", copies.report());
    assert!(synced.assert_success().stdout().contains("css/site.css"), "{}", synced.report());
}

async fn a_repository_is_pushed_as_shown(target: &Target) {
    let desk = furnished(target);
    let who = "git config user.name you && git config user.email you@example.org";
    let begin = format!("cd site\ngit init -q -b main && {who} && git add . && git commit -qm first\n");
    let keep_open = "ssh -fNM -S ~/.ssh/c coracle\n";
    let hang_up = "ssh -S ~/.ssh/c -O exit coracle 2>/dev/null\n";

    let pushed =
        desk.run(&format!("{begin}{keep_open}{}{hang_up}", typed("export GIT_SSH_COMMAND"))).output().await;

    assert!(pushed.assert_success().stdout().trim_end().ends_with(" first"), "{}", pushed.report());
}

#[tokio::test]
async fn what_the_readme_shows_works_as_it_stands() {
    let server = TestServer::start().await;

    commands_and_copies_work_as_shown(&server).await;
    a_repository_is_pushed_as_shown(&server).await;

    // The second connection has a container of its own.
    let fresh = server.desk("").run("ssh coracle 'touch everything; ls'\nssh coracle ls\n").output().await;
    fresh.assert_success().assert_stdout("everything\n");
    server.stop().await;
}

#[tokio::test]
async fn what_the_readme_shows_works_at_the_oracle() {
    let sshd = Sshd::start().await;

    commands_and_copies_work_as_shown(&sshd).await;
    a_repository_is_pushed_as_shown(&sshd).await;

    sshd.stop().await;
}
