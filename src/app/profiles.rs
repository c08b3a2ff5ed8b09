//! What users get: everybody's share of the configuration, and the profiles made of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::auth::Caller;
use crate::config::{self, Config, Source};
use crate::engine::docker::{self, Docker, LaunchConfig};
use crate::identity::Identity;
use crate::policy::config::PolicyConfig;
use crate::policy::{EnvRules, Offer, Rules};
use crate::pool::{self, Pool};
use crate::ssh::{Profile, Profiles};

/// All profiles of a configuration.
pub(super) struct ProfileBook {
    config: Config,
    source: Source,
    docker: Arc<Docker>,
    pool: Pool,
    everybody: Arc<Profile>,
    named: BTreeMap<String, Arc<Profile>>,
}

impl ProfileBook {
    /// Builds them; `pool` and `docker` are what their containers come from.
    pub(super) fn new(config: &Config, source: Source, docker: &Arc<Docker>, pool: &Pool) -> Self {
        let everybody = Maker { config, docker, pool };
        let none = config::Profile {
            docker: config::ProfileDocker { config: config.docker.config.clone() },
            ..config::Profile::default()
        };
        let named = config.profiles.iter().map(|(name, profile)| {
            let name = name.as_str();
            (name.to_owned(), Arc::new(everybody.make(name, profile, None)))
        });
        Self {
            named: named.collect(),
            everybody: Arc::new(everybody.make("", &none, None)),
            config: config.clone(),
            source,
            docker: Arc::clone(docker),
            pool: pool.clone(),
        }
    }

    fn find(&self, identity: &Identity) -> Result<&Arc<Profile>, String> {
        match identity.profile() {
            None => Ok(&self.everybody),
            Some(name) => self.named.get(name).ok_or_else(|| format!("there is no profile `{name}`")),
        }
    }
}

#[async_trait]
impl Profiles for ProfileBook {
    async fn of(&self, identity: &Identity, _caller: &Caller) -> Result<Arc<Profile>, String> {
        self.find(identity).cloned()
    }

    fn rules(&self, identity: &Identity) -> Option<Rules> {
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
    /// `outer` is the policy of the profile that this one lies over, if it does.
    fn make(&self, name: &str, profile: &config::Profile, outer: Option<&PolicyConfig>) -> Profile {
        let launch = &profile.docker.config;
        let engine = Arc::new(self.docker.launching(launch, &self.config.docker.registries));
        let limits = &self.config.limits;
        let span = |own: Option<crate::value::Span>, everybodys: crate::value::Span| {
            own.unwrap_or(everybodys).unless_zero()
        };
        let pool_limits = pool::Limits {
            launch_timeout: launch.timeout.get(),
            containers: limits.max_containers,
            containers_per_user: profile
                .limits
                .max_containers_per_user
                .unwrap_or(limits.max_containers_per_user),
        };
        // From the outermost layer to the innermost.
        let layers = [&self.config.policy].into_iter().chain(outer).chain([&profile.policy]);
        let rules = Rules::new(offer(self.config, launch));
        let rules = layers.fold(rules, |rules, layer| rules.narrowed_by(layer));
        Profile {
            name: name.to_owned(),
            pool: self.pool.variant(engine, pool_limits, mode(launch), kept(launch)),
            sessions_max: rules.sessions_max(usize::from(limits.sessions_per_connection)),
            rules,
            max_lifetime: span(profile.limits.max_lifetime, limits.max_lifetime),
            idle_timeout: span(profile.limits.idle_timeout, limits.idle_timeout),
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
