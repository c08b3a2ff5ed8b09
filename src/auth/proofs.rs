//! Each way of proving who one is, asked of whoever answers for it: the configuration, files, or a web hook.

use base64::Engine as _;

use super::door::{Caller, Proof};
use super::methods::Method;
use super::users::User;
use super::{AuthorizedKeys, Config, PasswordChecker, PublicKey, TotpBook};
use crate::hook::config::MethodConfig;
use crate::hook::{self, AuthzHook, Facts, HookError, HookVerdict, PasswordHook, PublicKeyHook};
use crate::ids::Username;
use crate::secret::Secret;

/// Who answers for what.
#[derive(Debug)]
pub(super) struct Proofs {
    keys: AuthorizedKeys,
    has_keys: bool,
    passwords: PasswordChecker,
    has_passwords: bool,
    totp: TotpBook,
    has_totp: bool,
    password_hook: Option<PasswordHook>,
    key_hook: Option<PublicKeyHook>,
    authz_hook: Option<AuthzHook>,
}

impl Proofs {
    pub(super) fn new(config: &Config, totp: TotpBook) -> Result<Self, HookError> {
        let users = || config.users.values();
        let hashes = users().filter_map(|user| user.password_hash.as_ref());
        let password_hook = config.password.hook().map(PasswordHook::new).transpose()?;
        let key_hook = config.public_key.hook().map(PublicKeyHook::new).transpose()?;
        let lists_keys = || users().any(|user| !user.authorized_keys.is_empty());
        Ok(Self {
            keys: AuthorizedKeys::new(config.authorized_keys_file.clone()),
            has_keys: key_hook.is_some() || config.authorized_keys_file.is_some() || lists_keys(),
            passwords: PasswordChecker::new(hashes.clone()),
            has_passwords: password_hook.is_some() || hashes.count() > 0,
            totp,
            has_totp: users().any(|user| user.totp_file.is_some()),
            password_hook,
            key_hook,
            authz_hook: config.authz.hook().map(AuthzHook::new).transpose()?,
        })
    }

    /// Whether anybody at all can prove something in this way. Not whether a certain user can: nobody is to learn that.
    pub(super) fn has(&self, method: Method) -> bool {
        match method {
            Method::None => true,
            Method::PublicKey => self.has_keys,
            Method::Certificate => false,
            Method::Password => self.has_passwords,
            Method::Totp => self.has_totp,
        }
    }

    pub(super) async fn password(
        &self,
        caller: &Caller,
        username: &Username,
        user: Option<&User>,
        password: &Secret<String>,
    ) -> Option<Proof> {
        if let Some(hook) = &self.password_hook {
            return heard(hook.ask(&hook_caller(caller, username), password).await, caller, "password");
        }
        let hash = user.and_then(|user| user.password_hash.as_ref());
        self.passwords.check(hash, password).await.then(Proof::default)
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
        _user: Option<&User>,
        key: &PublicKey,
    ) -> Option<Proof> {
        let fingerprint = || Some(key.fingerprint.clone());
        if let Some(hook) = &self.key_hook {
            let proof =
                heard(hook.ask(&hook_caller(caller, username), &in_openssh(key)).await, caller, "publicKey");
            return proof.map(|proof| Proof { key_fingerprint: fingerprint(), ..proof });
        }
        let known = self.keys.find(username, key).await;
        known.then(|| Proof { key_fingerprint: fingerprint(), ..Proof::default() })
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
