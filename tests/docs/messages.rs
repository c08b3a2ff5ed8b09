//! docs/troubleshooting.md: what it quotes is said somewhere in the source, and what users read is on it.

use super::{files_in, top_level};

const PAGE: &str = "docs/troubleshooting.md";

/// In front of a table whose messages are somebody else's.
const NOT_OURS: &str = "<!-- not ours -->";

/// Shorter pieces between two `…` would be found anywhere.
const PIECE_CHARS_MIN: usize = 4;

/// Where the errors are whose text a user reads.
const READ_BY_USERS: [&str; 3] = ["src/session/mod.rs", "src/pool/lease.rs", "src/engine/mod.rs"];

/// Errors there that nobody reads: whoever would has gone.
const READ_BY_NOBODY: [&str; 1] = ["the client closed the channel"];

/// What is explained on pages of their own.
const EXPLAINED_ELSEWHERE: [&str; 5] =
    ["src/audit", "src/control", "src/metrics", "src/recording", "src/telemetry"];

/// All of the source in one text, in which what goes over several lines is one.
fn source() -> String {
    let files = files_in(&top_level("src"), "rs");
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    texts.map(|text| joined(&text)).collect()
}

fn joined(text: &str) -> String {
    let mut pieces = text.split("\\\n");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.trim_start()).replace("\\\"", "\"")
}

/// What stands in code spans in the first column of tables, but for tables that are not ours.
fn quoted(page: &str) -> Vec<String> {
    let (mut skipping, mut messages) = (false, Vec::new());
    for line in page.lines() {
        skipping = match line {
            NOT_OURS => true,
            heading if heading.starts_with('#') => false,
            _ => skipping,
        };
        if let Some(cell) = line.strip_prefix("| ").and_then(|row| row.split(" | ").next())
            && !skipping
        {
            messages.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    messages
}

fn pieces(message: &str) -> impl Iterator<Item = &str> {
    let pieces = message.split('…').map(|piece| piece.trim().trim_matches('`'));
    pieces.filter(|piece| piece.chars().count() >= PIECE_CHARS_MIN)
}

#[test]
fn messages_on_the_page_are_said_by_the_program() {
    let (page, source) = (std::fs::read_to_string(top_level(PAGE)).unwrap(), source());
    let messages = quoted(&page);

    let strange: Vec<_> =
        messages.iter().filter(|message| !pieces(message).all(|piece| source.contains(piece))).collect();

    assert!(strange.is_empty(), "{PAGE} quotes what is not said (any more): {strange:#?}");
    assert!(messages.len() > 100, "only {} messages found", messages.len());
}

/// The fixed words of each `#[error("…")]`: between what is filled in.
fn errors_in(file: &str) -> Vec<Vec<String>> {
    let text = joined(&std::fs::read_to_string(top_level(file)).unwrap());
    let attributes = text.split("#[error(").skip(1);
    let literals = attributes.filter_map(|rest| rest.split('"').nth(1));
    let fixed = |literal: &str| {
        let pieces = literal.split('{').map(|piece| piece.rsplit('}').next().unwrap_or_default());
        let pieces = pieces.map(|piece| piece.trim_matches(['`', ' ', ',', ':']).to_owned());
        pieces.filter(|piece| piece.chars().count() >= PIECE_CHARS_MIN).collect()
    };
    literals.map(fixed).filter(|pieces: &Vec<_>| !pieces.is_empty()).collect()
}

#[test]
fn what_a_user_may_read_is_on_the_page() {
    let page = std::fs::read_to_string(top_level(PAGE)).unwrap();
    let mut missing = Vec::new();
    let mut count = 0;

    for pieces in READ_BY_USERS.into_iter().flat_map(errors_in) {
        count += 1;
        let first = pieces.first().cloned().unwrap_or_default();
        // A page may leave out the end of a long message, and write `…` for a part of it.
        let begins = first.split('`').next().unwrap_or_default().trim();
        if !page.contains(begins) && !READ_BY_NOBODY.contains(&first.as_str()) {
            missing.push(first);
        }
    }

    assert!(missing.is_empty(), "{PAGE} does not explain: {missing:#?}");
    assert!(count > 15, "only {count} errors found");
}

/// The fixed words of what is logged as a warning or an error.
fn warnings_in(text: &str) -> Vec<Vec<String>> {
    let text = joined(text.split("#[cfg(test)]").next().unwrap_or_default());
    let calls =
        ["tracing::warn!(", "tracing::error!("].map(|call| text.split(call).skip(1).collect::<Vec<_>>());
    // The message is the last text of a call, after its fields.
    let messages = calls.iter().flatten().filter_map(|rest| {
        let call = rest.split(");").next().unwrap_or_default();
        call.split('"').skip(1).step_by(2).last().map(str::to_owned)
    });
    let fixed = |message: String| {
        let pieces = message.split('{').map(|piece| piece.rsplit('}').next().unwrap_or_default().trim());
        let pieces =
            pieces.flat_map(|piece| piece.split('`')).map(|piece| piece.trim_matches([' ', ':']).to_owned());
        pieces.filter(|piece| piece.chars().count() >= PIECE_CHARS_MIN).collect()
    };
    messages.map(fixed).filter(|pieces: &Vec<_>| !pieces.is_empty()).collect()
}

#[test]
fn what_the_log_warns_of_is_on_the_page() {
    let page = std::fs::read_to_string(top_level(PAGE)).unwrap();
    let (mut missing, mut count) = (Vec::new(), 0);

    for file in files_in(&top_level("src"), "rs") {
        let elsewhere = EXPLAINED_ELSEWHERE.iter().any(|start| file.starts_with(top_level(start)));
        let is_test = file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs");
        // Files beside a folder of that name belong to it.
        let beside = EXPLAINED_ELSEWHERE.iter().any(|start| file == top_level(&format!("{start}.rs")));
        if elsewhere || is_test || beside {
            continue;
        }
        for pieces in warnings_in(&std::fs::read_to_string(&file).unwrap()) {
            count += 1;
            if !pieces.iter().all(|piece| page.contains(piece.as_str())) {
                missing.push(format!("{}: {}", file.display(), pieces.join(" … ")));
            }
        }
    }

    assert!(missing.is_empty(), "{PAGE} does not explain:\n{}", missing.join("\n"));
    assert!(count > 40, "only {count} warnings found");
}

#[test]
fn messages_are_found_where_they_are_quoted() {
    let page = "| message | it is |\n| --- | --- |\n| `a … b` and `c` | `d` |\n<!-- not ours -->\n| `e` | f |\n## g\n| `h` | i |";

    assert_eq!(quoted(page), ["a … b", "c", "h"]);
    assert_eq!(joined("a \\\n    b\\\"c"), "a b\"c");
    let log = "tracing::warn!(user = \"x\", \"the {what} of `it` fails\"); tracing::info!(\"not this\");";
    assert_eq!(warnings_in(log), [["fails"]]);
}
