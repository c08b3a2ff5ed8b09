//! The section `pool` of the configuration, and of profiles.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Section, Span, written_as_text};

/// Most containers that may wait on one shelf.
const WARM_MAX: u16 = 1000;

/// Most containers that may be started at once.
const START_PARALLEL_MAX: u16 = 1000;

/// With a shorter one the engine would do nothing but replace containers.
const AGE_MIN: Span = Span::from_seconds(10);

/// How many containers are started at once for each core, unless configured. More of them make an engine on this machine
/// hardly faster, and each of them slower.
const STARTS_PER_CORE: usize = 2;

/// The same however few cores there are: some of a start is waiting.
const STARTS_MIN: usize = 4;

/// Containers that wait, started, for somebody to log in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Pool")]
pub struct Config {
    /// How many wait. 0: none.
    pub warm: Warm,
    /// Containers at a time, waiting or in use. Past it a login or session gets none and is told so; 0: no limit.
    pub max: u32,
    /// How long one may wait before it is replaced by a new one: at least 10s. 0: for ever.
    pub max_age: MaxAge,
    /// Containers that are created and started at once, over the whole server. 0: two for each core, at least 4.
    pub start_parallel: StartParallel,
}

/// What a profile may change of it; what is not set is as outside of it. Each profile has containers of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct ProfilePool {
    /// How many containers of the profile wait. 0: none.
    pub warm: Option<Warm>,
    /// Containers of the profile at a time, waiting or in use. 0: no limit.
    pub max: Option<u32>,
    /// How long one may wait. 0: for ever.
    pub max_age: Option<MaxAge>,
}

/// 0 to 1000 containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "u16", into = "u16")]
pub struct Warm(#[schemars(range(max = 1000))] u16);

/// 0 to 1000 containers; 0 leaves it to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "u16", into = "u16")]
pub struct StartParallel(#[schemars(range(max = 1000))] u16);

/// A span of at least 10 s, or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("type" = ["string", "integer"]))]
pub struct MaxAge(Span);

impl Default for Config {
    fn default() -> Self {
        Self {
            warm: Warm::default(),
            max: 0,
            max_age: MaxAge(Span::from_seconds(60 * 60)),
            start_parallel: StartParallel::default(),
        }
    }
}

impl Section for Config {
    fn check(&self) -> Result<(), String> {
        self.too_many_warm().map_or(Ok(()), Err)
    }
}

impl Section for ProfilePool {}

impl Config {
    /// The same for a profile.
    #[must_use]
    pub fn with(&self, profile: &ProfilePool) -> Self {
        Self {
            warm: profile.warm.unwrap_or(self.warm),
            max: profile.max.unwrap_or(self.max),
            max_age: profile.max_age.unwrap_or(self.max_age),
            start_parallel: self.start_parallel,
        }
    }

    /// What is wrong where more are to wait than there may be.
    #[must_use]
    pub fn too_many_warm(&self) -> Option<String> {
        let (warm, max) = (self.warm.get(), self.max);
        let is_over = max != 0 && u32::from(warm) > max;
        is_over.then(|| format!("`warm` ({warm}) must not be over `max` ({max})"))
    }
}

impl Warm {
    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl StartParallel {
    /// The number, at least 1, on a machine with so many cores.
    #[must_use]
    pub fn on(self, cores: usize) -> usize {
        match self.0 {
            0 => cores.saturating_mul(STARTS_PER_CORE).max(STARTS_MIN),
            count => usize::from(count),
        }
    }
}

impl MaxAge {
    /// The span; `None` for ever.
    #[must_use]
    pub fn get(self) -> Option<std::time::Duration> {
        self.0.unless_zero()
    }
}

impl TryFrom<u16> for Warm {
    type Error = String;

    fn try_from(count: u16) -> Result<Self, Self::Error> {
        if count <= WARM_MAX {
            Ok(Self(count))
        } else {
            Err(format!("expected 0 to {WARM_MAX} containers, not {count}"))
        }
    }
}

impl From<Warm> for u16 {
    fn from(warm: Warm) -> Self {
        warm.0
    }
}

impl TryFrom<u16> for StartParallel {
    type Error = String;

    fn try_from(count: u16) -> Result<Self, Self::Error> {
        if count <= START_PARALLEL_MAX {
            Ok(Self(count))
        } else {
            Err(format!("expected 0 to {START_PARALLEL_MAX} containers at once, not {count}"))
        }
    }
}

impl From<StartParallel> for u16 {
    fn from(parallel: StartParallel) -> Self {
        parallel.0
    }
}

impl FromStr for MaxAge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span: Span = text.parse()?;
        if span.unless_zero().is_none() || span >= AGE_MIN {
            Ok(Self(span))
        } else {
            Err(format!("expected a span of at least {AGE_MIN}, or 0, not `{text}`"))
        }
    }
}

impl fmt::Display for MaxAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

written_as_text! { MaxAge }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_go_by_the_cores_unless_configured() {
        let parallel = |count: u16| StartParallel::try_from(count).unwrap();

        assert_eq!([1, 2, 8, 64].map(|cores| parallel(0).on(cores)), [4, 4, 16, 128]);
        assert_eq!(parallel(1).on(64), 1);
    }

    #[test]
    fn what_a_profile_does_not_say_is_as_outside() {
        let outside = Config { warm: Warm(2), max: 5, ..Config::default() };
        let profile = ProfilePool { max: Some(0), ..ProfilePool::default() };

        assert_eq!(outside.with(&profile), Config { max: 0, ..outside.clone() });
        assert_eq!(outside.with(&ProfilePool::default()), outside);
    }
}
