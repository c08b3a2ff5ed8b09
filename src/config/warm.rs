//! Whether containers can wait for somebody: what of `docker.config` and `pool` does not go together.

use super::{Config, Profile, ProfileName};
use crate::engine::docker::{LaunchConfig, Mode};
use crate::pool::config::Config as PoolConfig;

type Unlawful = (Vec<String>, String);

impl Config {
    /// The first thing that is wrong with containers that are to wait: its path in the file, and why.
    pub(super) fn warm_against_reason(&self) -> Option<Unlawful> {
        let everybodys =
            reason(&self.docker.config, &self.pool).map(|(_, reason)| (path(&["pool", "warm"]), reason));
        everybodys.or_else(|| self.profiles.iter().find_map(|(name, profile)| self.of_profile(name, profile)))
    }

    fn of_profile(&self, name: &ProfileName, profile: &Profile) -> Option<Unlawful> {
        let (launch, outer) = (&profile.docker.config, &self.docker.config);
        let pool = self.pool.with(&profile.pool);
        let (culprit, reason) = reason(launch, &pool).or_else(|| {
            let reason = pool.too_many_warm()?;
            Some((if profile.pool.warm.is_some() { "warm" } else { "max" }, reason))
        })?;
        let mut place = path(&["profiles", name.as_str()]);
        // What the profile says itself is where people look; what is outside is right by itself.
        place.extend(match culprit {
            "mode" if profile.pool.warm.is_none() && launch.mode != outer.mode => {
                path(&["docker", "config", "mode"])
            }
            "containerName"
                if profile.pool.warm.is_none() && launch.container_name != outer.container_name =>
            {
                path(&["docker", "config", "containerName"])
            }
            "max" => path(&["pool", "max"]),
            _ => path(&["pool", "warm"]),
        });
        Some((place, reason))
    }

    /// What works and is hardly meant.
    pub(super) fn warm_warning(&self) -> Option<String> {
        let profiles = self.profiles.values().map(|profile| self.pool.with(&profile.pool).warm.get());
        let waiting: u32 = profiles.chain([self.pool.warm.get()]).map(u32::from).sum();
        let limit = self.limits.max_containers;
        (limit != 0 && waiting > limit).then(|| {
            format!("`pool.warm` adds up to {waiting} containers, but `limits.maxContainers` allows {limit}")
        })
    }
}

/// The key that keeps containers from waiting, and why.
fn reason(launch: &LaunchConfig, pool: &PoolConfig) -> Option<(&'static str, String)> {
    if pool.warm.get() == 0 {
        return None;
    }
    let zero = "set `warm: 0`";
    if launch.mode == Mode::Persistent {
        let why = format!(
            "no container can wait for somebody with `docker.config.mode: persistent`: it is one user's; {zero}"
        );
        return Some(("mode", why));
    }
    let name = launch.container_name.get()?;
    let why = format!(
        "no container can wait where `docker.config.containerName` allows a single one, `{name}`; {zero}"
    );
    Some(("containerName", why))
}

fn path(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|&key| key.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn outcome(text: &str) -> Result<Config, String> {
        let parsed = super::super::parse(text.as_bytes(), Path::new("c.yaml"));
        parsed.map(|(config, _)| config).map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_wait_is_told_where_it_stands() {
        let mode = "docker: {config: {mode: persistent}}";
        let name = "docker: {config: {containerName: box}}";
        for (text, place, expected) in [
            ("pool: {warm: 1001}", "1:14", "0 to 1000"),
            ("pool: {startParallel: 1001}", "1:23", "0 to 1000"),
            ("pool: {warm: -1}", "1:14", "whole number"),
            ("pool: {maxAge: 9s}", "1:16", "at least 10s"),
            ("pool: {warm: 3, max: 2}", "1:7", "`warm` (3) must not be over `max` (2)"),
            (&format!("{mode}\npool: {{warm: 1}}"), "2:14", "mode: persistent"),
            (&format!("{name}\npool: {{warm: 1}}"), "2:14", "`box`"),
            (&format!("{mode}\nprofiles:\n  a: {{pool: {{warm: 1}}}}"), "3:20", "mode: persistent"),
            (&format!("{name}\nprofiles:\n  a: {{pool: {{warm: 1}}}}"), "3:20", "`box`"),
            (&format!("pool: {{warm: 1}}\nprofiles:\n  a: {{{mode}}}"), "3:31", "mode: persistent"),
            (&format!("pool: {{warm: 1}}\nprofiles:\n  a: {{{name}}}"), "3:40", "`box`"),
            (
                &format!("pool: {{warm: 1}}\nprofiles:\n  a: {{{mode}, pool: {{warm: 2}}}}"),
                "3:58",
                "mode: persistent",
            ),
            ("pool: {warm: 3}\nprofiles:\n  a: {pool: {max: 2}}", "3:19", "must not be over"),
            ("pool: {max: 3}\nprofiles:\n  a: {pool: {warm: 4}}", "3:20", "must not be over"),
            ("profiles:\n  a: {pool: {startParallel: 1}}", "2:14", "unknown key"),
        ] {
            let error = outcome(text).expect_err(text);
            assert!(error.starts_with(&format!("c.yaml:{place}: ")), "{text} wanted {place}: {error}");
            assert!(error.contains(expected), "{text} wanted {expected}: {error}");
        }
    }

    #[test]
    fn what_can_wait_may() {
        for text in [
            "pool: {warm: 3, max: 3, maxAge: 0, startParallel: 8}",
            "pool: {warm: 1}\ndocker: {config: {mode: session}}",
            "docker: {config: {mode: persistent}}\npool: {max: 2}",
            "pool: {warm: 1}\nprofiles: {a: {docker: {config: {mode: persistent}}, pool: {warm: 0}}}",
            "docker: {config: {containerName: box}}\nprofiles: {a: {docker: {config: {containerName: ''}}, pool: {warm: 1}}}",
        ] {
            outcome(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn more_that_waits_than_there_may_be_is_a_warning() {
        let warned = |text: &str| {
            outcome(text).unwrap().warnings().iter().any(|warning| warning.contains("pool.warm"))
        };

        assert!(warned("pool: {warm: 2}\nlimits: {maxContainers: 3}\nprofiles: {a: {}}"));
        assert!(!warned("pool: {warm: 2}\nlimits: {maxContainers: 4}\nprofiles: {a: {}}"));
        assert!(!warned("pool: {warm: 2}\nprofiles: {a: {}}"));
    }
}
