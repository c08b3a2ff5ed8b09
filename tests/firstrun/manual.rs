//! Manual pages and completions name what there is.

use std::process::{Command, Stdio};

use clap::CommandFactory;
use coracle::cli::Cli;

use crate::harness::{Home, assert_succeeds, text};

/// Each command that people see, with the name of its page: `coracle-config-check`.
fn commands() -> Vec<(String, clap::Command)> {
    fn walk(page: &str, command: &clap::Command, found: &mut Vec<(String, clap::Command)>) {
        found.push((page.to_owned(), command.clone()));
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            walk(&format!("{page}-{}", below.get_name()), below, found);
        }
    }
    let mut found = Vec::new();
    walk("coracle", &Cli::command(), &mut found);
    found
}

#[test]
fn the_pages_name_every_command_and_every_option() {
    let home = Home::new();

    assert_succeeds(&home.run(&["man", "pages"]));

    let commands = commands();
    assert!(commands.iter().any(|(page, _)| page == "coracle-config-check"), "{commands:?}");
    for (page, command) in &commands {
        let file = home.path("pages").join(format!("{page}.1"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{page}: {error}"));
        // Roff's hyphens.
        let text = text.replace("\\-", "-");
        for option in command.get_arguments() {
            let named = option.get_long().map_or_else(
                || option.get_value_names().map_or_else(String::new, |names| names[0].to_string()),
                |long| format!("--{long}"),
            );
            assert!(text.contains(&named), "{page}.1 does not name {named}");
        }
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            assert!(text.contains(below.get_name()), "{page}.1 does not name {}", below.get_name());
        }
    }
}

#[test]
fn the_page_without_a_folder_is_the_programs_own() {
    let home = Home::new();

    let output = home.run(&["man"]);

    assert_succeeds(&output);
    let page = text(&output.stdout);
    assert!(page.contains(".TH coracle 1") && page.contains("coracle\\-serve(1)"), "{page}");
}

#[test]
fn shells_complete_what_there_is() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = home.run(&["completions", shell]);
        assert_succeeds(&output);
        let script = text(&output.stdout);
        assert!(script.contains("config") && script.contains("github-keys"), "{shell}: {script}");
    }
    assert_eq!(home.run(&["completions", "dos"]).status.code(), Some(64));

    // As bash does when somebody types `coracle hostkey g` and the tab key.
    let asked = "source /dev/stdin; COMP_WORDS=(coracle hostkey g); COMP_CWORD=2; _coracle coracle g hostkey; \
                 echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash")
        .args(["-c", asked])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), &home.run(&["completions", "bash"]).stdout)
        .unwrap();
    assert_eq!(text(&bash.wait_with_output().unwrap().stdout).trim(), "generate");
}
