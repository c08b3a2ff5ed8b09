//! The transport's settings (RFC 4253): algorithms, keep-alive, time-outs.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};

use super::Config;
use super::config::Penalties;
use super::network::Network;
use crate::ids::ConnectionId;

/// Window of a channel towards us, in bytes: what a fast path across the world keeps in flight.
const WINDOW_BYTES: u32 = 2 << 20;

/// Most refused keys on a connection. Not OpenSSH's 6: it counts each key of a client's agent, and people who have
/// many would be sent away before their right one's turn.
const AUTH_ATTEMPTS_MAX: usize = 20;

/// How long a peer may take nothing that we write, where keep-alive is switched off.
const STALL_TIMEOUT_DEFAULT: Duration = Duration::from_mins(10);

/// What we call ourselves (RFC 4253 §4.2).
const VERSION: &str = concat!("SSH-2.0-Coracle_", env!("CARGO_PKG_VERSION"));

/// "No limit" for a login, as a deadline that can be computed with.
const LOGIN_GRACE_UNLIMITED: Duration = Duration::from_hours(24 * 365);

/// Settings of every connection's transport.
#[derive(Clone)]
pub struct Transport {
    pub(super) russh: Arc<russh::server::Config>,
    /// From the accept to the login.
    pub(super) login_grace: Duration,
    /// Silence of the peer after which it counts as dead.
    pub(super) dead_after: Duration,
    /// For what is done wrong before a login.
    pub(super) penalties: Penalties,
    /// Who tells by a PROXY protocol header whose connection it is.
    pub(super) proxies: Vec<Network>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("dead_after", &self.dead_after).finish_non_exhaustive()
    }
}

impl Transport {
    /// From the configuration, with these host keys.
    #[must_use]
    pub fn new(config: &Config, host_keys: Vec<PrivateKey>) -> Self {
        let missed = config.keep_alive.max_missed.get();
        let interval = config.keep_alive.interval.unless_zero();
        let russh = russh::server::Config {
            server_id: SshId::Standard(Cow::Borrowed(VERSION)),
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            keys: host_keys,
            preferred: algorithms(),
            window_size: WINDOW_BYTES,
            auth_rejection_time: Duration::ZERO,
            auth_rejection_time_initial: Some(Duration::ZERO),
            max_auth_attempts: AUTH_ATTEMPTS_MAX,
            // Ours are the keep-alive, the login grace time and the bound on stalls.
            inactivity_timeout: None,
            keepalive_interval: interval,
            // russh gives up one interval after it has sent this many.
            keepalive_max: usize::from(missed.saturating_sub(1)).max(1),
            nodelay: true,
            ..russh::server::Config::default()
        };
        Self {
            russh: Arc::new(russh),
            login_grace: config.login_grace_time.unless_zero().unwrap_or(LOGIN_GRACE_UNLIMITED),
            dead_after: interval.map_or(STALL_TIMEOUT_DEFAULT, |interval| interval * u32::from(missed)),
            penalties: config.penalties.clone(),
            proxies: config.proxy_protocol.trusted.clone(),
        }
    }
}

impl Transport {
    /// The same with the connection's id as the comment of our version, which `ssh -v` shows: who has a problem that no message
    /// of ours goes with can still say which connection had it.
    pub(super) fn of_connection(&self, id: &ConnectionId) -> Arc<russh::server::Config> {
        let all = &*self.russh;
        Arc::new(russh::server::Config {
            server_id: SshId::Standard(Cow::Owned(format!("{VERSION} {id}"))),
            methods: all.methods.clone(),
            keys: all.keys.clone(),
            certificates: all.certificates.clone(),
            limits: all.limits.clone(),
            preferred: all.preferred.clone(),
            ..*all
        })
    }
}

/// What `ssh-audit` has no complaint about; no SHA-1, no CBC, no compression before or after the login.
fn algorithms() -> Preferred {
    const KEX: &[kex::Name] = &[
        kex::MLKEM768X25519_SHA256,
        kex::CURVE25519,
        kex::CURVE25519_PRE_RFC_8731,
        kex::EXTENSION_SUPPORT_AS_SERVER,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
    ];
    const KEYS: &[Algorithm] = &[
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ];
    const CIPHERS: &[cipher::Name] = &[
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_GCM,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ];
    const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];
    const COMPRESSION: &[compression::Name] = &[compression::NONE];
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Borrowed(KEYS),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(COMPRESSION),
        ..Preferred::DEFAULT
    }
}
