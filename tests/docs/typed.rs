//! Every command that a page shows is run by a test, or it says here why it is not.

use super::pages::{blocks, pages};
use super::{files_in, top_level};

/// Pages that `tests/firstrun/pages.rs` follows, which has such a list of its own.
const FOLLOWED: [&str; 2] = ["docs/quickstart.md", "docs/operations.md"];

/// Page, how its commands begin, and which test runs them or the like; else why none does.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("README.md", "coracle serve", "tests/firstrun/beginning.rs"),
    ("README.md", "ssh -p 2222 you@", "tests/firstrun/beginning.rs"),
    ("README.md", "ssh coracle", "tests/it/readme.rs"),
    ("README.md", "echo $?", "tests/it/terminal.rs"),
    ("README.md", "docker ps", "tests/it/names.rs"),
    ("README.md", "tar c .", "tests/it/readme.rs"),
    ("README.md", "sftp -b", "tests/it/readme.rs"),
    ("README.md", "scp index.html", "tests/it/readme.rs"),
    ("README.md", "rsync -av", "tests/it/readme.rs"),
    ("README.md", "export GIT_SSH_COMMAND", "tests/it/readme.rs"),
    ("README.md", "ssh -S", "tests/it/readme.rs"),
    ("README.md", "git push", "tests/it/readme.rs"),
    ("README.md", "ssh -L", "tests/it/forwarding_local.rs"),
    ("README.md", "ssh -R", "tests/it/forwarding_remote.rs"),
    ("README.md", "ssh -A", "tests/it/recipes/git.rs"),
    ("docs/authentication.md", "ssh ", "tests/it/auth.rs"),
    ("docs/authentication.md", "ssh-keygen ", "tests/it/certificates.rs"),
    ("docs/authentication.md", "coracle passwd", "tests/cli.rs"),
    ("docs/authentication.md", "coracle totp", "tests/cli.rs"),
    ("docs/control.md", "sudo coracle", "tests/it/control.rs"),
    (
        "docs/logging.md",
        "journalctl ",
        "there is no journal where tests run; the fields are held by unit tests",
    ),
    ("docs/development.md", "cargo ", "it builds what runs this"),
    ("docs/flow-control.md", "head -c 100M", "tests/it/flow.rs"),
    ("docs/forwarding.md", "ssh -L", "tests/it/forwarding_local.rs"),
    ("docs/forwarding.md", "ssh -J", "tests/it/recipes/bastion.rs"),
    ("docs/forwarding.md", "ssh -R", "tests/it/forwarding_remote.rs"),
    ("docs/forwarding.md", "ssh -A", "tests/it/recipes/git.rs"),
    ("docs/forwarding.md", "ssh -X", "tests/it/forwarding_x11.rs"),
    ("docs/keys-and-certificates.md", "ssh-keygen -t", "tests/it/certificates.rs"),
    ("docs/keys-and-certificates.md", "ssh-keygen -s", "tests/it/certificates.rs"),
    ("docs/keys-and-certificates.md", "ssh-keygen -k", "tests/it/certificates.rs"),
    ("docs/keys-and-certificates.md", "ssh -p", "tests/it/certificates.rs"),
    ("docs/passwords.md", "coracle passwd", "tests/cli.rs"),
    ("docs/passwords.md", "pwgen ", "it makes a password, which anything may"),
    ("docs/passwords.md", "coracle totp", "tests/cli.rs"),
    ("docs/passwords.md", "chown ", "there is no user of that name"),
    ("docs/policy.md", "ssh coracle", "tests/it/policy.rs"),
    ("docs/programs.md", "ssh ", "tests/it/subsystem.rs"),
    ("docs/programs.md", "sftp coracle", "tests/it/subsystem.rs"),
    ("docs/programs.md", "echo $?", "tests/it/images.rs"),
    ("docs/recipes/bastion.md", "docker network create", "tests/it/recipes/bastion.rs"),
    ("docs/recipes/database.md", "docker ", "tests/it/recipes/database.rs"),
    ("docs/recordings.md", "asciinema play", "tests/it/recording/contents.rs"),
    ("docs/recordings.md", "coracle replay", "tests/it/recording/commands.rs"),
    ("docs/recordings.md", "coracle recordings", "tests/it/recording/commands.rs"),
    ("docs/sandbox.md", "coracle doctor", "tests/it/doctor.rs"),
    ("docs/testing.md", "", "it is how this is run"),
];

/// Those of any page.
const EVERYWHERE: &[(&str, &str)] =
    &[("script/", "tests/readme.rs"), ("coracle config check", "tests/cli.rs")];

fn is_accounted_for(page: &str, block: &str, command: &str) -> bool {
    let elsewhere = ELSEWHERE.iter().any(|(name, start, _)| *name == page && command.starts_with(start));
    elsewhere
        || EVERYWHERE.iter().any(|(start, _)| command.starts_with(start))
        || is_followed_as_a_recipe(page, block)
}

/// Whether a test of this recipe types what stands in the block with this name.
fn is_followed_as_a_recipe(page: &str, block: &str) -> bool {
    let Some(recipe) = page.strip_prefix("docs/recipes/").and_then(|page| page.strip_suffix(".md")) else {
        return false;
    };
    let name = block.strip_prefix("console ").unwrap_or_default();
    let (reads, types) = (format!("Recipe::read(\"{recipe}\")"), format!("commands(\"{name}\")"));
    files_in(&top_level("tests/it/recipes"), "rs").iter().any(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        text.contains(&reads) && text.contains(&types)
    })
}

#[test]
fn every_command_on_a_page_is_run_by_a_test_or_says_why_not() {
    let (mut unknown, mut count) = (Vec::new(), 0);

    for (page, text) in pages().into_iter().filter(|(page, _)| !FOLLOWED.contains(&page.as_str())) {
        for (block, lines) in blocks(&text).into_iter().filter(|(kind, _)| kind.starts_with("console")) {
            for command in lines.lines().filter_map(|line| line.strip_prefix("$ ")) {
                count += 1;
                if !is_accounted_for(&page, &block, command) {
                    unknown.push(format!("{page}: {command}"));
                }
            }
        }
    }

    assert!(unknown.is_empty(), "which test runs this? See tests/docs/typed.rs:\n{}", unknown.join("\n"));
    assert!(count > 60, "only {count} commands found");
}

#[test]
fn tests_that_are_said_to_run_commands_exist_and_no_entry_is_left_over() {
    let all = pages();
    let mut wrong = Vec::new();

    for (page, start, who) in ELSEWHERE {
        if who.starts_with("tests/") && !top_level(who).exists() {
            wrong.push(format!("{page}, {start}: there is no {who}"));
        }
        let text = all.iter().find(|(name, _)| name == page).map(|(_, text)| text.as_str());
        if !text.unwrap_or_default().contains(&format!("$ {start}")) {
            wrong.push(format!("{page} has no command that begins with `{start}`"));
        }
    }

    assert!(wrong.is_empty(), "{wrong:#?}");
}
