//! A login as russh sees it: its callbacks put to `auth`, and the verdicts put in its words.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;

use russh::keys::Certificate as RusshCertificate;
use russh::keys::ssh_key::HashAlg;
use russh::keys::{Algorithm, PublicKey as RusshKey, PublicKeyBase64};
use russh::server::Auth;
use russh::{MethodKind, MethodSet};

use super::services::Profile;
use super::shared::Shared;
use crate::auth::{self, Answer, Evidence, Facts, Method, PublicKey};
use crate::events::{Happening, Proof, Vouched};
use crate::identity::Identity;
use crate::ids::shown_name;
use crate::policy;
use crate::secret::Secret;

/// Sizes of RSA keys that may log in.
const RSA_BITS: RangeInclusive<u32> = 2048..=8192;

/// Longest text that a client may send for a code, in bytes.
const CODE_BYTES_MAX: usize = 256;

/// Somebody who is in.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    /// What was proven: `publicKey+totp`.
    pub(super) methods: String,
    pub(super) identity: Identity,
    pub(super) profile: Arc<Profile>,
}

/// One connection's way in.
pub(super) struct Desk {
    shared: Arc<Shared>,
    login: auth::Login,
    admitted: Option<Admitted>,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, login: auth::Login::default(), admitted: None }
    }

    /// Who has come in, once somebody has.
    pub(super) fn admitted(&self) -> Option<&Admitted> {
        self.admitted.as_ref()
    }

    /// Somebody who proves nothing; most clients begin so, to learn what they may try.
    pub(super) async fn nothing(&mut self, user: &str) -> Auth {
        self.judge(user, Evidence::Nothing).await
    }

    pub(super) async fn password(&mut self, user: &str, password: &str) -> Auth {
        self.judge(user, Evidence::Password(Secret::new(password.to_owned()))).await
    }

    /// A key before its signature: whether it is worth one.
    pub(super) async fn offer(&mut self, user: &str, key: &RusshKey, algorithm: &Algorithm) -> Auth {
        self.shared.suspect.tries();
        let services = Arc::clone(&self.shared.services);
        if is_strong(key, algorithm)
            && services.door.wants(&mut self.login, &self.shared.caller, user, &public(key)).await
        {
            return Auth::Accept;
        }
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        self.tell(user, Method::PublicKey, (Some(fingerprint), None), Proof::Refused);
        reject(&services.door.methods(&self.login, user), false)
    }

    /// A key whose signature was checked. Judged anew: what was offered before may have been another, or another user's.
    pub(super) async fn key(&mut self, user: &str, key: &RusshKey, algorithm: &Algorithm) -> Auth {
        let evidence = if is_strong(key, algorithm) { Evidence::Key(public(key)) } else { Evidence::Nothing };
        self.judge(user, evidence).await
    }

    /// A certificate whose authority's signature and whose own was checked.
    pub(super) async fn certificate(&mut self, user: &str, certificate: &RusshCertificate) -> Auth {
        let evidence = match certificate.to_bytes().ok().and_then(|blob| auth::Certificate::parse(&blob).ok())
        {
            Some(certificate) => Evidence::Certificate(Box::new(certificate)),
            None => Evidence::Nothing,
        };
        self.judge(user, evidence).await
    }

    /// Asks for a code, and judges what is answered.
    pub(super) async fn interactive(&mut self, user: &str, answers: Option<Vec<Vec<u8>>>) -> Auth {
        let methods = self.shared.services.door.methods(&self.login, user);
        if !methods.contains(&Method::Totp) {
            self.tell(user, Method::Totp, (None, None), Proof::Refused);
            return reject(&methods, false);
        }
        let Some(answers) = answers else {
            return Auth::Partial {
                name: Cow::Borrowed(""),
                instructions: Cow::Borrowed(""),
                prompts: Cow::Borrowed(&[(Cow::Borrowed("Verification code: "), false)]),
            };
        };
        let code = match answers.as_slice() {
            [code] if code.len() <= CODE_BYTES_MAX => String::from_utf8_lossy(code).into_owned(),
            _ => String::new(),
        };
        self.judge(user, Evidence::Code(Secret::new(code))).await
    }

    fn tell(&self, user: &str, method: Method, (key, certificate): Shown, outcome: Proof) {
        let (name, method) = (shown_name(user), method.name());
        self.shared.teller.tell(&Happening::Proven { name, method, key, certificate, outcome });
    }

    async fn judge(&mut self, user: &str, evidence: Evidence) -> Auth {
        let shared = Arc::clone(&self.shared);
        let (method, shown) = (evidence.method(), shown(&evidence));
        let answer = shared.services.door.prove(&mut self.login, &shared.caller, user, evidence).await;
        let outcome = match &answer {
            Answer::Accept(_) => Proof::Accepted,
            Answer::More(_) => Proof::Partial,
            Answer::Deny { .. } => Proof::Refused,
        };
        self.tell(user, method, shown, outcome);
        match answer {
            Answer::Accept(proven) => self.admit(*proven).await,
            Answer::More(methods) => reject(&methods, true),
            Answer::Deny { methods, guessed } => {
                if guessed {
                    shared.suspect.guess_failed();
                }
                if self.login.is_exhausted() {
                    shared.exhausted.cancel();
                }
                reject(&methods, false)
            }
        }
    }

    /// Lets in who has proven enough, if there is something to be had.
    async fn admit(&mut self, (identity, facts): (Identity, Facts)) -> Auth {
        let shared = &self.shared;
        let user = identity.username().clone();
        if let Some(reason) = shared.services.events.objection() {
            shared.teller.tell(&Happening::LoginRefused { reason: "audit", detail: reason.to_owned() });
            self.login.forget();
            return reject(&[], false);
        }
        match shared.services.profiles.of(identity, &facts, &shared.caller).await {
            Ok((identity, profile)) => {
                let left_out = policy::variables_left_out(&identity);
                if !left_out.is_empty() {
                    tracing::warn!(connection = %shared.id, %user, variables = left_out.join(" "), "variables are left out");
                }
                shared.teller.is_of(user.as_str());
                self.admitted = Some(Admitted { methods: self.login.passed(), identity, profile });
                Auth::Accept
            }
            Err(reason) => {
                tracing::warn!(connection = %shared.id, %user, reason, "nobody comes in without a profile");
                shared.teller.tell(&Happening::LoginRefused { reason: "profile", detail: reason });
                self.login.forget();
                reject(&[], false)
            }
        }
    }
}

/// A key's fingerprint, and a certificate.
type Shown = (Option<String>, Option<Box<Vouched>>);

fn shown(evidence: &Evidence) -> Shown {
    let certificate = match evidence {
        Evidence::Certificate(certificate) => Some(Box::new(Vouched {
            id: certificate.key_id.clone(),
            serial: certificate.serial,
            authority: certificate.ca.fingerprint.clone(),
        })),
        _ => None,
    };
    (evidence.key_fingerprint().map(str::to_owned), certificate)
}

fn public(key: &RusshKey) -> PublicKey {
    PublicKey { blob: key.public_key_bytes(), fingerprint: key.fingerprint(HashAlg::Sha256).to_string() }
}

/// No signature with SHA-1, as at sshd, and no RSA key that is weak or costs much to check.
fn is_strong(key: &RusshKey, algorithm: &Algorithm) -> bool {
    let rsa_fits = key.key_data().rsa().is_none_or(|rsa| RSA_BITS.contains(&rsa.key_size()));
    rsa_fits && !matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa)
}

/// A refusal that leaves open what may be tried: without that a user who mistyped gets one try instead of several.
fn reject(methods: &[Method], partial_success: bool) -> Auth {
    let kinds: Vec<MethodKind> = methods
        .iter()
        .map(|method| match method {
            Method::None => MethodKind::None,
            Method::PublicKey | Method::Certificate => MethodKind::PublicKey,
            Method::Password => MethodKind::Password,
            Method::Totp => MethodKind::KeyboardInteractive,
        })
        .collect();
    Auth::Reject { proceed_with_methods: Some(MethodSet::from(kinds.as_slice())), partial_success }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOfDGk9gGFMLqYJE4R+hXGpGqQ5rj2Fq0V1rk0xDbq5o";

    #[test]
    fn a_signature_with_sha1_does_not_count() {
        let key = RusshKey::from_openssh(ED25519).unwrap();

        assert!(is_strong(&key, &Algorithm::Ed25519));
        assert!(!is_strong(&key, &Algorithm::Rsa { hash: None }));
    }
}
