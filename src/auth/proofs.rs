//! Each way of proving who one is, asked of whoever answers for it: the configuration, files, or a web hook.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;

use super::door::{Caller, Proof};
use super::methods::Method;
use super::users::User;
use super::{
    Authorities, AuthorizedKeys, Certificate, CertificateGrant, Circumstances, Config, PasswordChecker,
    PublicKey, RevokedKeys, TotpBook,
};
use crate::hook::config::MethodConfig;
use crate::hook::{self, AuthzHook, Facts, HookError, HookVerdict, PasswordHook, PublicKeyHook};
use crate::ids::Username;
use crate::secret::Secret;

/// Whoever answers for it could not be asked. It lets nobody in, and is nobody's fault.
pub(super) struct NobodyKnows;

/// Who answers for what.
#[derive(Debug)]
pub(super) struct Proofs {
    /// The ways in which anybody at all can prove something.
    usable: Vec<Method>,
    keys: Arc<AuthorizedKeys>,
    revoked: Arc<RevokedKeys>,
    authorities: Authorities,
    /// By the principal of a certificate.
    profiles: BTreeMap<String, String>,
    passwords: PasswordChecker,
    totp: TotpBook,
    password_hook: Option<PasswordHook>,
    key_hook: Option<PublicKeyHook>,
    authz_hook: Option<AuthzHook>,
}

impl Proofs {
    pub(super) fn new(
        config: &Config,
        passwords: &PasswordChecker,
        totp: TotpBook,
    ) -> Result<Self, HookError> {
        let revoked = Arc::new(RevokedKeys::new(config.certificates.revoked_keys.clone()));
        let keys = AuthorizedKeys::new(config.authorized_keys_file.clone()).without(Arc::clone(&revoked));
        let keys = Arc::new(keys);
        let hashes = config.users.values().filter_map(|user| user.password_hash.as_ref());
        Ok(Self {
            usable: usable(config),
            authorities: Authorities::new(
                config.certificates.clone(),
                Arc::clone(&keys),
                Arc::clone(&revoked),
            ),
            keys,
            revoked,
            passwords: passwords.reloaded(hashes),
            profiles: config.certificates.profiles.clone(),
            totp,
            password_hook: config.password.hook().map(PasswordHook::new).transpose()?,
            key_hook: config.public_key.hook().map(PublicKeyHook::new).transpose()?,
            authz_hook: config.authz.hook().map(AuthzHook::new).transpose()?,
        })
    }

    /// Whether anybody at all can prove something in this way. Not whether a certain user can: nobody is to learn that.
    pub(super) fn has(&self, method: Method) -> bool {
        self.usable.contains(&method)
    }

    pub(super) async fn password(
        &self,
        caller: &Caller,
        username: &Username,
        user: Option<&User>,
        password: &Secret<String>,
    ) -> Result<Option<Proof>, NobodyKnows> {
        if let Some(hook) = &self.password_hook {
            let answer = hook.ask(&hook_caller(caller, username), password).await;
            let is_answer = answer.is_ok();
            let proof = heard(answer, caller, "password");
            return if is_answer { Ok(proof) } else { Err(NobodyKnows) };
        }
        let hash = user.and_then(|user| user.password_hash.as_ref());
        Ok(self.passwords.check(hash, password).await.then(Proof::default))
    }

    pub(super) async fn code(
        &self,
        username: &Username,
        user: Option<&User>,
        code: &Secret<String>,
    ) -> Option<Proof> {
        let file = user.and_then(|user| user.totp_file.as_deref());
        self.totp.verify(username, file, code).await.then(Proof::default)
    }

    pub(super) async fn key(
        &self,
        caller: &Caller,
        username: &Username,
        user: Option<&User>,
        key: &PublicKey,
    ) -> Option<Proof> {
        let key_fingerprint = Some(key.fingerprint.clone());
        if let Some(hook) = &self.key_hook {
            // What is revoked here is not for a hook to allow.
            if let Err(denied) = self.revoked.check_key(&key.blob).await {
                tracing::warn!(connection = %caller.connection, %denied, "no hook is asked about a key");
                return None;
            }
            let asked = hook_caller(caller, username);
            let proof = heard(hook.ask(&asked, &in_openssh(key)).await, caller, "publicKey");
            return proof.map(|proof| Proof { key_fingerprint, ..proof });
        }
        let account = user.map(User::account).unwrap_or_default();
        let granted =
            self.keys.find(username, &key.blob, account.authorized_keys, circumstances(caller)).await?;
        let (restrictions, environment) = (granted.restrictions, granted.environment);
        Some(Proof { restrictions, environment, key_fingerprint, ..Proof::default() })
    }

    /// Whether a key that is offered may come with a certificate that counts.
    pub(super) async fn may_be_vouched_for(&self, username: &Username, user: Option<&User>) -> bool {
        self.authorities.may_vouch_for(username, user.map(User::account).unwrap_or_default()).await
    }

    pub(super) async fn certificate(
        &self,
        caller: &Caller,
        username: &Username,
        user: Option<&User>,
        certificate: &Certificate,
    ) -> Option<Proof> {
        let account = user.map(User::account).unwrap_or_default();
        let connection = &caller.connection;
        match self.authorities.judge(username, certificate, account, circumstances(caller)).await {
            Ok(CertificateGrant {
                restrictions,
                environment,
                key_fingerprint,
                key_id,
                serial,
                principal,
                ..
            }) => {
                tracing::info!(%connection, key_id, serial, principal, "a certificate counts");
                let key_fingerprint = Some(key_fingerprint);
                let profile = self.profiles.get(&principal).cloned();
                Some(Proof { restrictions, environment, key_fingerprint, profile, ..Proof::default() })
            }
            Err(denied) => {
                tracing::info!(%connection, %denied, "a certificate does not count");
                None
            }
        }
    }

    /// Whether somebody who has proven enough may come in; what is said about them. `None`: no.
    pub(super) async fn authorize(
        &self,
        caller: &Caller,
        username: &Username,
        known: &Facts,
    ) -> Option<Facts> {
        let Some(hook) = &self.authz_hook else { return Some(Facts::default()) };
        heard(hook.ask(&hook_caller(caller, username), known).await, caller, "authz").map(|proof| proof.facts)
    }
}

fn circumstances(caller: &Caller) -> Circumstances {
    Circumstances { source: caller.source.ip(), now: SystemTime::now() }
}

/// What a hook's answer comes to. That it has said no, or nothing, is for the log alone.
fn heard(answer: Result<HookVerdict, HookError>, caller: &Caller, what: &str) -> Option<Proof> {
    let connection = &caller.connection;
    match answer {
        Ok(HookVerdict::Accept(facts)) => Some(Proof { facts, ..Proof::default() }),
        Ok(HookVerdict::Deny(denial)) => {
            tracing::info!(%connection, hook = what, %denial, "a hook says no");
            None
        }
        Err(error) => {
            tracing::warn!(%connection, hook = what, %error, "a hook cannot be asked");
            None
        }
    }
}

/// What the configuration has something for.
pub(super) fn usable(config: &Config) -> Vec<Method> {
    let users = || config.users.values();
    let lists_keys =
        config.authorized_keys_file.is_some() || users().any(|user| !user.authorized_keys.is_empty());
    let is_usable = |method: &Method| match method {
        Method::None => true,
        Method::PublicKey => config.public_key.hook().is_some() || lists_keys,
        // Lines of keys may name authorities, too.
        Method::Certificate => !config.certificates.trusted_cas.is_empty() || lists_keys,
        Method::Password => {
            config.password.hook().is_some() || users().any(|user| user.password_hash.is_some())
        }
        Method::Totp => users().any(|user| user.totp_file.is_some()),
    };
    let all = [Method::None, Method::PublicKey, Method::Certificate, Method::Password, Method::Totp];
    all.into_iter().filter(is_usable).collect()
}

/// The same in the hooks' words.
#[must_use]
pub fn hook_caller(caller: &Caller, username: &Username) -> hook::Caller {
    hook::Caller {
        username: username.clone(),
        remote_address: caller.source,
        connection_id: caller.connection.clone(),
        client_version: caller.client_version.get().cloned().unwrap_or_default(),
    }
}

/// A key as it stands in `authorized_keys`: its algorithm, and the blob that begins with it (RFC 4253 §6.6).
fn in_openssh(key: &PublicKey) -> String {
    let named = key.blob.split_first_chunk::<4>().and_then(|(length, rest)| {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        std::str::from_utf8(rest.get(..length)?).ok()
    });
    let blob = base64::engine::general_purpose::STANDARD.encode(&key.blob);
    format!("{} {blob}", named.unwrap_or_default())
}

/// What works and is hardly meant.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let hook = |method: &MethodConfig, key: &str| method.hook().and_then(|hook| hook.warning(key));
    let mut warnings: Vec<String> = [
        hook(&config.password, "auth.password.webhook"),
        hook(&config.public_key, "auth.publicKey.webhook"),
        hook(&config.authz, "auth.authz.webhook"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if config.methods.all().any(|requirement| requirement.methods() == [Method::None]) {
        warnings.push("`auth.methods` has `none`: anybody comes in without any proof".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::ids::ConnectionId;

    const BLOB: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOfDGk9gGFMLqYJE4R+hXGpGqQ5rj2Fq0V1rk0xDbq5o";

    /// A service that says yes to everything; its address.
    async fn consenting_service() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        TaskTracker::new().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                let answer =
                    "HTTP/1.1 200 OK\r\ncontent-length: 16\r\nconnection: close\r\n\r\n{\"success\":true}";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        format!("http://{address}")
    }

    /// A4
    #[tokio::test]
    async fn a_revoked_key_stays_out_whatever_the_hook_says() {
        let folder = tempfile::tempdir().unwrap();
        let revoked = folder.path().join("revoked");
        std::fs::write(&revoked, "").unwrap();
        let (url, file) = (consenting_service().await, revoked.display());
        let yaml = format!(
            "publicKey: {{method: webhook, webhook: {{url: '{url}'}}}}\ncertificates: {{revokedKeys: '{file}'}}"
        );
        let config: Config = serde_saphyr::from_str(&yaml).unwrap();
        let totp = TotpBook::new(folder.path());
        let proofs = Proofs::new(&config, &PasswordChecker::new([]), totp).unwrap();
        let blob = base64::engine::general_purpose::STANDARD.decode(BLOB).unwrap();
        let key = PublicKey { blob, fingerprint: String::new() };
        let source = "127.0.0.1:1".parse().unwrap();
        let caller = Caller { source, connection: ConnectionId::random(), client_version: Arc::default() };
        let alice = Username::parse("alice").unwrap();

        let before = proofs.key(&caller, &alice, None, &key).await;
        std::fs::write(&revoked, format!("ssh-ed25519 {BLOB}\n")).unwrap();
        let after = proofs.key(&caller, &alice, None, &key).await;

        assert!(before.is_some());
        assert!(after.is_none());
    }
}
