//! Puts the ways of proving who one is together: which is wanted next, and who it is when all is proven.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use super::login::Login;
use super::proofs::{NobodyKnows, Proofs};
use super::users::Users;
use super::{Certificate, Config, Method, Methods, PasswordChecker, PublicKey, Requirement, TotpBook};
use crate::hook::{self, HookError};
use crate::identity::{Identity, Restrictions};
use crate::ids::{ConnectionId, Username, shown_name};
use crate::secret::Secret;

/// Who asks, as far as nobody has to prove it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Where the client is.
    pub source: SocketAddr,
    /// Its connection.
    pub connection: ConnectionId,
    /// What it calls itself (RFC 4253 §4.2), once it has.
    pub client_version: Arc<OnceLock<String>>,
}

/// What a client brings forward.
#[derive(Debug)]
pub enum Evidence {
    /// Nothing (RFC 4252 §5.2).
    Nothing,
    /// A password.
    Password(Secret<String>),
    /// A key, with a signature that was checked.
    Key(PublicKey),
    /// A certificate, with signatures that were checked: its authority's, and one by its key.
    Certificate(Box<Certificate>),
    /// A code of an authenticator app.
    Code(Secret<String>),
}

impl Evidence {
    /// Of what kind it is.
    #[must_use]
    pub fn method(&self) -> Method {
        match self {
            Self::Nothing => Method::None,
            Self::Password(_) => Method::Password,
            Self::Key(_) => Method::PublicKey,
            Self::Certificate(_) => Method::Certificate,
            Self::Code(_) => Method::Totp,
        }
    }

    /// `SHA256:…` of the key, where it is one.
    #[must_use]
    pub fn key_fingerprint(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(&key.fingerprint),
            Self::Certificate(certificate) => Some(&certificate.key.fingerprint),
            Self::Nothing | Self::Password(_) | Self::Code(_) => None,
        }
    }
}

/// What comes of it.
#[derive(Debug)]
pub enum Answer {
    /// All is proven; and what hooks said about it, for the next hook.
    Accept(Box<(Identity, hook::Facts)>),
    /// It was right, and one of these has to come next (RFC 4252 §5.1, partial success).
    More(Vec<Method>),
    /// It proves nothing.
    Deny {
        /// What may be tried.
        methods: Vec<Method>,
        /// Whether it was a guess: something that only its owner could know or have, and that was wrong.
        guessed: bool,
    },
}

/// What has been shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    pub(super) restrictions: Restrictions,
    pub(super) environment: Vec<(String, String)>,
    pub(super) key_fingerprint: Option<String>,
    /// What a certificate's principal gets.
    pub(super) profile: Option<String>,
    /// What hooks said.
    pub(super) facts: hook::Facts,
}

/// The way in.
#[derive(Debug)]
pub struct Door {
    users: Users,
    methods: Methods,
    proofs: Proofs,
}

/// A name as it was typed, taken apart.
pub(super) struct Name<'a> {
    profile: Option<&'a str>,
    /// For a name that cannot be one, one that nobody has.
    pub(super) username: Username,
    is_sound: bool,
}

impl Door {
    /// From the section `auth`. What bounds the checks of passwords, and remembers codes, outlives a reload.
    ///
    /// # Errors
    /// A hook cannot be set up.
    pub fn new(config: &Config, passwords: &PasswordChecker, totp: TotpBook) -> Result<Self, HookError> {
        let users = Users { users: config.users.clone(), groups: config.groups.clone() };
        Ok(Self { users, methods: config.methods.clone(), proofs: Proofs::new(config, passwords, totp)? })
    }

    /// What may be tried next by whoever claims to be `typed`.
    #[must_use]
    pub fn methods(&self, login: &Login, typed: &str) -> Vec<Method> {
        let mut methods = Vec::new();
        if !login.is_exhausted() {
            let passed: &[Method] = if login.typed == typed { &login.passed } else { &[] };
            let (_, username) = self.users.split(typed);
            for next in self.requirements(username).filter_map(|requirement| requirement.next(passed)) {
                if !methods.contains(&next) {
                    methods.push(next);
                }
            }
        }
        methods
    }

    /// What is enough for a user, without what is not set up.
    fn requirements(&self, username: &str) -> impl Iterator<Item = &Requirement> {
        let requirements = self.methods.of(username, self.users.groups_of(username)).iter();
        requirements.filter(|requirement| requirement.methods().iter().all(|method| self.proofs.has(*method)))
    }

    /// Whether a key that is offered is worth a signature.
    pub async fn wants(&self, login: &mut Login, caller: &Caller, typed: &str, key: &PublicKey) -> bool {
        login.bind(typed);
        let methods = self.methods(login, typed);
        let name = self.name(typed);
        let user = self.users.get(name.username.as_str());
        let proof = self.proofs.key(caller, &name.username, user, key).await;
        let known = proof.is_some();
        login.offered = Some((key.blob.clone(), proof));
        // Whether it comes with a certificate is only seen with its signature.
        let may_be_vouched_for = self.proofs.may_be_vouched_for(&name.username, user).await;
        name.is_sound
            && (known && methods.contains(&Method::PublicKey)
                || may_be_vouched_for && methods.contains(&Method::Certificate))
    }

    /// Judges what a client brings forward for the name it claims.
    pub async fn prove(&self, login: &mut Login, caller: &Caller, typed: &str, evidence: Evidence) -> Answer {
        login.bind(typed);
        let name = self.name(typed);
        let method = evidence.method();
        let judged = if self.methods(login, typed).contains(&method) {
            self.judge(login, caller, &name, &evidence).await
        } else {
            Ok(None)
        };
        let is_judged = judged.is_ok();
        let proof = judged.ok().flatten().filter(|_| name.is_sound);
        if !proof.is_some_and(|proof| take(login, method, proof)) {
            // Of keys nobody guesses the private half; and an agent offers all it has.
            let guessed = is_judged && matches!(method, Method::Password | Method::Totp);
            if guessed {
                login.guessed_wrong();
            }
            return Answer::Deny { methods: self.methods(login, typed), guessed };
        }
        if !self.requirements(name.username.as_str()).any(|one| one.methods() == login.passed) {
            return Answer::More(self.methods(login, typed));
        }
        let authorized = self.proofs.authorize(caller, &name.username, &login.shown.facts).await;
        let Some(facts) = authorized else {
            login.forget();
            return Answer::Deny { methods: Vec::new(), guessed: false };
        };
        Answer::Accept(Box::new(self.introduce(&name, login, facts)))
    }

    async fn judge(
        &self,
        login: &mut Login,
        caller: &Caller,
        name: &Name<'_>,
        evidence: &Evidence,
    ) -> Result<Option<Proof>, NobodyKnows> {
        let username = &name.username;
        let user = self.users.get(username.as_str());
        Ok(match evidence {
            Evidence::Nothing => Some(Proof::default()),
            Evidence::Password(password) => self.proofs.password(caller, username, user, password).await?,
            Evidence::Certificate(certificate) => {
                self.proofs.certificate(caller, username, user, certificate).await
            }
            Evidence::Code(code) => self.proofs.code(username, user, code).await,
            Evidence::Key(key) => match login.offered.take() {
                Some((blob, proof)) if blob == key.blob => proof,
                _ => self.proofs.key(caller, username, user, key).await,
            },
        })
    }

    /// Who it is, now that all is proven. A hook may have given another name.
    fn introduce(&self, name: &Name<'_>, login: &Login, facts: hook::Facts) -> (Identity, hook::Facts) {
        let shown = login.shown.clone();
        let facts = shown.facts.and(facts);
        let username = facts.authenticated_username.clone().unwrap_or_else(|| name.username.clone());
        let known_as = username.as_str().to_owned();
        let mut identity = Identity::proven(username);
        identity.groups = self.users.groups_of(&known_as).to_vec();
        let own = || self.users.own_profile(&known_as).or(shown.profile.as_deref());
        let of_groups = || self.users.profile_of_groups(&known_as);
        identity.profile = name.profile.or_else(own).or_else(of_groups).map(str::to_owned);
        identity.key_fingerprint = shown.key_fingerprint;
        identity.restrictions = shown.restrictions;
        identity.environment = shown.environment;
        identity.environment.extend(facts.environment_values());
        identity.files = facts.file_contents();
        (identity, facts)
    }

    fn name<'a>(&self, typed: &'a str) -> Name<'a> {
        let (profile, username) = self.users.split(typed);
        let parsed = Username::parse(username);
        let is_sound = parsed.is_some();
        Name { profile, username: parsed.unwrap_or_else(Username::nobody), is_sound }
    }
}

/// Adds what a proof has shown to what was shown before. `false` where the two exclude each other.
fn take(login: &mut Login, method: Method, proof: Proof) -> bool {
    let Some(restrictions) = login.shown.restrictions.clone().and(proof.restrictions) else {
        // What was shown before still counts, restrictions included.
        tracing::warn!(user = shown_name(&login.typed), "two proofs force different commands");
        return false;
    };
    let before = std::mem::take(&mut login.shown);
    let mut environment = before.environment;
    environment.extend(proof.environment);
    login.shown = Proof {
        restrictions,
        environment,
        key_fingerprint: before.key_fingerprint.or(proof.key_fingerprint),
        profile: before.profile.or(proof.profile),
        facts: before.facts.and(proof.facts),
    };
    login.passed.push(method);
    true
}
