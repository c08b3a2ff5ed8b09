//! Hashes of passwords as the configuration has them: argon2id, bcrypt and sha512-crypt.

use std::str::FromStr;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use sha_crypt::ShaCrypt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::PASSWORD_BYTES_MAX;
use crate::secret::Secret;

/// Memory that one argon2id check may take, in KiB. [`super::CHECKS_MAX`] of them may run at a time.
const ARGON2_MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Work of one argon2id check, in KiB times passes: about a second.
const ARGON2_WORK_KIB_MAX: u64 = 1024 * 1024;
/// Lanes of argon2id, which we compute one after the other; they cost nothing but turns.
const ARGON2_LANES_MAX: u32 = 16;
/// Less than this many bytes of output can be met by chance.
const ARGON2_OUTPUT_BYTES_MIN: usize = 16;
/// Twice the time with each step; this is about a second.
const BCRYPT_COST_MAX: u32 = 14;
/// A third of a second with an ordinary password, more with the longest. Some tools write 656000 by default.
const SHA512_CRYPT_ROUNDS_MAX: u32 = 1_000_000;
/// Rounds of a sha512-crypt hash that does not name them.
const SHA512_CRYPT_ROUNDS: u32 = Params512::RECOMMENDED_ROUNDS;
/// Letters of a sha512-crypt salt; crypt(5) ignores more.
const SHA512_CRYPT_SALT_LETTERS_MAX: usize = 16;
/// Letters in which sha512-crypt writes 64 bytes.
const SHA512_CRYPT_HASH_LETTERS: usize = 86;

/// What [`PasswordHash::of`] takes: OWASP's second choice for argon2id, which is also the crate's.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;

type Params512 = sha_crypt::Params;

/// What can be written as a hash, for whoever wrote something else.
const ACCEPTED: &str = "expected the hash of a password: argon2id (`$argon2id$v=19$…`, made by `coracle passwd`), \
                        bcrypt (`$2a$…`, `$2b$…`, `$2y$…`) or sha512-crypt (`$6$…`)";

/// The hash of a password. Can be checked against and compared, but not shown.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct PasswordHash {
    text: Secret<String>,
    cost: Cost,
}

/// What a check costs: the kind of the hash, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    Argon2id { memory_kib: u32, passes: u32, lanes: u32 },
    Bcrypt { cost: u32 },
    Sha512Crypt { rounds: u32 },
}

impl PasswordHash {
    /// A fresh argon2id hash with the parameters that OWASP recommends. Takes tens of milliseconds.
    ///
    /// # Errors
    /// The password is empty or too long, or the system has no random numbers or memory for us.
    pub fn of(password: &Secret<String>) -> Result<Self, String> {
        let password = password.expose().as_bytes();
        if password.is_empty() {
            return Err("an empty password lets everybody in".to_owned());
        }
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(format!("a password must not be longer than {PASSWORD_BYTES_MAX} bytes"));
        }
        let mut salt = [0; SALT_BYTES];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| "the system has no random numbers".to_owned())?;
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| error.to_string())?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash: phc::PasswordHash =
            argon2.hash_password_with_salt(password, &salt).map_err(|error| error.to_string())?;
        Ok(Self { text: Secret::new(hash.to_string()), cost: Cost::default() })
    }

    /// The hash as the configuration has it. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    pub(super) fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether this is the hash of `password`. Takes up to seconds: not for the event loop.
    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let text = self.expose();
        match self.cost {
            Cost::Argon2id { .. } => phc::PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
            Cost::Bcrypt { .. } => bcrypt::verify(password, text).is_ok_and(|same| same),
            Cost::Sha512Crypt { .. } => ShaCrypt::SHA512.verify_password(password, text).is_ok(),
        }
    }
}

impl Cost {
    /// A hash that costs this much to check, and that nobody knows a password for.
    pub(super) fn decoy(self) -> PasswordHash {
        let text = match self {
            Self::Argon2id { memory_kib, passes, lanes } => {
                let (salt, output) = ("A".repeat(22), "A".repeat(43));
                format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${output}")
            }
            Self::Bcrypt { cost } => format!("$2b${cost:02}${}", ".".repeat(22 + 31)),
            Self::Sha512Crypt { rounds } => {
                let salt = ".".repeat(SHA512_CRYPT_SALT_LETTERS_MAX);
                format!("$6$rounds={rounds}${salt}${}", ".".repeat(SHA512_CRYPT_HASH_LETTERS))
            }
        };
        PasswordHash { text: Secret::new(text), cost: self }
    }

    /// Roughly how long a check takes, in microseconds: only for telling dear from cheap.
    pub(super) fn microseconds(self) -> u64 {
        match self {
            Self::Argon2id { memory_kib, passes, .. } => u64::from(memory_kib) * u64::from(passes),
            Self::Bcrypt { cost } => 60 << cost.min(BCRYPT_COST_MAX),
            Self::Sha512Crypt { rounds } => u64::from(rounds) / 3,
        }
    }

    fn of_argon2id(text: &str) -> Result<Self, String> {
        let hash = phc::PasswordHash::new(text).map_err(|_| ACCEPTED)?;
        if hash.algorithm.as_str() != "argon2id" {
            return Err(format!("argon2i and argon2d are not accepted; {ACCEPTED}"));
        }
        if hash.version != Some(Version::V0x13.into()) {
            return Err(format!("only version 19 of argon2id (`v=19`) is accepted; {ACCEPTED}"));
        }
        let params = Params::try_from(&hash).map_err(|_| ACCEPTED)?;
        let plain = params.keyid().is_empty() && params.data().is_empty();
        let salted = hash.salt.is_some_and(|salt| salt.len() >= argon2::MIN_SALT_LEN);
        if !plain || !salted || hash.hash.is_none_or(|output| output.len() < ARGON2_OUTPUT_BYTES_MIN) {
            return Err(ACCEPTED.to_owned());
        }
        let (memory_kib, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
        if memory_kib > ARGON2_MEMORY_KIB_MAX {
            return Err(format!(
                "argon2id with m={memory_kib}: at most {ARGON2_MEMORY_KIB_MAX} (KiB) is accepted"
            ));
        }
        if u64::from(memory_kib) * u64::from(passes) > ARGON2_WORK_KIB_MAX {
            return Err(format!(
                "argon2id with m={memory_kib} and t={passes}: a product of at most {ARGON2_WORK_KIB_MAX} is accepted"
            ));
        }
        if lanes > ARGON2_LANES_MAX {
            return Err(format!("argon2id with p={lanes}: at most {ARGON2_LANES_MAX} is accepted"));
        }
        Ok(Self::Argon2id { memory_kib, passes, lanes })
    }

    fn of_bcrypt(text: &str) -> Result<Self, String> {
        let cost = text.parse::<bcrypt::HashParts>().map_err(|_| ACCEPTED)?.get_cost();
        if !(4..=BCRYPT_COST_MAX).contains(&cost) {
            return Err(format!("bcrypt with a cost of {cost}: 4 to {BCRYPT_COST_MAX} is accepted"));
        }
        Ok(Self::Bcrypt { cost })
    }

    fn of_sha512_crypt(text: &str) -> Result<Self, String> {
        let mut fields = text.split('$').skip(2).peekable();
        let rounds = match fields.peek().and_then(|field| field.strip_prefix("rounds=")) {
            Some(rounds) => {
                fields.next();
                // More digits than fit are too many rounds, and one that starts with zero or plus is no number here.
                let sound = rounds.starts_with(|digit: char| ('1'..='9').contains(&digit))
                    && rounds.bytes().all(|digit| digit.is_ascii_digit());
                sound.then(|| rounds.parse().unwrap_or(u32::MAX)).ok_or(ACCEPTED)?
            }
            None => SHA512_CRYPT_ROUNDS,
        };
        let (Some(salt), Some(hash), None) = (fields.next(), fields.next(), fields.next()) else {
            return Err(ACCEPTED.to_owned());
        };
        let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b));
        let salt_is_sound = (1..=SHA512_CRYPT_SALT_LETTERS_MAX).contains(&salt.len()) && letters(salt);
        if !salt_is_sound || hash.len() != SHA512_CRYPT_HASH_LETTERS || !letters(hash) {
            return Err(ACCEPTED.to_owned());
        }
        if !(Params512::ROUNDS_MIN..=SHA512_CRYPT_ROUNDS_MAX).contains(&rounds) {
            return Err(format!(
                "sha512-crypt with {rounds} rounds: {} to {SHA512_CRYPT_ROUNDS_MAX} is accepted",
                Params512::ROUNDS_MIN
            ));
        }
        Ok(Self::Sha512Crypt { rounds })
    }
}

/// The cost of a hash that [`PasswordHash::of`] makes.
impl Default for Cost {
    fn default() -> Self {
        Self::Argon2id { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES }
    }
}

/// The error never repeats the text, which may be the password itself.
impl FromStr for PasswordHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let cost = if text.starts_with("$argon2") {
            Cost::of_argon2id(text)?
        } else if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            Cost::of_bcrypt(text)?
        } else if text.starts_with("$6$") {
            Cost::of_sha512_crypt(text)?
        } else {
            return Err(ACCEPTED.to_owned());
        };
        Ok(Self { text: Secret::new(text.to_owned()), cost })
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// For `config show`.
impl Serialize for PasswordHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl PartialEq for PasswordHash {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for PasswordHash {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each with its password; made by other programs: the reference implementation's tests, crypt(3), openssl.
    const KNOWN: &[(&str, &str)] = &[
        ("password", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"),
        ("correct horse", "$2a$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"),
        ("correct horse", "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"),
        ("correct horse", "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"),
        (
            "correct horse",
            "$6$rounds=4000$saltstringsalt$OwKUFZ1EEirSRB3PPTtT//hgxb9UI416HkhKy.rPHvk9gaNTCazBJT8fjgZ5UxdDmDXAhhMJg6JDgN3l9vc8m1",
        ),
        (
            "open sesame",
            "$6$saltsalt$e/5XKibXPLqVcfjpD.ouauaJrAOL5V0uo80Lt7n7EbRdRiCx3HbQ90yjOHr.G0T.mx79PEMRy8nmtr0qSYhQp1",
        ),
        (
            "naïve",
            "$6$abc$GpMssefZsVtC3nPskW8VVDqrqmJFUMlM9g4DZhnEqhhAa5ZC.eWXW/GC9Ykk2LYcghYh2DJZgeNElc6aBA1OP.",
        ),
    ];

    fn refusal(text: &str) -> String {
        text.parse::<PasswordHash>().map(|_| ()).expect_err(text)
    }

    #[test]
    fn hashes_that_other_programs_made_match_their_password_alone() {
        for (password, text) in KNOWN {
            let hash: PasswordHash = text.parse().unwrap();

            assert!(hash.matches(password.as_bytes()), "{text}");
            assert!(!hash.matches(b"wrong"), "{text}");
            assert!(!hash.matches(b""), "{text}");
            assert!(!hash.matches(format!("{password}\0").as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_hash_that_we_make_is_one_that_we_take() {
        let password = Secret::new("pässword".to_owned());

        let made = PasswordHash::of(&password).unwrap();

        let read: PasswordHash = made.expose().parse().unwrap();
        assert!(made.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!((made.cost(), &read), (read.cost(), &made));
        assert!(read.matches("pässword".as_bytes()));
        assert_ne!(made, PasswordHash::of(&password).unwrap(), "the salt differs");
        for unfit in [String::new(), "x".repeat(PASSWORD_BYTES_MAX + 1)] {
            assert!(PasswordHash::of(&Secret::new(unfit)).is_err());
        }
    }

    #[test]
    fn what_is_no_hash_is_refused_without_being_repeated() {
        let sha512 = KNOWN[5].1;
        for text in [
            "hunter2",
            "",
            "$1$salt$hunter2",
            "$5$hunter2",
            "$y$j9T$hunter2$hunter2",
            "$2x$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
            "$2b$04$hunter2",
            "$argon2id$hunter2",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=256,t=2,p=1,data=aGk$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            &sha512[..sha512.len() - 1],
            &sha512.replace("$saltsalt", "$"),
            &sha512.replace("saltsalt", "saltsaltsaltsalts"),
            &sha512.replace("saltsalt", "rounds=+4000$saltsalt"),
            &sha512.replace("saltsalt", "rounds=04000$saltsalt"),
            &format!("{sha512}$"),
        ] {
            let error = refusal(text);
            for named in ["argon2id", "bcrypt", "sha512-crypt"] {
                assert!(error.contains(named), "{text}: {error}");
            }
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_hash_that_would_keep_the_machine_busy_is_refused_with_the_bound() {
        let argon2 = |params: &str| KNOWN[0].1.replace("m=256,t=2,p=1", params);
        let bcrypt = |cost: &str| KNOWN[2].1.replace("$04$", cost);
        let sha512 = |rounds: &str| KNOWN[4].1.replace("rounds=4000", rounds);
        for (text, bound) in [
            (argon2("m=262145,t=1,p=1"), "262144"),
            (argon2("m=4294967295,t=4294967295,p=1"), "262144"),
            (argon2("m=262144,t=5,p=1"), "1048576"),
            (argon2("m=8,t=4294967295,p=1"), "1048576"),
            (argon2("m=1024,t=1,p=17"), "16"),
            (bcrypt("$15$"), "14"),
            (bcrypt("$31$"), "14"),
            (bcrypt("$03$"), "4"),
            (sha512("rounds=1000001"), "1000000"),
            (sha512("rounds=99999999999999999999"), "1000000"),
            (sha512("rounds=999"), "1000"),
        ] {
            let error = refusal(&text);
            assert!(error.contains(bound), "{text}: {error}");
        }
        for text in [argon2("m=262144,t=4,p=1"), bcrypt("$14$"), sha512("rounds=1000000")] {
            assert!(text.parse::<PasswordHash>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_hash_is_not_shown() {
        let yaml = format!("{:?}", KNOWN[0].1);
        let hash: PasswordHash = serde_saphyr::from_str(&yaml).unwrap();

        assert!(hash.matches(b"password"));
        assert_eq!(serde_saphyr::to_string(&hash).unwrap().trim_matches(['"', '\'', '\n']), "***");
        assert!(!format!("{hash:?}").contains("c29tZXNhbHQ"));
    }

    #[test]
    fn a_decoy_costs_what_it_stands_for_and_matches_nothing() {
        for (_, text) in KNOWN {
            let cost = text.parse::<PasswordHash>().unwrap().cost();

            let decoy = cost.decoy();

            assert_eq!(decoy.expose().parse::<PasswordHash>().unwrap().cost(), cost);
            assert!(!decoy.matches(b""));
        }
    }
}
