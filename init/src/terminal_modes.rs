//! Encoded terminal modes (RFC 4254 §8) on a terminal of Linux.

use rustix::termios::{ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex, Termios, speed};

/// What an opcode is about.
#[derive(Clone, Copy)]
enum Mode {
    /// A control character.
    Character(SpecialCodeIndex),
    Input(InputModes),
    Local(LocalModes),
    Output(OutputModes),
    Control(ControlModes),
    /// Bits of a character.
    Size(ControlModes),
    InputSpeed,
    OutputSpeed,
}

/// The argument of RFC 4254 §8 that switches a control character off.
const CHARACTER_OFF: u32 = 255;

/// What Linux has for that.
const DISABLED: u8 = 0;

/// What a terminal's speed may be. Nothing is sent that fast or slow: programs only ask.
const SPEEDS: [u32; 30] = [
    speed::B50,
    speed::B75,
    speed::B110,
    speed::B134,
    speed::B150,
    speed::B200,
    speed::B300,
    speed::B600,
    speed::B1200,
    speed::B1800,
    speed::B2400,
    speed::B4800,
    speed::B9600,
    speed::B19200,
    speed::B38400,
    speed::B57600,
    speed::B115200,
    speed::B230400,
    speed::B460800,
    speed::B500000,
    speed::B576000,
    speed::B921600,
    speed::B1000000,
    speed::B1152000,
    speed::B1500000,
    speed::B2000000,
    speed::B2500000,
    speed::B3000000,
    speed::B3500000,
    speed::B4000000,
];

/// Left out, because Linux has them not: `VDSUSP` (11), `VFLUSH` (15), `VSTATUS` (17).
fn mode(opcode: u8) -> Option<Mode> {
    use SpecialCodeIndex as Code;
    Some(match opcode {
        1 => Mode::Character(Code::VINTR),
        2 => Mode::Character(Code::VQUIT),
        3 => Mode::Character(Code::VERASE),
        4 => Mode::Character(Code::VKILL),
        5 => Mode::Character(Code::VEOF),
        6 => Mode::Character(Code::VEOL),
        7 => Mode::Character(Code::VEOL2),
        8 => Mode::Character(Code::VSTART),
        9 => Mode::Character(Code::VSTOP),
        10 => Mode::Character(Code::VSUSP),
        12 => Mode::Character(Code::VREPRINT),
        13 => Mode::Character(Code::VWERASE),
        14 => Mode::Character(Code::VLNEXT),
        16 => Mode::Character(Code::VSWTC),
        18 => Mode::Character(Code::VDISCARD),
        30 => Mode::Input(InputModes::IGNPAR),
        31 => Mode::Input(InputModes::PARMRK),
        32 => Mode::Input(InputModes::INPCK),
        33 => Mode::Input(InputModes::ISTRIP),
        34 => Mode::Input(InputModes::INLCR),
        35 => Mode::Input(InputModes::IGNCR),
        36 => Mode::Input(InputModes::ICRNL),
        37 => Mode::Input(InputModes::IUCLC),
        38 => Mode::Input(InputModes::IXON),
        39 => Mode::Input(InputModes::IXANY),
        40 => Mode::Input(InputModes::IXOFF),
        41 => Mode::Input(InputModes::IMAXBEL),
        42 => Mode::Input(InputModes::IUTF8),
        50 => Mode::Local(LocalModes::ISIG),
        51 => Mode::Local(LocalModes::ICANON),
        52 => Mode::Local(LocalModes::XCASE),
        53 => Mode::Local(LocalModes::ECHO),
        54 => Mode::Local(LocalModes::ECHOE),
        55 => Mode::Local(LocalModes::ECHOK),
        56 => Mode::Local(LocalModes::ECHONL),
        57 => Mode::Local(LocalModes::NOFLSH),
        58 => Mode::Local(LocalModes::TOSTOP),
        59 => Mode::Local(LocalModes::IEXTEN),
        60 => Mode::Local(LocalModes::ECHOCTL),
        61 => Mode::Local(LocalModes::ECHOKE),
        62 => Mode::Local(LocalModes::PENDIN),
        70 => Mode::Output(OutputModes::OPOST),
        71 => Mode::Output(OutputModes::OLCUC),
        72 => Mode::Output(OutputModes::ONLCR),
        73 => Mode::Output(OutputModes::OCRNL),
        74 => Mode::Output(OutputModes::ONOCR),
        75 => Mode::Output(OutputModes::ONLRET),
        90 => Mode::Size(ControlModes::CS7),
        91 => Mode::Size(ControlModes::CS8),
        92 => Mode::Control(ControlModes::PARENB),
        93 => Mode::Control(ControlModes::PARODD),
        128 => Mode::InputSpeed,
        129 => Mode::OutputSpeed,
        _ => return None,
    })
}

/// Changes a terminal's settings; what is unknown or makes no sense is left as it was.
pub(crate) fn apply(modes: &[(u8, u32)], to: &mut Termios) {
    for (opcode, argument) in modes {
        let (Some(mode), is_on) = (mode(*opcode), *argument != 0) else { continue };
        match mode {
            Mode::Character(index) => match (*argument, u8::try_from(*argument)) {
                (CHARACTER_OFF, _) => to.special_codes[index] = DISABLED,
                (_, Ok(character)) => to.special_codes[index] = character,
                (_, Err(_)) => {}
            },
            Mode::Input(flag) => to.input_modes.set(flag, is_on),
            Mode::Local(flag) => to.local_modes.set(flag, is_on),
            Mode::Output(flag) => to.output_modes.set(flag, is_on),
            Mode::Control(flag) => to.control_modes.set(flag, is_on),
            Mode::Size(bits) if is_on => {
                to.control_modes.remove(ControlModes::CSIZE);
                to.control_modes.insert(bits);
            }
            Mode::InputSpeed if SPEEDS.contains(argument) => {
                to.set_input_speed(*argument).unwrap_or_default();
            }
            Mode::OutputSpeed if SPEEDS.contains(argument) => {
                to.set_output_speed(*argument).unwrap_or_default();
            }
            // Of sizes, one that is on counts.
            Mode::Size(_) | Mode::InputSpeed | Mode::OutputSpeed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, openpt};
    use rustix::termios::tcgetattr;

    use super::*;

    fn settings() -> Termios {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        tcgetattr(master).unwrap()
    }

    /// P4
    #[test]
    fn modes_are_set_and_cleared() {
        let mut settings = settings();

        apply(&[(53, 0), (52, 1), (3, 8), (1, 255), (42, 1), (70, 0), (90, 1), (129, 9600)], &mut settings);

        assert!(!settings.local_modes.contains(LocalModes::ECHO));
        assert!(settings.local_modes.contains(LocalModes::XCASE));
        assert_eq!(settings.special_codes[SpecialCodeIndex::VERASE], 8);
        assert_eq!(settings.special_codes[SpecialCodeIndex::VINTR], 0);
        assert!(settings.input_modes.contains(InputModes::IUTF8));
        assert!(!settings.output_modes.contains(OutputModes::OPOST));
        assert_eq!(settings.control_modes & ControlModes::CSIZE, ControlModes::CS7);
        assert_eq!(settings.output_speed(), 9600);
    }

    /// P10
    #[test]
    fn odd_modes_change_nothing() {
        let (mut settings, before) = (settings(), settings());
        let odd: Vec<(u8, u32)> =
            (0..=255).filter(|opcode| mode(*opcode).is_none()).map(|opcode| (opcode, 1)).collect();

        apply(&odd, &mut settings);
        apply(&[(1, 256), (3, u32::MAX), (91, 0), (128, 0), (129, 31_337), (129, 0)], &mut settings);

        assert_eq!(format!("{settings:?}"), format!("{before:?}"));
    }
}
