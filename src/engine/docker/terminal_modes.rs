//! Encoded terminal modes (RFC 4254 §8) in the words of `stty`.

use crate::engine::TerminalMode;

/// How an opcode is said to `stty`.
enum Word {
    /// A control character.
    Character(&'static str),
    /// A flag: `word` or `-word`.
    Flag(&'static str),
    /// One of several values: the word counts only when the argument is 1.
    Choice(&'static str),
    /// A speed in bits per second.
    Speed(&'static str),
}

/// The opcodes that both coreutils and busybox know: one unknown word and `stty` changes nothing at all.
/// Left out for that reason: `VDSUSP`, `VSTATUS`, `VDISCARD`, `PENDIN`, `IUCLC`, `XCASE`, `OLCUC`.
const WORDS: [(u8, Word); 48] = [
    (1, Word::Character("intr")),
    (2, Word::Character("quit")),
    (3, Word::Character("erase")),
    (4, Word::Character("kill")),
    (5, Word::Character("eof")),
    (6, Word::Character("eol")),
    (7, Word::Character("eol2")),
    (8, Word::Character("start")),
    (9, Word::Character("stop")),
    (10, Word::Character("susp")),
    (12, Word::Character("rprnt")),
    (13, Word::Character("werase")),
    (14, Word::Character("lnext")),
    (16, Word::Character("swtch")),
    (30, Word::Flag("ignpar")),
    (31, Word::Flag("parmrk")),
    (32, Word::Flag("inpck")),
    (33, Word::Flag("istrip")),
    (34, Word::Flag("inlcr")),
    (35, Word::Flag("igncr")),
    (36, Word::Flag("icrnl")),
    (38, Word::Flag("ixon")),
    (39, Word::Flag("ixany")),
    (40, Word::Flag("ixoff")),
    (41, Word::Flag("imaxbel")),
    (42, Word::Flag("iutf8")),
    (50, Word::Flag("isig")),
    (51, Word::Flag("icanon")),
    (53, Word::Flag("echo")),
    (54, Word::Flag("echoe")),
    (55, Word::Flag("echok")),
    (56, Word::Flag("echonl")),
    (57, Word::Flag("noflsh")),
    (58, Word::Flag("tostop")),
    (59, Word::Flag("iexten")),
    (60, Word::Flag("echoctl")),
    (61, Word::Flag("echoke")),
    (70, Word::Flag("opost")),
    (72, Word::Flag("onlcr")),
    (73, Word::Flag("ocrnl")),
    (74, Word::Flag("onocr")),
    (75, Word::Flag("onlret")),
    (90, Word::Choice("cs7")),
    (91, Word::Choice("cs8")),
    (92, Word::Flag("parenb")),
    (93, Word::Flag("parodd")),
    (128, Word::Speed("ispeed")),
    (129, Word::Speed("ospeed")),
];

/// The speeds that every `stty` takes.
const SPEEDS: [u32; 17] =
    [50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200];

/// The argument of RFC 4254 §8 that switches a control character off.
const CHARACTER_OFF: u32 = 255;

/// Words for one call of `stty`; empty when there is nothing to say.
pub(super) fn stty_words(modes: &[TerminalMode]) -> String {
    modes.iter().filter_map(|mode| stty_word(*mode)).collect::<Vec<_>>().join(" ")
}

fn stty_word(TerminalMode { opcode, argument }: TerminalMode) -> Option<String> {
    let (_, word) = WORDS.iter().find(|(known, _)| *known == opcode)?;
    match word {
        Word::Character(name) => Some(format!("{name} {}", character(argument)?)),
        Word::Flag(name) => Some(if argument == 0 { format!("-{name}") } else { (*name).to_owned() }),
        Word::Choice(name) => (argument != 0).then(|| (*name).to_owned()),
        Word::Speed(name) => SPEEDS.contains(&argument).then(|| format!("{name} {argument}")),
    }
}

/// A control character in hat notation, which needs no quoting in the one place where it is expanded.
fn character(code: u32) -> Option<String> {
    match code {
        0 | CHARACTER_OFF => Some("undef".to_owned()),
        0x7f => Some("^?".to_owned()),
        0x01..=0x1f => {
            let letter = u8::try_from(code).ok().map(|code| char::from(code + 0x40))?;
            Some(format!("^{letter}"))
        }
        // Digits alone would be read as a character's number, other letters as themselves.
        0x21..=0x7e => char::from_u32(code).filter(char::is_ascii_punctuation).map(String::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(modes: &[(u8, u32)]) -> String {
        stty_words(
            &modes.iter().map(|&(opcode, argument)| TerminalMode { opcode, argument }).collect::<Vec<_>>(),
        )
    }

    /// P4
    #[test]
    fn modes_become_words_that_stty_knows() {
        assert_eq!(words(&[(53, 0), (3, 8), (1, 3), (36, 1)]), "-echo erase ^H intr ^C icrnl");
        assert_eq!(
            words(&[(3, 0x7f), (7, 255), (129, 38_400), (91, 1), (90, 0)]),
            "erase ^? eol2 undef ospeed 38400 cs8"
        );
    }

    /// P10
    #[test]
    fn odd_modes_are_left_out() {
        assert_eq!(words(&[(0, 1), (200, 1), (129, 31_337), (3, u32::MAX), (3, u32::from(b'a'))]), "");
    }
}
