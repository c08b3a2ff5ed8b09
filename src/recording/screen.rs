//! What terminals are sent, without what they are told to do (ECMA-48, and what xterm made of it).

/// Parameters of a control sequence that are looked at, in bytes. A longer one is dropped whole.
const PARAMETERS_BYTES_MAX: usize = 64;

/// Private modes that change the screen and nothing else.
const MODES_HARMLESS: &[&str] = &["1", "3", "5", "6", "7", "12", "25", "47", "1047", "1048", "1049", "2026"];

/// What is to be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Text alone, in lines.
    Text,
    /// Text, colours and where it stands. Not what makes a terminal answer, or reaches beyond its screen: clipboard, title,
    /// mouse, device control.
    Drawing,
}

/// Takes out the rest. Sequences may be cut anywhere between two calls.
#[derive(Debug)]
pub struct Filter {
    keep: Keep,
    state: State,
    sequence: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ground,
    /// After ESC, and what may stand between it and a sequence's end.
    Escape,
    Control,
    /// Up to its terminator: for the operating system, the device, an application.
    Text,
    TextEscape,
}

impl Filter {
    /// At the beginning of a recording.
    #[must_use]
    pub fn new(keep: Keep) -> Self {
        Self { keep, state: State::Ground, sequence: String::new() }
    }

    /// Adds to `out` what is left of `text`.
    pub fn pass(&mut self, text: &str, out: &mut String) {
        for letter in text.chars() {
            self.take(letter, out);
        }
    }

    fn take(&mut self, letter: char, out: &mut String) {
        match (self.state, letter) {
            // Whatever went before, these begin anew or call off.
            (State::Ground | State::Escape | State::Control, '\u{1b}') => self.begin(State::Escape, "\u{1b}"),
            (State::Text, '\u{1b}') => self.state = State::TextEscape,
            (_, '\u{18}' | '\u{1a}') | (State::Text, '\u{7}' | '\u{9c}') | (State::TextEscape, '\\') => {
                self.state = State::Ground;
            }
            (State::Text, _) => {}
            (State::TextEscape, _) => {
                // No terminator after all: it was the beginning of another sequence.
                self.begin(State::Escape, "\u{1b}");
                self.take(letter, out);
            }
            (State::Escape, '[') if self.sequence.len() == 1 => self.begin(State::Control, "\u{1b}["),
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') if self.sequence.len() == 1 => {
                self.state = State::Text;
            }
            (State::Escape, ' '..='/') | (State::Control, ' '..='?') => self.remember(letter),
            (State::Escape, '0'..='~') => {
                self.remember(letter);
                self.end(self.is_escape_harmless(), out);
            }
            (State::Control, '@'..='~') => {
                self.remember(letter);
                self.end(self.is_control_harmless(letter), out);
            }
            // Terminals obey these in the middle of a sequence.
            (State::Ground | State::Escape | State::Control, letter) => self.plain(letter, out),
        }
    }

    fn begin(&mut self, state: State, with: &str) {
        self.state = state;
        self.sequence.clear();
        self.sequence.push_str(with);
    }

    fn remember(&mut self, letter: char) {
        // One more than is looked at: that it was too long is seen at its end.
        if self.sequence.len() <= PARAMETERS_BYTES_MAX {
            self.sequence.push(letter);
        }
    }

    fn end(&mut self, harmless: bool, out: &mut String) {
        if self.keep == Keep::Drawing && harmless && self.sequence.len() <= PARAMETERS_BYTES_MAX {
            out.push_str(&self.sequence);
        }
        self.state = State::Ground;
    }

    fn plain(&mut self, letter: char, out: &mut String) {
        match letter {
            '\u{9b}' => self.begin(State::Control, "\u{1b}["),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => self.state = State::Text,
            '\n' | '\t' => out.push(letter),
            '\u{8}' if self.keep == Keep::Text => {
                // A line's beginning stops it, as it stops a cursor.
                if out.chars().next_back().is_some_and(|last| last != '\n') {
                    out.pop();
                }
            }
            '\r' if self.keep == Keep::Text => out.push('\n'),
            '\r' | '\u{7}' | '\u{8}' | '\u{e}' | '\u{f}' if self.keep == Keep::Drawing => out.push(letter),
            letter if letter.is_control() => {}
            letter => out.push(letter),
        }
    }

    /// Cursor saved and restored, lines moved, character sets, keypad, reset.
    fn is_escape_harmless(&self) -> bool {
        let rest = self.sequence.strip_prefix('\u{1b}').unwrap_or_default();
        matches!(rest, "7" | "8" | "D" | "E" | "H" | "M" | "=" | ">" | "c")
            || matches!(rest.as_bytes(), [b'(' | b')', b'0' | b'A' | b'B'])
    }

    /// Cursor, erasing, scrolling, attributes, tabs, and modes that are harmless.
    fn is_control_harmless(&self, last: char) -> bool {
        let parameters = self.sequence.strip_prefix("\u{1b}[").unwrap_or_default();
        let parameters = parameters.strip_suffix(last).unwrap_or_default();
        let is_plain = parameters.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'));
        match (last, parameters.strip_prefix('?')) {
            ('h' | 'l', Some(modes)) => modes.split(';').all(|mode| MODES_HARMLESS.contains(&mode)),
            ('J' | 'K', Some(what)) => what.bytes().all(|byte| byte.is_ascii_digit()),
            ('h' | 'l', None) => parameters == "4",
            (
                '@'
                | 'A'..='M'
                | 'P'
                | 'S'
                | 'T'
                | 'X'
                | 'Z'
                | '`'
                | 'a'
                | 'b'
                | 'd'..='g'
                | 'm'
                | 'r'
                | 's'
                | 'u',
                None,
            ) => is_plain,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filtered(keep: Keep, text: &str) -> String {
        let (mut filter, mut out) = (Filter::new(keep), String::new());
        filter.pass(text, &mut out);
        out
    }

    #[test]
    fn text_is_left_of_a_coloured_prompt_with_a_title() {
        let prompt = "\x1b]0;title\x07\x1b[01;32malice\x1b[00m:\x1b[?2004h$ lx\x08s\r\nfile\r\n";

        assert_eq!(filtered(Keep::Text, prompt), "alice:$ ls\n\nfile\n\n");
    }

    #[test]
    fn drawing_is_kept_and_what_reaches_beyond_the_screen_is_not() {
        let harmless = "\x1b[2J\x1b[1;1H\x1b[38;5;1mred\x1b[0m\x1b[?25l\x1b[?1049h\x1b(0q\x1b(B\x1b7\r\n";
        assert_eq!(filtered(Keep::Drawing, harmless), harmless);
        for dangerous in [
            "\x1b]52;c;cm0gLXJmIH4=\x07",
            "\x1b]0;title\x1b\\",
            "\x1bP$q\"p\x1b\\",
            "\x1b[6n",
            "\x1b[c",
            "\x1b[>c",
            "\x1b[21t",
            "\x1b[?1003h",
            "\x1b[?25;1003h",
            "\x1b[>4;1m",
            "\x1b_apc\x1b\\",
            "\x1b^pm\x1b\\",
            "\u{9d}52;c;x\u{9c}",
            "\u{9b}6n",
            "\x05",
            "\x1b[?25$p",
        ] {
            assert_eq!(filtered(Keep::Drawing, dangerous), "", "{dangerous:?}");
        }
    }

    #[test]
    fn a_sequence_without_an_end_and_one_that_is_too_long_are_dropped() {
        assert_eq!(filtered(Keep::Drawing, &format!("a\x1b[{}mb", "1;".repeat(100))), "ab");
        assert_eq!(filtered(Keep::Drawing, "a\x1b]0;for ever"), "a");
        assert_eq!(filtered(Keep::Drawing, "\x1b]0;x\x1b[6nb"), "b");
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_is_left(text in "[\\x1b\\[\\]?;0-9a-zPn\\\\\\x07é]{0,40}", at in 0..40_usize) {
            let whole = filtered(Keep::Drawing, &text);
            let at = text.floor_char_boundary(at);
            let (mut filter, mut out) = (Filter::new(Keep::Drawing), String::new());

            filter.pass(&text[..at], &mut out);
            filter.pass(&text[at..], &mut out);

            prop_assert_eq!(out, whole);
        }

        #[test]
        fn what_was_filtered_has_nothing_left_to_filter(text in "[\\x1b\\[\\]?;0-9a-zPn\\\\\\x07\u{90}-\u{9f}]{0,60}") {
            let once = filtered(Keep::Drawing, &text);

            prop_assert_eq!(filtered(Keep::Drawing, &once), once);
        }
    }
}
