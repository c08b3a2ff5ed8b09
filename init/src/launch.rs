//! The last steps to a program, in the process that becomes it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use coracle_init::{Program, Start};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::getuid;

use crate::disposition;
use crate::login::{self, Account, PATH, SHELL, Variables};
use crate::passwd;
use crate::users::Identity;

/// As shells say it.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// A program that is about to run.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) start: Box<Start>,
    /// Whom to become.
    pub(crate) identity: Option<Identity>,
}

/// Why there is no program.
#[derive(Debug)]
struct Failure {
    what: OsString,
    why: String,
    status: u8,
}

impl Failure {
    fn new(what: &OsStr, why: &str, status: u8) -> Self {
        Self { what: what.to_owned(), why: why.to_owned(), status }
    }

    fn not_found(what: &OsStr) -> Self {
        Self::new(what, "not found in the container", NOT_FOUND)
    }

    fn not_executable(what: &OsStr) -> Self {
        Self::new(what, "not executable in the container", NOT_EXECUTABLE)
    }
}

impl Launch {
    /// Becomes the program. Returns its exit status if that fails, when standard error has been told why.
    pub(crate) fn run(&self) -> u8 {
        let failure = self.prepare_and_exec();
        let mut line = failure.what.as_bytes().to_vec();
        line.extend_from_slice(format!(": {}\n", failure.why).as_bytes());
        // If nobody reads it, the status has to do.
        disposition::ignore_broken_pipes();
        drop(io::stderr().write_all(&line));
        failure.status
    }

    fn prepare_and_exec(&self) -> Failure {
        let container_uid = getuid().as_raw();
        if let Some(Err(error)) = self.identity.as_ref().map(Identity::assume) {
            let why = io::Error::from(error).to_string();
            return Failure::new(OsStr::from_bytes(&self.start.user), &why, NOT_EXECUTABLE);
        }
        let passwd = passwd::read(Path::new("/etc/passwd"));
        let username = self.start.username.as_slice();
        let account = Account { uid: getuid().as_raw(), username, passwd: &passwd, container_uid };
        let mut variables = login::variables(env::vars_os().collect(), &self.start.env, account, |shell| {
            is_executable(Path::new(shell))
        });
        if let Err(failure) = self.enter(&mut variables) {
            return failure;
        }
        if let Some(path) = self.start.terminal.as_ref().and_then(|_| terminal_path()) {
            variables.insert("SSH_TTY".into(), path.into());
        }
        self.exec(&variables)
    }

    /// Goes where the program is to start. An image without a working directory starts where sshd would.
    fn enter(&self, variables: &mut Variables) -> Result<(), Failure> {
        let told_to = OsStr::from_bytes(&self.start.cwd);
        if !told_to.is_empty() {
            env::set_current_dir(told_to).map_err(|error| {
                let why = match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                        "no such folder in the container"
                    }
                    _ => "not accessible in the container",
                };
                Failure::new(told_to, why, NOT_EXECUTABLE)
            })?;
        } else if env::current_dir().map_or(true, |cwd| cwd == Path::new("/"))
            && let Some(home) = variables.get(OsStr::new("HOME"))
        {
            // Or else it stays where it is.
            drop(env::set_current_dir(home));
        }
        variables.remove(OsStr::new("OLDPWD"));
        // Shells set it, other programs only read it.
        if let Ok(cwd) = env::current_dir() {
            variables.insert("PWD".into(), cwd.into());
        }
        Ok(())
    }

    fn exec(&self, variables: &Variables) -> Failure {
        let shell = variables.get(OsStr::new("SHELL")).map_or(OsStr::new(SHELL), OsString::as_os_str);
        let (name, args): (&OsStr, Vec<&OsStr>) = match &self.start.program {
            Program::LoginShell if login::takes_login_option(shell) => (shell, vec![OsStr::new("-l")]),
            Program::LoginShell => (shell, Vec::new()),
            Program::ShellCommand(command) => (shell, vec![OsStr::new("-c"), OsStr::from_bytes(command)]),
            Program::Args(args) => {
                let mut args = args.iter().map(|arg| OsStr::from_bytes(arg));
                (args.next().unwrap_or_default(), args.collect())
            }
        };
        let path = match find(name, variables) {
            Ok(path) => path,
            Err(failure) => return failure,
        };
        let mut error = exec(&path, name, &args, variables);
        if is(&error, Errno::NOEXEC) {
            // A script that does not say whose, as shells and `execvp` have it.
            let script: Vec<&OsStr> = std::iter::once(path.as_os_str()).chain(args).collect();
            error = exec(Path::new(SHELL), OsStr::new(SHELL), &script, variables);
        }
        match error {
            // The interpreter, or the loader, is missing.
            error if is(&error, Errno::NOENT) => Failure::not_found(name),
            error if is(&error, Errno::ACCESS) => Failure::not_executable(name),
            error => Failure::new(name, &error.to_string(), NOT_EXECUTABLE),
        }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}

fn exec(path: &Path, name: &OsStr, args: &[&OsStr], variables: &Variables) -> io::Error {
    Command::new(path).arg0(name).args(args).env_clear().envs(variables).exec()
}

/// The file behind a program's name.
fn find(name: &OsStr, variables: &Variables) -> Result<PathBuf, Failure> {
    if name.as_bytes().contains(&b'/') {
        let path = Path::new(name);
        return match fs::metadata(path) {
            Err(_) => Err(Failure::not_found(name)),
            Ok(_) if is_executable(path) => Ok(path.to_owned()),
            Ok(_) => Err(Failure::not_executable(name)),
        };
    }
    let folders = variables.get(OsStr::new("PATH")).map_or(OsStr::new(PATH), OsString::as_os_str);
    let found = env::split_paths(folders).filter(|_| !name.is_empty()).find_map(|folder| {
        // An empty one means this one.
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        Some(folder.join(name)).filter(|path| is_executable(path))
    });
    found.ok_or_else(|| Failure::not_found(name))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) && access(path, Access::EXEC_OK).is_ok()
}

/// The terminal's name, where it has one in this container.
fn terminal_path() -> Option<PathBuf> {
    fs::read_link("/proc/self/fd/0").ok().filter(|path| path.starts_with("/dev/pts"))
}
