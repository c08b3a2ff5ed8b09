//! Host keys: the files with them, who may read those, and what they are called.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::RsaKeypair;
use russh::keys::{self, Algorithm, EcdsaCurve, HashAlg, PrivateKey};

use super::config::Config;

/// Fingerprints of the keys in `keys-dev/`. Everybody has their private halves.
pub const DEVELOPMENT_KEY_FINGERPRINTS: &[&str] = &["SHA256:J/ZlGWN/JTg98h7NnVxQv5teGzNa7XtPngB6Mn93HBQ"];

/// The key that is made when none is configured, in the state folder.
const GENERATED_FILE: &str = "ssh_host_ed25519_key";

/// Less can be factored; sshd of today refuses less than 1024, clients less than 2048.
const RSA_BITS_MIN: u32 = 2048;

/// Less than this is on its way out (128 bits of security, as the other keys have). It is what ssh-keygen makes, too.
const RSA_BITS_WANTED: u32 = 3072;

/// A kind of host key that [`generate`] makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// What every client of the last ten years knows.
    #[default]
    Ed25519,
    /// On NIST P-256.
    Ecdsa,
    /// Of 3072 bits.
    Rsa,
}

/// Why there is no host key to serve with.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The file cannot be read.
    #[error("the host key `{}` cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// There is no usable private key in the file.
    #[error("the host key `{}` cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// Others than its owner can read or write the file.
    #[error(
        "the host key `{}` is open to others (mode {mode:04o}): it has to be taken for stolen; \
         if it is not, run `chmod 600 {}`", path.display(), path.display()
    )]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A new key cannot be written.
    #[error("the host key `{}` cannot be written: {reason}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// There is a file already, and somebody may trust the key in it.
    #[error("`{}` exists; a host key that clients may know is not overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A key that everybody has, on an address that others can reach.
    #[error(
        "the development host key {fingerprint} must not serve on `{listen}`, which is not a loopback address: \
         everybody has its private half; make one with `coracle hostkey generate` and name it in `ssh.hostKeys`"
    )]
    Development {
        /// The key.
        fingerprint: String,
        /// The listener.
        listen: SocketAddr,
    },
}

/// The host keys to serve with: those configured, else one in `state_dir`, which is made at the first start.
///
/// # Errors
/// A file is missing, open to others, no private key, or the development key where others can reach it.
pub fn load(config: &Config, state_dir: &Path) -> Result<Vec<PrivateKey>, HostKeyError> {
    let keys = if config.host_keys.is_empty() {
        vec![load_or_generate(&state_dir.join(GENERATED_FILE))?]
    } else {
        config.host_keys.iter().map(|path| load_file(path)).collect::<Result<_, _>>()?
    };
    refuse_development_key(config.listen.address(), &keys)?;
    Ok(keys)
}

/// Makes a key, readable by its owner alone, and its `.pub` beside it. Never overwrites either.
///
/// # Errors
/// One of the files exists or cannot be written.
pub fn generate(path: &Path, kind: Kind) -> Result<PrivateKey, HostKeyError> {
    let unusable = |error: keys::ssh_key::Error| unusable(path, &error);
    let mut key = random(kind).map_err(unusable)?;
    key.set_comment("coracle host key");
    let private = key.to_openssh(LineEnding::LF).map_err(unusable)?;
    let public = key.public_key().to_openssh().map_err(unusable)? + "\n";

    // The private half last: it is what a second start looks for.
    let public_path = public_path(path);
    if path.exists() {
        return Err(HostKeyError::Exists { path: path.to_owned() });
    }
    write_new(&public_path, public.as_bytes(), 0o644)?;
    write_new(path, private.as_bytes(), 0o600).inspect_err(|_| drop(std::fs::remove_file(&public_path)))?;
    Ok(key)
}

fn random(kind: Kind) -> keys::ssh_key::Result<PrivateKey> {
    let mut rng = safe_rng();
    match kind {
        Kind::Ed25519 => PrivateKey::random(&mut rng, Algorithm::Ed25519),
        Kind::Ecdsa => PrivateKey::random(&mut rng, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
        Kind::Rsa => {
            let bits = usize::try_from(RSA_BITS_WANTED).unwrap_or(usize::MAX);
            PrivateKey::new(RsaKeypair::random(&mut rng, bits)?.into(), "")
        }
    }
}

/// A key's name as clients show it: `SHA256:…`.
#[must_use]
pub fn fingerprint(key: &PrivateKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// Keeps keys that everybody has from serving where others can reach them.
///
/// # Errors
/// `listen` is not a loopback address and one of `keys` is a development key.
pub fn refuse_development_key(listen: SocketAddr, keys: &[PrivateKey]) -> Result<(), HostKeyError> {
    refuse(DEVELOPMENT_KEY_FINGERPRINTS, listen, keys)
}

fn refuse(known: &[&str], listen: SocketAddr, keys: &[PrivateKey]) -> Result<(), HostKeyError> {
    if listen.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    match keys.iter().map(fingerprint).find(|fingerprint| known.contains(&fingerprint.as_str())) {
        Some(fingerprint) => Err(HostKeyError::Development { fingerprint, listen }),
        None => Ok(()),
    }
}

fn load_or_generate(path: &Path) -> Result<PrivateKey, HostKeyError> {
    if path.exists() {
        return load_file(path);
    }
    if let Some(folder) = path.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|reason| HostKeyError::Unwritable { path: path.to_owned(), reason })?;
    }
    // A process that was killed between the two files leaves a public half that belongs to nothing.
    drop(std::fs::remove_file(public_path(path)));
    let key = generate(path, Kind::Ed25519)?;
    tracing::warn!(path = %path.display(), fingerprint = fingerprint(&key), "no `ssh.hostKeys`: made a host key");
    Ok(key)
}

fn load_file(path: &Path) -> Result<PrivateKey, HostKeyError> {
    load_file_unless_open(path, DEVELOPMENT_KEY_FINGERPRINTS)
}

/// Loads a key that is `known` to everybody, or that nobody but its owner can read.
fn load_file_unless_open(path: &Path, known: &[&str]) -> Result<PrivateKey, HostKeyError> {
    let unreadable = |reason| HostKeyError::Unreadable { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
    let key = keys::decode_secret_key(&text, None).map_err(|error| match error {
        keys::Error::KeyIsEncrypted => {
            unusable(path, &"a passphrase protects it; `ssh-keygen -p -N '' -f FILE` removes it")
        }
        error => unusable(path, &error),
    })?;
    match key.public_key().key_data().rsa().map(keys::ssh_key::public::RsaPublicKey::key_size) {
        Some(bits) if bits < RSA_BITS_MIN => {
            return Err(unusable(path, &format_args!("RSA with under {RSA_BITS_MIN} bits is not safe")));
        }
        Some(bits) if bits < RSA_BITS_WANTED => {
            tracing::warn!(path = %path.display(), bits, "an RSA host key should have {RSA_BITS_WANTED} bits or more");
        }
        _ => {}
    }
    // Git keeps no modes, so the development key lies open in every checkout; it is no secret anyway.
    if mode & 0o077 != 0 && !known.contains(&fingerprint(&key).as_str()) {
        return Err(HostKeyError::OpenToOthers { path: path.to_owned(), mode });
    }
    Ok(key)
}

fn unusable(path: &Path, reason: &impl ToString) -> HostKeyError {
    HostKeyError::Unusable { path: path.to_owned(), reason: reason.to_string() }
}

fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

/// Writes a file as a whole or not at all: a crash must not leave half a key under its name.
fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), HostKeyError> {
    let unwritable = |reason| HostKeyError::Unwritable { path: path.to_owned(), reason };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(unwritable)?;
    file.write_all(content).map_err(unwritable)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).map_err(unwritable)?;
    file.as_file().sync_all().map_err(unwritable)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(HostKeyError::Exists { path: path.to_owned() })
        }
        Err(error) => Err(unwritable(error.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn configured(paths: &[&Path]) -> Config {
        Config { host_keys: paths.iter().map(|path| path.to_path_buf()).collect(), ..Config::default() }
    }

    #[test]
    fn a_generated_key_is_private_and_is_the_same_at_the_next_start() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("new");

        let first = load(&Config::default(), &folder).unwrap();
        let second = load(&Config::default(), &folder).unwrap();

        assert_eq!(fingerprint(&first[0]), fingerprint(&second[0]));
        assert!(fingerprint(&first[0]).starts_with("SHA256:"));
        assert_eq!(mode_of(&folder), 0o700);
        assert_eq!(mode_of(&folder.join("ssh_host_ed25519_key")), 0o600);
        assert_eq!(mode_of(&folder.join("ssh_host_ed25519_key.pub")), 0o644);
    }

    #[test]
    fn each_kind_of_key_can_be_made_and_used() {
        let folder = tempfile::tempdir().unwrap();
        for (kind, algorithm) in
            [(Kind::Ed25519, "ssh-ed25519"), (Kind::Ecdsa, "ecdsa-sha2-nistp256"), (Kind::Rsa, "ssh-rsa")]
        {
            let path = folder.path().join(algorithm);

            generate(&path, kind).unwrap();

            let key = load_file(&path).unwrap();
            assert_eq!(key.algorithm().as_str(), algorithm);
            assert!(key.public_key().key_data().rsa().is_none_or(|rsa| rsa.key_size() == 3072));
        }
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = generate(&path, Kind::Ed25519).unwrap();

        assert!(matches!(generate(&path, Kind::Ed25519), Err(HostKeyError::Exists { .. })));
        assert_eq!(fingerprint(&load(&configured(&[&path]), folder.path()).unwrap()[0]), fingerprint(&key));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        generate(&path, Kind::Ed25519).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();

        let error = load(&configured(&[&path]), folder.path()).unwrap_err().to_string();

        assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_key_that_everybody_has_may_be_read_by_everybody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let known = fingerprint(&generate(&path, Kind::Ed25519).unwrap());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();

        assert!(load_file_unless_open(&path, &[&known]).is_ok());
        assert!(load_file_unless_open(&path, &[]).is_err());
    }

    #[test]
    fn what_is_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "hello").unwrap();

        let error = load(&configured(&[&path]), folder.path()).unwrap_err();
        assert!(matches!(error, HostKeyError::Unusable { .. }), "{error}");

        let error = load(&configured(&[&folder.path().join("none")]), folder.path()).unwrap_err();
        assert!(matches!(error, HostKeyError::Unreadable { .. }), "{error}");
    }

    #[test]
    fn a_key_that_everybody_has_serves_on_loopback_addresses_only() {
        let random = || PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let keys = [random(), random()];
        let known = fingerprint(&keys[1]);
        let refused = |listen: &str| refuse(&[&known], listen.parse().unwrap(), &keys).is_err();

        for open in ["0.0.0.0:2222", "[::]:22", "192.0.2.1:22", "[::ffff:192.0.2.1]:22"] {
            assert!(refused(open), "{open}");
            assert!(refuse_development_key(open.parse().unwrap(), &[random()]).is_ok());
        }
        for loopback in ["127.0.0.1:2222", "127.0.0.9:1", "[::1]:22", "[::ffff:127.0.0.1]:22"] {
            assert!(!refused(loopback), "{loopback}");
        }
    }
}
