//! The secret that a user's authenticator application shares with us, and the codes made of it (RFC 6238, RFC 4226).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use data_encoding::BASE32_NOPAD;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::secret::Secret;

/// A code is good for this long. Authenticator applications know no other.
const STEP_SECONDS: u64 = 30;
/// Steps that a client's clock may be off, either way (RFC 6238 §5.2).
const DRIFT_STEPS: u64 = 1;
/// Decimal digits of a code.
const CODE_DIGITS: usize = 6;
/// 10 to the power of [`CODE_DIGITS`].
const CODES: u32 = 1_000_000;
/// Bytes of a secret that we make (RFC 4226 §4, R6).
const SECRET_BYTES: usize = 20;
/// Shorter ones can be guessed. RFC 4226 wants 16; widespread tools made 10 for long.
const SECRET_BYTES_MIN: usize = 10;
/// Longer ones bring nothing: HMAC hashes what is over a block of SHA-1 (64 bytes).
const SECRET_BYTES_MAX: usize = 128;
/// Largest file that is taken for one with a secret.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A secret for codes of six digits, by SHA-1, a new one every 30 s: what every authenticator application knows.
#[derive(Clone, Debug)]
pub struct TotpSecret(Secret<Vec<u8>>);

/// The number of a span of 30 s since 1970, which a code belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeStep(u64);

/// Why a file holds no usable secret.
#[derive(Debug, thiserror::Error)]
pub enum TotpFileError {
    /// It cannot be read.
    #[error("`{}` cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error(
        "`{}` is open to others (mode {mode:04o}): its secret has to be taken for known; if it is not, \
         run `chmod 600 {}`, else enroll again", path.display(), path.display()
    )]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no file with a secret.
    #[error("`{}` holds no secret: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why. Never repeats what stands there.
        reason: String,
    },
}

impl TotpSecret {
    /// A fresh secret of 160 bits.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> io::Result<Self> {
        let mut bytes = vec![0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_| io::Error::other("the system has no random numbers"))?;
        Ok(Self(Secret::new(bytes)))
    }

    /// Reads a file whose first line, comments apart, is a secret in base32 or an `otpauth://` URL. Blocks.
    ///
    /// # Errors
    /// The file cannot be read, others than its owner may, or it has something else in it.
    pub fn read(path: &Path) -> Result<Self, TotpFileError> {
        let unreadable = |reason| TotpFileError::Unreadable { path: path.to_owned(), reason };
        let unusable = |reason| TotpFileError::Unusable { path: path.to_owned(), reason };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unusable("it is no regular file".to_owned()));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TotpFileError::OpenToOthers { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(unusable(format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.next().ok_or_else(|| "it is empty".to_owned()).and_then(str::parse).map_err(unusable)
    }

    /// What stands for the secret when there is none, so that the work is the same.
    pub(super) fn decoy() -> Self {
        Self(Secret::new(vec![0; SECRET_BYTES]))
    }

    /// In base32, for typing into an application. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose_base32(&self) -> String {
        BASE32_NOPAD.encode(self.0.expose())
    }

    /// As authenticator applications read it from a QR code. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose_url(&self, issuer: &str, account: &str) -> String {
        let issuer = utf8_percent_encode(issuer, NON_ALPHANUMERIC);
        let account = utf8_percent_encode(account, NON_ALPHANUMERIC);
        // Algorithm, digits and period are left out: some applications refuse to see even the defaults.
        format!("otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}", self.expose_base32())
    }

    /// The latest step around `now` whose code this is, if there is one. Looks at each of them, in constant time.
    #[must_use]
    pub fn step_of(&self, code: &Secret<String>, now: TimeStep) -> Option<TimeStep> {
        let typed: String =
            code.expose().chars().filter(|letter| !letter.is_whitespace()).take(CODE_DIGITS + 1).collect();
        let mut found = None;
        for step in now.0.saturating_sub(DRIFT_STEPS)..=now.0.saturating_add(DRIFT_STEPS) {
            if verify_slices_are_equal(self.code(TimeStep(step)).as_bytes(), typed.as_bytes()).is_ok() {
                found = Some(TimeStep(step));
            }
        }
        found
    }

    /// The code of a step (RFC 4226 §5.3).
    pub(super) fn code(&self, step: TimeStep) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.0.expose());
        let tag = hmac::sign(&key, &step.0.to_be_bytes());
        let offset = usize::from(tag.as_ref().last().copied().unwrap_or_default() & 0xf);
        let word = tag.as_ref().get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        let number = (u32::from_be_bytes(word) & 0x7fff_ffff) % CODES;
        format!("{number:0CODE_DIGITS$}")
    }

    fn from_base32(text: &str) -> Result<Self, String> {
        let letters = text.chars().filter(|letter| !letter.is_whitespace() && *letter != '-');
        let letters: String = letters.map(|letter| letter.to_ascii_uppercase()).collect();
        let bytes = BASE32_NOPAD.decode(letters.trim_end_matches('=').as_bytes()).map_err(|_| {
            "expected base32 (letters and the digits 2 to 7) or an `otpauth://totp/…` URL".to_owned()
        })?;
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
            return Err(format!(
                "a secret of {} bytes; {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} are accepted",
                bytes.len()
            ));
        }
        Ok(Self(Secret::new(bytes)))
    }

    /// What stands behind `otpauth://`.
    fn from_url(rest: &str) -> Result<Self, String> {
        let Some(rest) = rest.strip_prefix("totp/") else {
            return Err("only `otpauth://totp/…` is supported: codes by time".to_owned());
        };
        let query = rest.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let mut secret = None;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            match (name, value.as_ref()) {
                ("secret", value) => secret = Some(Self::from_base32(value)?),
                ("algorithm", value) if !value.eq_ignore_ascii_case("SHA1") => {
                    return Err("only `algorithm=SHA1` is supported, the default".to_owned());
                }
                ("digits", value) if value != "6" => {
                    return Err("only `digits=6` is supported, the default".to_owned());
                }
                ("period", value) if value != "30" => {
                    return Err("only `period=30` is supported, the default".to_owned());
                }
                _ => {}
            }
        }
        secret.ok_or_else(|| "the `otpauth://` URL has no `secret=`".to_owned())
    }
}

impl TimeStep {
    /// The step of this moment by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Self(seconds / STEP_SECONDS)
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }

    pub(super) fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// Base32, in any case and with spaces, or an `otpauth://totp/…` URL. The error never repeats the text.
impl FromStr for TotpSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("otpauth://") {
            Some(rest) => Self::from_url(rest),
            None => Self::from_base32(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};

    use super::*;

    /// RFC 6238, appendix B: `12345678901234567890`.
    const RFC_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn rfc_secret() -> TotpSecret {
        RFC_SECRET.parse().unwrap()
    }

    fn step_of(code: &str, now: u64) -> Option<u64> {
        rfc_secret().step_of(&Secret::new(code.to_owned()), TimeStep(now)).map(TimeStep::number)
    }

    fn read(content: impl AsRef<[u8]>) -> Result<TotpSecret, TotpFileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("totp");
        write(&path, content).unwrap();
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        TotpSecret::read(&path)
    }

    /// A6
    #[test]
    fn codes_are_those_of_rfc_6238() {
        for (seconds, eight_digits) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(rfc_secret().code(TimeStep(seconds / STEP_SECONDS)), eight_digits[2..]);
        }
    }

    /// A6
    #[test]
    fn a_clock_may_be_off_by_one_step_either_way() {
        let code = rfc_secret().code(TimeStep(1000));

        for now in [999, 1000, 1001] {
            assert_eq!(step_of(&code, now), Some(1000));
        }
        assert_eq!(step_of(&code, 998), None);
        assert_eq!(step_of(&code, 1002), None);
        assert_eq!(step_of(&rfc_secret().code(TimeStep(0)), 0), Some(0));
    }

    #[test]
    fn a_code_may_be_typed_in_groups_and_is_six_digits() {
        let code = rfc_secret().code(TimeStep(1000));

        assert_eq!(step_of(&format!(" {} {}\n", &code[..3], &code[3..]), 1000), Some(1000));
        for wrong in [
            "",
            " ",
            &code[..5],
            &format!("{code}0"),
            &format!("0{code}"),
            "abcdef",
            &format!("{code}      0"),
        ] {
            assert_eq!(step_of(wrong, 1000), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_secret_is_read_as_it_is_typed_printed_or_scanned() {
        for text in [
            RFC_SECRET.to_owned(),
            format!("# of alice\n\n  {}  \n\" RATE_LIMIT 3 30\n12345678\n", RFC_SECRET.to_lowercase()),
            "GEZD GNBV-GY3T QOJQ GEZD GNBV GY3T QOJQ====".to_owned(),
            format!("otpauth://totp/Coracle:alice?secret={RFC_SECRET}&issuer=Coracle\n"),
            format!(
                "otpauth://totp/a%3Fb?period=30&digits=6&algorithm=sha1&x&secret={}%3D",
                RFC_SECRET.to_lowercase()
            ),
            rfc_secret().expose_url("Ça & là?", "alice@example.org"),
        ] {
            assert_eq!(read(&text).unwrap().expose_base32(), RFC_SECRET, "{text}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_repeated() {
        for (text, named) in [
            (String::new(), "empty"),
            ("# nothing\n".to_owned(), "empty"),
            ("HUNTER1".to_owned(), "base32"),
            ("HUNTERAA".to_owned(), "5 bytes"),
            ("A".repeat(208), "130 bytes"),
            (format!("otpauth://hotp/HUNTER?secret={RFC_SECRET}"), "otpauth://totp/"),
            ("otpauth://totp/HUNTER".to_owned(), "secret="),
            (format!("otpauth://totp/HUNTER?secret={RFC_SECRET}&algorithm=SHA256"), "algorithm=SHA1"),
            (format!("otpauth://totp/HUNTER?secret={RFC_SECRET}&digits=8"), "digits=6"),
            (format!("otpauth://totp/HUNTER?secret={RFC_SECRET}&period=60"), "period=30"),
            ("#".repeat(65 * 1024), "65536 bytes"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains("HUNTER"), "{error}");
        }
        assert!(matches!(read(b"\xff\xfe"), Err(TotpFileError::Unreadable { .. })));
        assert!(TotpSecret::read(Path::new("/")).is_err());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("totp");
        write(&path, RFC_SECRET).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();

            let error = TotpSecret::read(&path).unwrap_err().to_string();

            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(TotpSecret::read(&path).is_ok());
    }

    #[test]
    fn a_secret_is_random_and_not_shown() {
        let (one, other) = (TotpSecret::random().unwrap(), TotpSecret::random().unwrap());

        assert_eq!(one.expose_base32().len(), 32);
        assert_ne!(one.expose_base32(), other.expose_base32());
        assert_eq!(format!("{one:?}"), "TotpSecret(***)");
    }
}
