//! What users get: everybody's share of the configuration, and the profiles made of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::editions::{Editions, Recipe};
use crate::auth::{Caller, Facts, hook_caller};
use crate::config::{self, Config, Source};
use crate::engine::docker::{self, Docker, LaunchConfig};
use crate::hook::{ConfigHook, HookError};
use crate::identity::Identity;
use crate::policy::{EnvRules, Offer, Rules};
use crate::pool::{self, Edition, Pool, Stock, Terms};
use crate::ssh::{Profile, Profiles};
use crate::value::Span;

/// Different answers of the configuration hook that are remembered with the profile made of each. Past it all are
/// forgotten: a profile more costs little, but connections that share one share its pulls.
const ANSWERS_MAX: usize = 256;

/// Longest answer, as JSON in bytes, that is remembered; a longer one makes a profile of its own each time.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Profiles that answers of the configuration hook have made of another, by its name and the answer.
type Answers = HashMap<(Option<String>, String), Arc<Profile>>;

/// All profiles of a configuration.
pub(super) struct ProfileBook {
    config: Config,
    source: Source,
    docker: Arc<Docker>,
    pool: Pool,
    editions: Arc<Editions>,
    everybody: Arc<Profile>,
    named: BTreeMap<String, Arc<Profile>>,
    hook: Option<ConfigHook>,
    answers: Mutex<Answers>,
}

impl ProfileBook {
    /// Builds them; `pool` and `docker` are what their containers come from.
    ///
    /// # Errors
    /// The configuration hook cannot be set up.
    pub(super) fn new(
        config: &Config,
        source: Source,
        docker: &Arc<Docker>,
        pool: &Pool,
        editions: &Arc<Editions>,
    ) -> Result<Self, HookError> {
        let maker = Maker { config, docker, pool };
        let none = config::Profile {
            docker: config::ProfileDocker { config: config.docker.config.clone() },
            ..config::Profile::default()
        };
        let make = |name: &str, profile: &config::Profile| {
            let edition = editions.of(&maker.recipe(profile, None));
            Arc::new(maker.make(name, profile, None, Some(edition)))
        };
        let everybody = make("", &none);
        let profiles = config.profiles.iter().map(|(name, profile)| (name.as_str(), profile));
        let named = profiles.map(|(name, profile)| (name.to_owned(), make(name, profile)));
        Ok(Self {
            named: named.collect(),
            everybody,
            hook: config
                .configserver
                .url
                .is_set()
                .then(|| ConfigHook::new(&config.configserver))
                .transpose()?,
            config: config.clone(),
            source,
            docker: Arc::clone(docker),
            pool: pool.clone(),
            editions: Arc::clone(editions),
            answers: Mutex::default(),
        })
    }

    /// What is to wait for people.
    pub(super) fn stocks(&self) -> Vec<Stock> {
        let outside = &self.config.pool;
        let named = self.config.profiles.iter().filter_map(|(name, profile)| {
            Some((self.named.get(name.as_str())?, outside.with(&profile.pool)))
        });
        let stocks = named.chain([(&self.everybody, outside.clone())]);
        let stocks = stocks.map(|(profile, pool)| Stock {
            profile: profile.name.clone(),
            warm: usize::from(pool.warm.get()),
            max_age: pool.max_age.get(),
            pool: profile.pool.clone(),
        });
        stocks.collect()
    }

    fn find(&self, identity: &Identity) -> Result<&Arc<Profile>, String> {
        match identity.profile() {
            None => Ok(&self.everybody),
            Some(name) => self.named.get(name).ok_or_else(|| format!("there is no profile `{name}`")),
        }
    }

    /// The profile that a hook's answer makes of another.
    fn overlaid(&self, name: Option<&str>, answer: &Value) -> Result<Arc<Profile>, String> {
        let key = (name.map(str::to_owned), answer.to_string());
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(profile) = answers.get(&key) {
            return Ok(Arc::clone(profile));
        }
        // An answer may also name one of ours.
        let name = answer.get("profile").and_then(Value::as_str).or(name);
        if let Some(name) = name.filter(|name| !self.named.contains_key(*name)) {
            return Err(format!("there is no profile `{name}`"));
        }
        let profile = self.source.overlaid(name, answer.clone())?;
        if let Some(danger) = self.config.danger(&profile.docker.config) {
            return Err(danger.to_string());
        }
        let outer = self.config.profiles.iter().find(|(known, _)| Some(known.as_str()) == name);
        let outer = outer.map(|(_, profile)| profile);
        let maker = Maker { config: &self.config, docker: &self.docker, pool: &self.pool };
        // Where the answer changes nothing about containers, one that waits will do.
        let edition = self.editions.find(&maker.recipe(&profile, outer));
        let profile = Arc::new(maker.make(name.unwrap_or_default(), &profile, outer, edition));
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        if key.1.len() <= ANSWER_BYTES_MAX {
            answers.insert(key, Arc::clone(&profile));
        }
        Ok(profile)
    }
}

#[async_trait]
impl Profiles for ProfileBook {
    async fn of(
        &self,
        mut admitted: Identity,
        facts: &Facts,
        caller: &Caller,
    ) -> Result<(Identity, Arc<Profile>), String> {
        let profile = Arc::clone(self.find(&admitted)?);
        let Some(hook) = &self.hook else { return Ok((admitted, profile)) };
        let asked = hook_caller(caller, admitted.username());
        let answer = hook.ask(&asked, facts).await.map_err(|error| error.to_string())?;
        let name = admitted.profile().map(str::to_owned);
        let profile = self
            .overlaid(name.as_deref(), answer.config.expose())
            .map_err(|reason| format!("the configuration hook's answer is not right: {reason}"))?;
        admitted.environment.extend(answer.facts.environment_values());
        admitted.files.extend(answer.facts.file_contents());
        Ok((admitted, profile))
    }

    fn rules(&self, identity: &Identity) -> Option<Rules> {
        if self.hook.is_some() {
            return None;
        }
        self.find(identity).ok().map(|profile| profile.rules.clone())
    }
}

/// What profiles are made of.
struct Maker<'a> {
    config: &'a Config,
    docker: &'a Docker,
    pool: &'a Pool,
}

impl Maker<'_> {
    /// What its containers are made of. `outer` is the profile that this one lies over, if it does.
    fn recipe(&self, profile: &config::Profile, outer: Option<&config::Profile>) -> Recipe {
        let outer_sandbox = outer.and_then(|outer| outer.sandbox).unwrap_or(self.config.sandbox);
        let launch = profile.docker.config.clone();
        let forwards = self.rules(profile, outer).may_forward();
        Recipe { launch, sandbox: profile.sandbox.unwrap_or(outer_sandbox), forwards }
    }

    /// What may be done, by all layers of policy.
    fn rules(&self, profile: &config::Profile, outer: Option<&config::Profile>) -> Rules {
        // From the outermost layer to the innermost.
        let layers = [&self.config.policy]
            .into_iter()
            .chain(outer.map(|outer| &outer.policy))
            .chain([&profile.policy]);
        let rules = Rules::new(offer(self.config, &profile.docker.config));
        layers.fold(rules, |rules, layer| rules.narrowed_by(layer))
    }

    fn make(
        &self,
        name: &str,
        profile: &config::Profile,
        outer: Option<&config::Profile>,
        edition: Option<Edition>,
    ) -> Profile {
        let Recipe { launch, sandbox, forwards } = &self.recipe(profile, outer);
        let engine = self.docker.launching(launch, &self.config.docker.registries);
        let engine = Arc::new(engine.with_sandbox(*sandbox).with_forwarding(*forwards));
        let limits = &self.config.limits;
        let own =
            outer.map_or_else(|| profile.limits.clone(), |outer| profile.limits.clone().or(&outer.limits));
        let span = |own: Option<Span>, everybodys: Span| own.unwrap_or(everybodys).unless_zero();
        let pool_limits = pool::Limits {
            launch_timeout: launch.timeout.get(),
            containers: limits.max_containers,
            containers_of_profile: self.config.pool.with(&outer.unwrap_or(profile).pool).max,
            containers_per_user: own.max_containers_per_user.unwrap_or(limits.max_containers_per_user),
        };
        let terms = Terms { limits: pool_limits, mode: mode(launch), idle_timeout: kept(launch), edition };
        let rules = self.rules(profile, outer);
        Profile {
            name: name.to_owned(),
            pool: self.pool.variant(engine, terms),
            image: launch.image().to_owned(),
            sessions_max: rules.sessions_max(usize::from(limits.sessions_per_connection)),
            rules,
            max_lifetime: span(own.max_lifetime, limits.max_lifetime),
            idle_timeout: span(own.idle_timeout, limits.idle_timeout),
        }
    }
}

/// Who shares a container.
pub(super) fn mode(launch: &LaunchConfig) -> pool::Mode {
    match launch.mode {
        docker::Mode::Connection => pool::Mode::Connection,
        docker::Mode::Session => pool::Mode::Session,
        docker::Mode::Persistent => pool::Mode::Persistent,
    }
}

/// How long a persistent container stays unused.
pub(super) fn kept(launch: &LaunchConfig) -> Option<Duration> {
    launch.persistent.idle_timeout.unless_zero()
}

fn offer(config: &Config, launch: &LaunchConfig) -> Offer {
    let subsystems = launch.subsystems.iter();
    Offer {
        disable_shell: launch.disable_shell,
        disable_command: launch.disable_command,
        disable_subsystem: launch.disable_subsystem,
        shell_command: launch.shell_command.clone(),
        subsystems: subsystems.map(|(name, program)| (name.clone(), program.args().to_vec())).collect(),
        env: EnvRules::new(&config.env),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ids::Username;
    use crate::pool::{Reaper, Tenure};
    use crate::shutdown::Drain;

    const CONFIG: &str = "
docker: {config: {container: {image: outside}}}
limits: {maxLifetime: 1h, idleTimeout: 1m, sessionsPerConnection: 7}
policy: {maxSessions: 5}
profiles: {lab: {docker: {config: {container: {image: inside}}}, limits: {idleTimeout: 2m}, policy: {maxSessions: 3}}}
";

    fn book(text: &str) -> ProfileBook {
        let (config, source) = config::parse(text.as_bytes(), "config.yaml".as_ref()).unwrap();
        let docker = Arc::new(Docker::new(&config.docker).unwrap());
        let limits = pool::Limits {
            launch_timeout: Duration::from_secs(1),
            containers: 0,
            containers_of_profile: 0,
            containers_per_user: 0,
        };
        let instance = crate::ids::InstanceId::random();
        let tenure = Tenure { mode: pool::Mode::Connection, idle_timeout: None, instance };
        let engine = Arc::clone(&docker) as Arc<dyn crate::engine::Engine>;
        let pool = Pool::new(engine, Reaper::default(), &Drain::default(), limits, tenure);
        ProfileBook::new(&config, source, &docker, &pool, &Arc::default()).unwrap()
    }

    #[tokio::test]
    async fn equal_answers_share_a_profile_and_others_do_not() {
        let book = book(CONFIG);
        let answer = |seconds: u32| json!({"limits": {"maxLifetime": format!("{seconds}s")}});

        let profile = book.overlaid(Some("lab"), &answer(1)).unwrap();

        assert!(Arc::ptr_eq(&profile, &book.overlaid(Some("lab"), &answer(1)).unwrap()));
        assert!(!Arc::ptr_eq(&profile, &book.overlaid(Some("lab"), &answer(2)).unwrap()));
        assert!(!Arc::ptr_eq(&profile, &book.overlaid(None, &answer(1)).unwrap()));
    }

    #[tokio::test]
    async fn answers_without_end_are_forgotten() {
        let book = book(CONFIG);

        for seconds in 1..=2 * ANSWERS_MAX {
            let answer = json!({"limits": {"maxLifetime": format!("{seconds}s")}});
            let profile = book.overlaid(None, &answer).unwrap();
            assert_eq!(profile.max_lifetime, Some(Duration::from_secs(seconds as u64)));
        }

        assert!(book.answers.lock().unwrap().len() <= ANSWERS_MAX);
    }

    /// What an answer does not mention is as in the profile that it lies over, and that as outside of it.
    #[tokio::test]
    async fn layers_lie_over_each_other_and_policies_add_up() {
        let book = book(CONFIG);
        let minutes = |count: u64| Some(Duration::from_secs(60 * count));

        let bare = book.overlaid(Some("lab"), &json!({})).unwrap();
        let over = json!({"limits": {"idleTimeout": 0}, "policy": {"maxSessions": 4}});
        let over = book.overlaid(Some("lab"), &over).unwrap();
        let narrow = book.overlaid(None, &json!({"policy": {"maxSessions": 1}})).unwrap();

        assert_eq!((bare.max_lifetime, bare.idle_timeout, bare.sessions_max), (minutes(60), minutes(2), 3));
        assert_eq!((over.max_lifetime, over.idle_timeout, over.sessions_max), (minutes(60), None, 3));
        assert_eq!((narrow.idle_timeout, narrow.sessions_max), (minutes(1), 1));
        assert_eq!((bare.name.as_str(), narrow.name.as_str()), ("lab", ""));
    }

    /// Else somebody would get a container that was made for others.
    #[tokio::test]
    async fn an_answer_that_changes_nothing_about_containers_takes_those_that_wait_and_no_other_does() {
        let book = book(&format!("pool: {{warm: 2}}\n{CONFIG}"));
        let edition = |name: Option<&str>, answer| book.overlaid(name, &answer).unwrap().pool.edition();
        let (everybodys, labs) = (book.everybody.pool.edition(), book.named["lab"].pool.edition());

        assert!(everybodys.is_some() && labs.is_some() && everybodys != labs);
        assert_eq!(edition(None, json!({"limits": {"maxLifetime": "1s"}})), everybodys);
        assert_eq!(
            edition(Some("lab"), json!({"docker": {"config": {"container": {"image": "inside"}}}})),
            labs
        );
        assert_eq!(edition(None, json!({"profile": "lab"})), labs);
        assert_eq!(edition(None, json!({"docker": {"config": {"container": {"env": ["A=1"]}}}})), None);
        assert_eq!(edition(Some("lab"), json!({"sandbox": "off"})), None);
        let stocks: Vec<_> = book.stocks().into_iter().map(|stock| (stock.profile, stock.warm)).collect();
        assert_eq!(stocks, [("lab".to_owned(), 2), (String::new(), 2)]);
    }

    #[tokio::test]
    async fn a_profile_that_is_not_there_lets_nobody_in() {
        let mut identity = Identity::proven(Username::parse("alice").unwrap());
        identity.profile = Some("gone".to_owned());

        assert!(book(CONFIG).find(&identity).is_err_and(|reason| reason.contains("`gone`")));
    }
}
