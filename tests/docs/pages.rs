//! What pages show can be typed: commands are those of the command line, configurations are valid, and every page is found
//! from the index.

use clap::Parser;
use clap::error::ErrorKind;
use coracle::cli::Cli;
use coracle::config;

use super::{files_in, keys, top_level};

/// In place of keys and hashes that pages cut short.
const STAND_INS: [(&str, &str); 3] = [
    ("AAAA…", "AAAAC3NzaC1lZDI1NTE5AAAAIOfDGk9gGFMLqYJE4R+hXGpGqQ5rj2Fq0V1rk0xDbq5o"),
    (
        "$argon2id$…",
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l$T2sPKc1Zz5nSHCyGmzHJQUzvJD1YV0HeXl2kH9C5Oe0",
    ),
    ("c2FsdA$…", "c2FsdA$T2sPKc1Zz5nSHCyGmzHJQUzvJD1YV0HeXl2kH9C5Oe0"),
];

/// What a part of a configuration takes for granted that is elsewhere on its page.
const AROUND: &str = "{profiles: {python: {}, node: {}}, auth: {groups: {admins: {}, lab: {}}}}";

/// Pages with a text that is ours: of docs/ and of the top level, but for what is history.
pub(super) fn pages() -> Vec<(String, String)> {
    let mut files = files_in(&top_level("docs"), "md");
    files.extend(["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md"].map(top_level));
    let name = |file: &std::path::Path| file.strip_prefix(top_level("")).unwrap().display().to_string();
    let pages = files.iter().map(|file| (name(file), std::fs::read_to_string(file).unwrap()));
    pages.filter(|(name, _)| !name.starts_with("docs/decisions/")).collect()
}

/// Fenced blocks: what follows the fence, and the lines in it.
pub(super) fn blocks(page: &str) -> Vec<(String, String)> {
    let mut lines = page.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            let inside: Vec<_> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
            blocks.push((kind.to_owned(), inside.join("\n") + "\n"));
        }
    }
    blocks
}

/// `coracle …` as far as it is one command.
fn commands_in_blocks(page: &str) -> Vec<String> {
    let shells = blocks(page).into_iter().filter(|(kind, _)| kind.is_empty() || kind.starts_with("console"));
    let lines = shells.flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>());
    let commands = lines.filter_map(|line| {
        let line = line.trim_start_matches("$ ").trim_start_matches("sudo ");
        let at = if line.starts_with("coracle ") { 0 } else { line.find("| coracle ")? + 2 };
        let command = line.get(at..)?.split(['|', '>', '<', ';', '&', '#']).next()?;
        Some(command.trim().to_owned())
    });
    commands.collect()
}

/// The same in running text, between backticks.
fn commands_in_text(page: &str) -> Vec<String> {
    let mut outside = String::new();
    let mut is_inside = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_inside = !is_inside;
        } else if !is_inside {
            outside += line;
            outside.push(' ');
        }
    }
    let spans = outside.split('`').skip(1).step_by(2);
    let commands = spans.filter(|span| span.starts_with("coracle "));
    commands.map(|span| span.split(['|', '>', '<']).next().unwrap_or_default().trim().to_owned()).collect()
}

/// As a shell takes them apart, where nothing is to be filled in.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for letter in command.chars() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => quote = Some(letter),
            (' ', None) => words.push(String::new()),
            (letter, _) => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What is wrong with a command line; `None` if it could be typed. Nothing is run.
fn fault(command: &str) -> Option<ErrorKind> {
    Cli::try_parse_from(words(command)).err().map(|error| error.kind())
}

#[test]
fn commands_that_pages_show_are_commands() {
    let (mut wrong, mut count) = (Vec::new(), 0);

    for (name, page) in pages() {
        for command in commands_in_blocks(&page) {
            count += 1;
            if let Some(kind) = fault(&command) {
                wrong.push(format!("{name}: {command}: {kind}"));
            }
        }
        for command in commands_in_text(&page) {
            count += 1;
            // In a sentence a command may be named without all that it needs.
            let unfinished = |kind: &ErrorKind| {
                let needs_more =
                    [ErrorKind::MissingRequiredArgument, ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand]
                        .contains(kind);
                let ends_in_option =
                    command.split(' ').next_back().is_some_and(|word| word.starts_with("--"));
                needs_more || *kind == ErrorKind::InvalidValue && ends_in_option
            };
            if let Some(kind) = fault(&command).filter(|kind| !unfinished(kind)) {
                wrong.push(format!("{name}: `{command}`: {kind}"));
            }
        }
    }

    assert!(wrong.is_empty(), "no such commands:\n{}", wrong.join("\n"));
    assert!(count > 60, "only {count} commands found");
}

fn within_what_is_around(text: &str) -> String {
    let parse = |text| serde_saphyr::from_str::<serde_json::Value>(text).unwrap();
    let mut whole = parse(text);
    fill_in(&mut whole, &parse(AROUND));
    whole.to_string()
}

fn fill_in(value: &mut serde_json::Value, with: &serde_json::Value) {
    if let (Some(there), Some(with)) = (value.as_object_mut(), with.as_object()) {
        for (key, with) in with {
            fill_in(there.entry(key).or_insert_with(|| with.clone()), with);
        }
    }
}

#[test]
fn configurations_that_pages_show_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let (mut wrong, mut count) = (Vec::new(), 0);

    for (name, page) in pages() {
        for (kind, text) in blocks(&page) {
            // One with another name than ours is another program's.
            if !["yaml", "yaml config.yaml"].contains(&kind.as_str()) {
                continue;
            }
            let text = STAND_INS.iter().fold(text, |text, (shown, real)| text.replace(shown, real));
            let file = folder.path().join("config.yaml");
            let load = |text: &str| {
                std::fs::write(&file, text).unwrap();
                config::load(&file)
            };
            count += 1;
            if let Err(error) = load(&text)
                && load(&within_what_is_around(&text)).is_err()
            {
                wrong.push(format!("{name}: {error}\n{text}"));
            }
        }
    }

    assert!(wrong.is_empty(), "not valid:\n{}", wrong.join("\n"));
    assert!(count > 30, "only {count} configurations found");
}

#[test]
fn keys_of_ours_that_others_are_moved_to_exist() {
    let page = std::fs::read_to_string(top_level("docs/moving-from-containerssh.md")).unwrap();
    let known = keys(&serde_json::to_value(config::Config::default()).unwrap());
    let (mut wrong, mut count) = (Vec::new(), 0);

    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let here = row.split(" | ").nth(1).unwrap_or_default();
        for key in here.split('`').skip(1).step_by(2).filter(|span| span.contains('.')) {
            count += 1;
            let key = key.strip_prefix("config.").unwrap_or(key).to_ascii_lowercase();
            if !known.contains(&format!(".{key}")) {
                wrong.push(key);
            }
        }
    }

    assert!(wrong.is_empty(), "no such keys: {wrong:?}");
    assert!(count > 40, "only {count} keys found");
}

/// What a heading is linked by, as GitHub makes it.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_to_headings_that_are_there() {
    let mut wrong = Vec::new();

    for (name, page) in pages() {
        let folder = top_level(&name).parent().unwrap().to_owned();
        for target in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((file, heading)) = target.split_once('#').filter(|_| !target.contains("://")) else {
                continue;
            };
            let there = if file.is_empty() { top_level(&name) } else { folder.join(file) };
            let text = std::fs::read_to_string(there).unwrap_or_default();
            if !anchors(&text).iter().any(|anchor| anchor == heading) {
                wrong.push(format!("{name}: {target}"));
            }
        }
    }

    assert!(wrong.is_empty(), "links to headings that are not there:\n{}", wrong.join("\n"));
}

#[test]
fn every_page_is_in_the_index() {
    let index = std::fs::read_to_string(top_level("docs/README.md")).unwrap();
    let mut missing = Vec::new();

    for file in files_in(&top_level("docs"), "md") {
        let name = file.strip_prefix(top_level("docs")).unwrap().display().to_string();
        if name != "README.md" && !index.contains(&format!("]({name})")) {
            missing.push(name);
        }
    }

    assert!(missing.is_empty(), "docs/README.md does not lead to {missing:?}");
}

#[test]
fn commands_are_found_where_they_are_written() {
    let page = "run `coracle doctor` or `coracle/guest`\n```console\n$ cat x | coracle init a --keys - > y\n$ ls\n```\n";

    assert_eq!(commands_in_blocks(page), ["coracle init a --keys -"]);
    assert_eq!(commands_in_text(page), ["coracle doctor"]);
    assert!(fault("coracle doctor").is_none() && fault("coracle doctr").is_some());
}
