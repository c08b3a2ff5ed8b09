//! One-time passwords by time (RFC 6238) as a second factor: each is good for one login.

mod secret;

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use secret::{TimeStep, TotpFileError, TotpSecret};

use crate::ids::Username;
use crate::secret::Secret;

/// Where the last accepted steps are kept, in the state folder.
const FOLDER: &str = "totp";

/// Locks that users share by the hash of their name: one that waits for a disk holds up a few others at most.
const LOCKS: usize = 64;

/// Checks codes, and remembers which were used.
///
/// The last accepted step of each user is a file in the state folder, written before the login is let on. So a code is
/// good for one login, also across restarts and crashes, and nothing is kept in memory. A file that cannot be read or
/// written lets nobody on: else filling the disk would bring used codes back.
#[derive(Clone, Debug)]
pub struct TotpBook(Arc<Book>);

#[derive(Debug)]
struct Book {
    folder: PathBuf,
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
}

/// Why a code that is right is not accepted.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("this code, or a later one, was used before")]
    Used,
    #[error(
        "`{}` cannot be used, so that nobody could tell whether the code was used before: {reason}",
        path.display()
    )]
    Forgetful { path: PathBuf, reason: io::Error },
}

impl TotpBook {
    /// Keeps its files in `state_dir`, from the first code on. One book at a time per folder.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        let locks = (0..LOCKS).map(|_| Mutex::default()).collect();
        Self(Arc::new(Book { folder: state_dir.join(FOLDER), locks, hasher: RandomState::new() }))
    }

    /// Whether `code` is one of this moment by the secret in `file`, and not used before. Then it is from now on.
    /// Without a file it never is, after the same work. Cancel safe: what was begun is done, so a code may be used up.
    pub async fn verify(&self, username: &Username, file: Option<&Path>, code: &Secret<String>) -> bool {
        let (book, username, code) = (Arc::clone(&self.0), username.clone(), code.clone());
        let file = file.map(Path::to_owned);
        let verified = tokio::task::spawn_blocking(move || {
            book.verify(&username, file.as_deref(), &code, TimeStep::now())
        });
        verified.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the check of a one-time password failed");
            false
        })
    }
}

impl Book {
    fn verify(&self, username: &Username, file: Option<&Path>, code: &Secret<String>, now: TimeStep) -> bool {
        let secret = file.map(TotpSecret::read).transpose().unwrap_or_else(|error| {
            tracing::error!(%username, %error, "cannot check one-time passwords");
            None
        });
        let step = secret.as_ref().unwrap_or(&TotpSecret::decoy()).step_of(code, now);
        // The decoy has codes, too; they must let nobody on.
        let (Some(_), Some(step)) = (secret, step) else { return false };
        match self.accept(username, step) {
            Ok(()) => true,
            Err(error @ Refusal::Used) => {
                tracing::warn!(%username, %error, "a one-time password was refused");
                false
            }
            Err(error @ Refusal::Forgetful { .. }) => {
                tracing::error!(%username, %error, "a one-time password was refused");
                false
            }
        }
    }

    /// Remembers the step as the user's last one, if it is later than the one before.
    fn accept(&self, username: &Username, step: TimeStep) -> Result<(), Refusal> {
        let path = self.folder.join(file_name(username));
        let forgetful = |reason| Refusal::Forgetful { path: path.clone(), reason };
        let index = usize::try_from(self.hasher.hash_one(username)).unwrap_or_default() % LOCKS;
        let lock = self.locks.get(index).map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
        if read_step(&path).map_err(forgetful)?.is_some_and(|last| step <= last) {
            return Err(Refusal::Used);
        }
        self.write_step(&path, step).map_err(forgetful)?;
        drop(lock);
        Ok(())
    }

    fn write_step(&self, path: &Path, step: TimeStep) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        // Written aside and renamed: half a number would shut its user out.
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        writeln!(file, "{}", step.number())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }
}

fn read_step(path: &Path) -> io::Result<Option<TimeStep>> {
    match fs::read_to_string(path) {
        Ok(text) => match text.trim().parse() {
            Ok(number) => Ok(Some(TimeStep::from_number(number))),
            Err(_) => Err(io::Error::other("it holds no number; remove it")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name itself where it is fit for one of a file, else with `%` and the number of what is not.
fn file_name(username: &Username) -> String {
    let name = username.as_str().replace('%', "%25").replace('/', "%2F");
    match name.strip_prefix('.') {
        // Names that begin with a dot are for what is written aside.
        Some(rest) => format!("%2E{rest}"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    const NOW: u64 = 41_152_263;
    /// RFC 6238, appendix B: the code of [`NOW`], and the one before it.
    const CODE: &str = "005924";
    const CODE_BEFORE: &str = "980357";

    struct Desk {
        state: tempfile::TempDir,
        book: TotpBook,
    }

    impl Desk {
        fn new() -> Self {
            let state = tempfile::tempdir().unwrap();
            let file = state.path().join("secret");
            fs::write(&file, SECRET).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            let book = TotpBook::new(&state.path().join("state"));
            Self { state, book }
        }

        fn restart(&mut self) {
            self.book = TotpBook::new(&self.state.path().join("state"));
        }

        fn verify_at(&self, now: u64, user: &str, code: &str) -> bool {
            let file = self.state.path().join("secret");
            self.book.0.verify(&name(user), Some(&file), &secret(code), TimeStep::from_number(now))
        }

        fn verify(&self, user: &str, code: &str) -> bool {
            self.verify_at(NOW, user, code)
        }
    }

    fn name(text: &str) -> Username {
        Username::parse(text).unwrap()
    }

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    /// A6
    #[test]
    fn a_code_is_good_for_one_login_of_its_user() {
        let desk = Desk::new();

        assert!(!desk.verify("alice", "000000"));
        assert!(desk.verify("alice", CODE));
        assert!(!desk.verify("alice", CODE), "again");
        assert!(!desk.verify_at(NOW + 1, "alice", CODE), "again, while it is good");
        assert!(!desk.verify("alice", CODE_BEFORE), "one from before it");
        assert!(desk.verify("bob", CODE_BEFORE), "somebody else");
        assert!(desk.verify("bob", CODE), "a later one");
    }

    /// A6
    #[test]
    fn a_used_code_stays_used_across_restarts() {
        let mut desk = Desk::new();
        assert!(desk.verify("alice", CODE));

        desk.restart();

        assert!(!desk.verify("alice", CODE));
    }

    /// A6
    #[test]
    fn of_many_logins_at_once_with_one_code_one_comes_in() {
        let desk = Desk::new();

        let let_in = std::thread::scope(|scope| {
            let logins: Vec<_> = (0..8).map(|_| scope.spawn(|| desk.verify("alice", CODE))).collect();
            logins.into_iter().map(|login| u32::from(login.join().unwrap())).sum::<u32>()
        });

        assert_eq!(let_in, 1);
    }

    /// A6
    #[tokio::test]
    async fn nobody_comes_in_without_a_usable_secret() {
        let desk = Desk::new();
        let open = desk.state.path().join("open");
        fs::write(&open, SECRET).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
        let now = TimeStep::from_number(NOW);

        assert!(!desk.book.verify(&name("alice"), None, &secret(CODE)).await);
        assert!(!desk.book.verify(&name("alice"), Some(Path::new("/none")), &secret(CODE)).await);
        for code in ["", "000000", CODE] {
            assert!(!desk.book.0.verify(&name("alice"), None, &secret(code), now));
            assert!(!desk.book.0.verify(&name("alice"), Some(&open), &secret(code), now));
        }
        let code = Secret::new(TotpSecret::decoy().code(now));
        assert!(!desk.book.0.verify(&name("alice"), None, &code, now), "the decoy's own");
    }

    #[test]
    fn a_code_that_cannot_be_remembered_is_refused() {
        let desk = Desk::new();
        let folder = desk.state.path().join("state/totp");

        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("alice"), "").unwrap();
        assert!(!desk.verify("alice", CODE), "nobody knows what was used");
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "in the way").unwrap();
        assert!(!desk.verify("alice", CODE), "nothing can be written");
        fs::remove_file(&folder).unwrap();
        assert!(desk.verify("alice", CODE));
    }

    /// A9
    #[test]
    fn odd_user_names_have_files_of_their_own_in_the_folder() {
        let desk = Desk::new();
        let odd = ["../../x", "a/b", "a%2Fb", ".hidden", "..", "😀", "$(id)"];

        for user in odd {
            assert!(desk.verify(user, CODE), "{user}");
            assert!(!desk.verify(user, CODE), "{user}");
        }

        let files = fs::read_dir(desk.state.path().join("state/totp")).unwrap().count();
        assert_eq!(files, odd.len());
    }
}
