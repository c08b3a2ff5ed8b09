//! Puts the ways of proving who one is together: which is wanted next, and what they have shown when all is proven.

use std::net::SocketAddr;

use super::login::Login;
use super::users::Users;
use super::{AuthorizedKeys, Config, Method, PublicKey, Requirement};
use crate::identity::{Identity, Restrictions};
use crate::ids::{ConnectionId, Username};
use crate::secret::Secret;

/// Who asks, as far as nobody has to prove it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Where the client is.
    pub source: SocketAddr,
    /// Its connection.
    pub connection: ConnectionId,
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
    /// A code of an authenticator app.
    Code(Secret<String>),
}

/// What comes of it.
#[derive(Debug)]
pub enum Answer {
    /// All is proven.
    Accept(Box<Identity>),
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

/// What one proof has shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    pub(super) restrictions: Restrictions,
    pub(super) environment: Vec<(String, String)>,
    pub(super) key_fingerprint: Option<String>,
}

/// The way in.
#[derive(Debug)]
pub struct Door {
    users: Users,
    config: Config,
    keys: AuthorizedKeys,
}

/// A name as it was typed, taken apart.
struct Name<'a> {
    profile: Option<&'a str>,
    /// What stands for the user in files and hooks: for a name that cannot be one, one that nobody has.
    username: Username,
    is_sound: bool,
}

impl Door {
    /// From the section `auth`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let users = Users { users: config.users.clone(), groups: config.groups.clone() };
        let keys = AuthorizedKeys::new(config.authorized_keys_file.clone());
        Self { users, config: config.clone(), keys }
    }

    /// What may be tried next by whoever claims to be `typed`.
    #[must_use]
    pub fn methods(&self, login: &Login, typed: &str) -> Vec<Method> {
        if login.is_exhausted() {
            return Vec::new();
        }
        let passed: &[Method] = if login.typed == typed { &login.passed } else { &[] };
        let (_, username) = self.users.split(typed);
        let mut methods = Vec::new();
        for next in self.requirements(username).filter_map(|requirement| requirement.next(passed)) {
            if !methods.contains(&next) {
                methods.push(next);
            }
        }
        methods
    }

    /// What is enough for a user, without what is not set up.
    fn requirements(&self, username: &str) -> impl Iterator<Item = &Requirement> {
        let groups = self.users.groups_of(username);
        let requirements = self.config.methods.of(username, groups).iter();
        requirements.filter(|requirement| requirement.methods().iter().all(|method| self.has(*method)))
    }

    fn has(&self, method: Method) -> bool {
        match method {
            Method::None => true,
            Method::PublicKey => true,
            Method::Certificate | Method::Password | Method::Totp => false,
        }
    }

    /// Whether a key that is offered is worth a signature.
    pub async fn wants(&self, login: &mut Login, caller: &Caller, typed: &str, key: &PublicKey) -> bool {
        login.bind(typed);
        let methods = self.methods(login, typed);
        let name = self.name(typed);
        let known = self.find_key(login, caller, &name, key).await.is_some();
        known && name.is_sound && methods.contains(&Method::PublicKey)
    }

    /// Judges what a client brings forward for the name it claims.
    pub async fn prove(&self, login: &mut Login, caller: &Caller, typed: &str, evidence: Evidence) -> Answer {
        login.bind(typed);
        let name = self.name(typed);
        let wanted = self.methods(login, typed);
        let guessed = !matches!(evidence, Evidence::Nothing);
        let method = method_of(&evidence);
        let proof =
            if wanted.contains(&method) { self.judge(login, caller, &name, &evidence).await } else { None };
        let accepted =
            proof.filter(|_| name.is_sound).is_some_and(|proof| self.take(login, &name, method, proof));
        if !accepted {
            if guessed {
                login.guessed_wrong();
            }
            return Answer::Deny { methods: self.methods(login, typed), guessed };
        }
        let complete = self.requirements(name.username.as_str()).any(|one| one.methods() == login.passed);
        match login.identity.clone() {
            Some(identity) if complete => Answer::Accept(Box::new(identity)),
            _ => Answer::More(self.methods(login, typed)),
        }
    }

    async fn judge(
        &self,
        login: &mut Login,
        caller: &Caller,
        name: &Name<'_>,
        evidence: &Evidence,
    ) -> Option<Proof> {
        match evidence {
            Evidence::Nothing => Some(Proof::default()),
            Evidence::Key(key) => self.find_key(login, caller, name, key).await,
            Evidence::Password(_) | Evidence::Code(_) => None,
        }
    }

    async fn find_key(&self, _: &mut Login, _: &Caller, name: &Name<'_>, key: &PublicKey) -> Option<Proof> {
        self.keys
            .find(&name.username, key)
            .await
            .then(|| Proof { key_fingerprint: Some(key.fingerprint.clone()), ..Proof::default() })
    }

    /// Adds what a proof has shown to what was known. `false` where the two exclude each other.
    fn take(&self, login: &mut Login, name: &Name<'_>, method: Method, proof: Proof) -> bool {
        let mut identity = login.identity.take().unwrap_or_else(|| self.introduce(name));
        let Some(restrictions) = identity.restrictions.and(proof.restrictions) else {
            tracing::warn!(user = %name.username, "two proofs force different commands");
            return false;
        };
        identity.restrictions = restrictions;
        identity.environment.extend(proof.environment);
        identity.key_fingerprint = identity.key_fingerprint.or(proof.key_fingerprint);
        login.identity = Some(identity);
        login.passed.push(method);
        true
    }

    /// Who the configuration says this is.
    fn introduce(&self, name: &Name<'_>) -> Identity {
        let username = name.username.as_str();
        let mut identity = Identity::proven(name.username.clone());
        identity.groups = self.users.groups_of(username).to_vec();
        identity.profile = name.profile.or_else(|| self.users.profile_of(username)).map(str::to_owned);
        identity
    }

    fn name<'a>(&self, typed: &'a str) -> Name<'a> {
        let (profile, username) = self.users.split(typed);
        let parsed = Username::parse(username);
        let is_sound = parsed.is_some();
        Name { profile, username: parsed.unwrap_or_else(Username::nobody), is_sound }
    }
}

fn method_of(evidence: &Evidence) -> Method {
    match evidence {
        Evidence::Nothing => Method::None,
        Evidence::Password(_) => Method::Password,
        Evidence::Key(_) => Method::PublicKey,
        Evidence::Code(_) => Method::Totp,
    }
}
